package netboot

import (
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func get(t *testing.T, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestArtefacts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, noise(3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := OfFile(path, "abc")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	clock := func() time.Time { return now }
	shelf := NewShelf()
	put := func(it Item) string {
		t.Helper()
		key := NewKey()
		if it.Until.IsZero() {
			it.Until = now.Add(time.Hour)
		}
		if err := shelf.Put(key, it, now); err != nil {
			t.Fatal(err)
		}
		return key
	}
	b := &guestBook{}
	srv := httptest.NewServer(&Artefacts{Library: shelf, Report: b.report, Now: clock})
	defer srv.Close()
	script := put(Item{Name: "boot.ipxe", Guest: "n1", Open: OfBytes([]byte("#!ipxe\nboot\n"))})
	image := put(Item{Name: "live.iso", Open: file})
	elsewhere := put(Item{Name: "vmlinuz", Open: file, Peer: netip.MustParseAddr("192.0.2.11")})
	here := put(Item{Name: "vmlinuz", Open: file, Peer: netip.MustParseAddr("127.0.0.1")})

	resp, body := get(t, srv.URL+Path(script, "boot.ipxe"))
	if resp.StatusCode != 200 || body != "#!ipxe\nboot\n" || resp.Header.Get("ETag") == "" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("script: %v %q", resp.Status, body)
	}
	resp, body = get(t, srv.URL+Path(image, "live.iso"), "Range", "bytes=1000-1999", "If-Range", `"abc"`)
	if resp.StatusCode != 206 || body != string(noise(3 << 20)[1000:2000]) || resp.Header.Get("Content-Type") != "application/vnd.efi-iso" || resp.Header.Get("ETag") != `"abc"` {
		t.Errorf("range: %v, %d bytes, %v", resp.Status, len(body), resp.Header)
	}
	if resp, body := get(t, srv.URL+Path(here, "vmlinuz")); resp.StatusCode != 200 || body != string(noise(3<<20)) {
		t.Errorf("whole file: %v, %d bytes", resp.Status, len(body))
	}
	for name, url := range map[string]string{
		"another name":    Path(script, "vmlinuz"),
		"another key":     Path(NewKey(), "boot.ipxe"),
		"another peer":    Path(elsewhere, "vmlinuz"),
		"half a key":      "/b/" + script[:31] + "/boot.ipxe",
		"upper case":      Path(strings.ToUpper(script), "boot.ipxe"),
		"no name":         "/b/" + script,
		"further path":    Path(script, "boot.ipxe") + "/x",
		"path upwards":    Path(script, "..%2f..%2fetc%2fpasswd"),
		"something else":  "/etc/passwd",
		"root":            "/",
		"the same, twice": "/b" + Path(script, "boot.ipxe"),
	} {
		if resp, body := get(t, srv.URL+url); resp.StatusCode != 404 {
			t.Errorf("%s: %v %q", name, resp.Status, body)
		}
	}
	resp, err = http.Post(srv.URL+Path(script, "boot.ipxe"), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 405 {
		t.Errorf("POST: %v", resp.Status)
	}
	if s := b.saw(SightingFetched); s == nil || s.Guest != "n1" || s.File != "boot.ipxe" || s.Bytes != 12 {
		t.Errorf("sighting: %+v", s)
	}
	if err := os.WriteFile(path, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if resp, _ := get(t, srv.URL+Path(image, "live.iso")); resp.StatusCode != 503 {
		t.Errorf("a replaced file: %v", resp.Status)
	}
	now = now.Add(time.Hour)
	if resp, _ := get(t, srv.URL+Path(script, "boot.ipxe")); resp.StatusCode != 404 {
		t.Errorf("an expired key: %v", resp.Status)
	}
}

func TestShelf(t *testing.T) {
	s, now := NewShelf(), time.Now()
	good := Item{Name: "a", Open: OfBytes(nil), Until: now.Add(time.Second)}
	key := NewKey()
	for name, tt := range map[string]struct {
		key    string
		change func(*Item)
	}{
		"short key": {key[1:], func(*Item) {}},
		"path":      {key, func(it *Item) { it.Name = "a/b" }},
		"long name": {key, func(it *Item) { it.Name = strings.Repeat("a", 100) }},
		"nothing":   {key, func(it *Item) { it.Open = nil }},
		"late":      {key, func(it *Item) { it.Until = now }},
	} {
		it := good
		tt.change(&it)
		if err := s.Put(tt.key, it, now); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if err := s.Put(key, good, now); err != nil {
		t.Fatal(err)
	}
	if _, err := s.File(TFTPName(key, "a"), netip.Addr{}, now); err != nil {
		t.Error(err)
	}
	if len(TFTPName(strings.Repeat("a", maxKey), strings.Repeat("b", maxItemName))) >= maxName {
		t.Error("the longest name does not fit DHCP's field")
	}
	s.Drop(key)
	if _, err := s.File(TFTPName(key, "a"), netip.Addr{}, now); err != fs.ErrNotExist {
		t.Errorf("dropped: %v", err)
	}
}

func TestLoaders(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadLoaders(dir); err == nil || !strings.Contains(err.Error(), "Debian package ipxe") {
		t.Errorf("an empty folder: %v", err)
	}
	for name, content := range map[string]string{LoaderBIOS: "bios", "other": "x", authorityFile: "A\nCERTIFICATE\nB\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := ReadLoaders(dir)
	if err != nil || len(l.Names()) != 1 || !l.Trust([]byte("CERTIFICATE\n")) || l.Trust([]byte("ANOTHER")) || l.Trust(nil) {
		t.Errorf("loaders %v, %v", l.Names(), err)
	}
	if _, err := l.File("other", netip.Addr{}, time.Now()); err != fs.ErrNotExist {
		t.Errorf("a file that is no loader: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, LoaderUEFI), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLoaders(dir); err == nil {
		t.Error("a folder in place of a loader was taken")
	}
}
