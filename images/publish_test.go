package images

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// publisher is a release server: files by URL path, with what a CDN does about
// ranges, and faults that tests ask for.
type publisher struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	etag  map[string]string
	// cut ends answers for a path after that many bytes, once.
	cut  map[string]int
	asks []string // "PATH RANGE IF-RANGE"
}

func newPublisher(t *testing.T) *publisher {
	p := &publisher{files: map[string][]byte{}, etag: map[string]string{}, cut: map[string]int{}}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	b, ok := p.files[r.URL.Path]
	tag, cut := p.etag[r.URL.Path], p.cut[r.URL.Path]
	delete(p.cut, r.URL.Path)
	p.asks = append(p.asks, strings.TrimSpace(r.URL.Path+" "+r.Header.Get("Range")+" "+r.Header.Get("If-Range")))
	p.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	if tag != "" {
		w.Header().Set("ETag", tag)
	}
	if cut > 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		_, _ = w.Write(b[:cut])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

func (p *publisher) asked(path string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for _, a := range p.asks {
		if strings.HasPrefix(a, path+" ") || a == path {
			out = append(out, strings.TrimSpace(strings.TrimPrefix(a, path)))
		}
	}
	return out
}

func (p *publisher) downloader(t *testing.T) Downloader {
	var m Mirrors
	for _, from := range []string{
		"https://builds.coreos.fedoraproject.org", "https://raw.githubusercontent.com/openshift/installer",
		"https://rhcos.mirror.openshift.com", "https://stable.release.flatcar-linux.net",
	} {
		rule, err := ParseMirror(from + "=" + p.URL)
		if err != nil {
			t.Fatal(err)
		}
		m = append(m, rule)
	}
	return Downloader{Mirrors: m, Tries: 2, Pause: time.Millisecond}
}

// signer makes a key and its keyring.
type signer struct {
	entity *openpgp.Entity
	ring   *Keyring
}

func newSigner(t *testing.T) signer {
	t.Helper()
	e, err := openpgp.NewEntity("Publisher", "test", "p@example.org", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var public bytes.Buffer
	w, err := armor.Encode(&public, openpgp.PublicKeyType, nil)
	if err == nil {
		err = e.Serialize(w)
	}
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys.asc")
	put(t, path, public.Bytes())
	ring, err := ReadKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	return signer{e, ring}
}

func (s signer) sign(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := openpgp.DetachSign(&out, s.entity, bytes.NewReader(b), nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// big contents take more than one read.
func big(seed byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = seed + byte(i*i>>8)
	}
	return b
}

// coreOS publishes a release in the form of Fedora CoreOS (key) or of RHCOS
// (nil: no signatures), and gives the metadata.
func (p *publisher) coreOS(t *testing.T, stream, version string, key *signer) []byte {
	t.Helper()
	host, dir := "https://builds.coreos.fedoraproject.org", "/prod/streams/"+stream+"/builds/"+version+"/x86_64/"
	if key == nil {
		host, dir = "https://rhcos.mirror.openshift.com", "/art/storage/prod/streams/"+stream+"/builds/"+version+"/x86_64/"
	}
	file := func(name string, b []byte, unpacked string) map[string]any {
		p.files[dir+name], p.etag[dir+name] = b, `"`+sum(b)[:16]+`"`
		e := map[string]any{"location": host + dir + name, "sha256": sum(b)}
		if unpacked != "" {
			e["uncompressed-sha256"] = unpacked
		}
		if key != nil {
			p.files[dir+name+".sig"] = key.sign(t, b)
			e["signature"] = host + dir + name + ".sig"
		}
		return e
	}
	at := func(role, name string, b []byte, unpacked string) map[string]any {
		return map[string]any{role: file(name, b, unpacked)}
	}
	pxe := at("kernel", "live-kernel-x86_64", big(3, 4000), "")
	pxe["initramfs"] = file("live-initramfs.x86_64.img", big(4, 5000), "")
	pxe["rootfs"] = file("live-rootfs.x86_64.img", big(5, 6000), "")
	meta, err := json.Marshal(map[string]any{
		"stream": stream, "metadata": map[string]any{"last-modified": "2026-01-01T00:00:00Z", "generator": "test"},
		"architectures": map[string]any{
			"aarch64": map[string]any{"artifacts": map[string]any{}},
			"x86_64": map[string]any{
				"artifacts": map[string]any{
					"aws":   map[string]any{"release": version, "formats": map[string]any{}},
					"metal": map[string]any{"release": version, "formats": map[string]any{"iso": at("disk", "live-iso.x86_64.iso", big(1, 3<<20), ""), "raw.gz": at("disk", "metal.x86_64.raw.gz", big(2, 100_000), sum([]byte("unpacked"))), "pxe": pxe, "4k.raw.gz": at("disk", "metal4k.x86_64.raw.gz", big(9, 10), "")}},
				},
				"images": map[string]any{"aws": map[string]any{"regions": map[string]any{"eu-north-1": map[string]any{"release": version, "image": "ami-1"}}}},
			},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return meta
}

const fcosDir = "/prod/streams/stable/builds/44.20260101.3.0/x86_64/"

func (p *publisher) fcos(t *testing.T, key signer) {
	p.files["/streams/stable.json"] = p.coreOS(t, "stable", "44.20260101.3.0", &key)
}

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := OpenStore(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// contents of the store by number: entries, blobs.
func (s *Store) count(t *testing.T) (entries, blobs int) {
	t.Helper()
	all, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadDir(filepath.Join(s.dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	return len(all), len(b)
}

func describe(e Entry) string {
	var b strings.Builder
	for _, f := range e.Files {
		fmt.Fprintf(&b, "%s %s %s; ", f.Role, f.Name, f.Proof)
	}
	return b.String()
}
