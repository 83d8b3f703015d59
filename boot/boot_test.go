package boot

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

const key = "00112233445566778899aabbccddeeff"

type testDesk struct {
	mu     sync.Mutex
	err    error
	caller Caller
	calls  []string
	// stranger is what Admit says.
	stranger error
}

func (d *testDesk) answer(what string, who Caller) (callhome.Orders, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls, d.caller = append(d.calls, what), who
	return callhome.Orders{Verb: callhome.Wait, After: time.Second}, d.err
}

func (d *testDesk) Who(_ context.Context, who Caller, _ callhome.Who) (callhome.Orders, error) {
	return d.answer("who", who)
}

func (d *testDesk) Hello(_ context.Context, who Caller, _ callhome.Hello) (callhome.Orders, error) {
	return d.answer("hello", who)
}
func (d *testDesk) Progress(_ context.Context, who Caller, _ callhome.Progress) (callhome.Orders, error) {
	return d.answer("progress", who)
}
func (d *testDesk) Written(_ context.Context, who Caller, _ callhome.Written) (callhome.Orders, error) {
	return d.answer("written", who)
}
func (d *testDesk) Admit(Caller) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stranger
}

func (d *testDesk) Failed(_ context.Context, who Caller, _ callhome.Failed) (callhome.Orders, error) {
	return d.answer("failed", who)
}
func (d *testDesk) Erased(_ context.Context, who Caller, _ callhome.Erased) (callhome.Orders, error) {
	return d.answer("erased", who)
}
func (d *testDesk) Task(_ context.Context, who Caller, _ callhome.TaskReport) (callhome.Orders, error) {
	return d.answer("task", who)
}

type testLibrary struct {
	content []byte
	parts   bool // serve by WriteRange
	err     error
}

func (l testLibrary) Open(_ context.Context, k string) (Content, error) {
	if l.err != nil {
		return Content{}, l.err
	}
	if k != key {
		return Content{}, fmt.Errorf("key: %w", fs.ErrNotExist)
	}
	c := Content{Body: bytes.NewReader(l.content), Size: int64(len(l.content)), ETag: `"v1"`, ModTime: time.Unix(1e9, 0)}
	if l.parts {
		c.WriteRange = func(w io.Writer, off, n int64) (int64, error) {
			k, err := w.Write(l.content[off : off+n])
			return int64(k), err
		}
	}
	return c, nil
}

type rig struct {
	*Server
	desk   *testDesk
	client *http.Client
	keySum string
	log    *bytes.Buffer
	mu     sync.Mutex
	bytes  int64
	heads  int
}

func newRig(t *testing.T, lib testLibrary, change func(*Config)) *rig {
	t.Helper()
	a, err := NewAuthority("s")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{desk: &testDesk{}, log: &bytes.Buffer{}}
	cfg := Config{Addr: "127.0.0.1:0", Authority: a, Desk: r.desk, Library: lib, Log: slog.New(slog.NewTextHandler(r.log, nil)),
		Served: func(k string, from netip.Addr, n int64) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if k != key || !from.IsLoopback() {
				t.Errorf("served %q to %s", k, from)
			}
			if r.bytes += n; n == 0 {
				r.heads++
			}
		}}
	if change != nil {
		change(&cfg)
	}
	if r.Server, err = Listen(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.PEM())
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(spki)
	r.keySum = hex.EncodeToString(sum[:])
	r.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: k}}}}}
	t.Cleanup(r.client.CloseIdleConnections)
	return r
}

func (r *rig) url(path string) string { return "https://" + r.Addr().String() + path }

func (r *rig) post(t *testing.T, path, token, body string) (int, Refusal, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url(path), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	var f Refusal
	_ = json.Unmarshal(b, &f)
	return resp.StatusCode, f, resp.Header
}

const goodProgress = `{"instance":"00112233445566778899aabbccddeeff","step":"writing","done":1,"total":2}`

func TestCallReachesDesk(t *testing.T) {
	r := newRig(t, testLibrary{}, nil)
	status, _, _ := r.post(t, callhome.PathProgress, "tok", goodProgress)
	if status != 200 || r.desk.caller.Token != "tok" || r.desk.caller.KeyHash != r.keySum || !r.desk.caller.Addr.Addr().IsLoopback() {
		t.Errorf("status %d, caller %+v, want key %s", status, r.desk.caller, r.keySum)
	}
}

func TestTaskReachesDesk(t *testing.T) {
	r := newRig(t, testLibrary{}, nil)
	for _, body := range []string{
		`{"instance":"00112233445566778899aabbccddeeff","task":"prepare-1","state":"running","step":3,"name":"fetch kubelet","done":5,"total":9}`,
		`{"instance":"00112233445566778899aabbccddeeff","task":"prepare-1","state":"failed","cause":{"code":"KUBE-006","kind":"conflict","chain":["x"]},"output":"no\n"}`,
	} {
		if status, f, _ := r.post(t, callhome.PathTask, "tok", body); status != 200 {
			t.Errorf("status %d %+v", status, f)
		}
	}
	if len(r.desk.calls) != 2 || r.desk.calls[0] != "task" {
		t.Errorf("the desk was asked %q", r.desk.calls)
	}
}

func TestErasedReachesDesk(t *testing.T) {
	r := newRig(t, testLibrary{}, nil)
	body := `{"instance":"00112233445566778899aabbccddeeff","disk":{"wwn":"","serial":"S1","sizeBytes":9},"method":"discard","bytes":9,"seconds":1.5}`
	if status, f, _ := r.post(t, callhome.PathErased, "tok", body); status != 200 || len(r.desk.calls) != 1 || r.desk.calls[0] != "erased" {
		t.Errorf("status %d %+v, the desk was asked %q", status, f, r.desk.calls)
	}
}

func TestFaultsBecomeStatus(t *testing.T) {
	for kind, want := range map[fleet.Kind]int{fleet.Denied: 403, fleet.Invalid: 400, fleet.Transient: 503, fleet.Conflict: 503} {
		r := newRig(t, testLibrary{}, nil)
		r.desk.err = fmt.Errorf("admit: %w", fleet.NewFault(fleet.CodeTokenRefused, kind, errors.New("inner words"), "no entry"))
		status, f, h := r.post(t, callhome.PathProgress, "very-secret", goodProgress)
		if status != want || f.Code != fleet.CodeTokenRefused || !strings.HasPrefix(f.Text, "no entry") {
			t.Errorf("%s: status %d %+v, want %d", kind, status, f, want)
		}
		if (h.Get("Retry-After") != "") != (want == 503) {
			t.Errorf("%s: Retry-After %q", kind, h.Get("Retry-After"))
		}
		if strings.Contains(r.log.String(), "very-secret") {
			t.Errorf("the log shows the token: %s", r.log)
		}
	}
}

func TestMalformedCallsNeverReachDesk(t *testing.T) {
	r := newRig(t, testLibrary{}, nil)
	tests := map[string]struct {
		path, token, body string
		status            int
	}{
		"no token":         {callhome.PathProgress, "", goodProgress, 403},
		"not JSON":         {callhome.PathProgress, "t", `{`, 400},
		"unknown field":    {callhome.PathProgress, "t", `{"instance":"00112233445566778899aabbccddeeff","sudo":1}`, 400},
		"two messages":     {callhome.PathProgress, "t", goodProgress + goodProgress, 400},
		"no instance":      {callhome.PathProgress, "t", `{}`, 400},
		"negative":         {callhome.PathProgress, "t", `{"instance":"00112233445566778899aabbccddeeff","done":-1}`, 400},
		"too large":        {callhome.PathProgress, "t", `{"step":"` + strings.Repeat("x", callhome.MaxBody) + `"}`, 400},
		"other protocol":   {callhome.PathHello, "t", `{"protocol":3,"new":true}`, 400},
		"unknown stage":    {callhome.PathHello, "t", `{"protocol":2,"stage":"x","instance":"00112233445566778899aabbccddeeff"}`, 400},
		"digest too short": {callhome.PathWritten, "t", `{"sha256":"ab","instance":"00112233445566778899aabbccddeeff"}`, 400},
		"long cause":       {callhome.PathFailed, "t", `{"instance":"00112233445566778899aabbccddeeff","cause":{"chain":["` + strings.Repeat("x", 5000) + `"]}}`, 400},
		"task without ID":  {callhome.PathTask, "t", `{"instance":"00112233445566778899aabbccddeeff","state":"done"}`, 400},
		"task ID":          {callhome.PathTask, "t", `{"instance":"00112233445566778899aabbccddeeff","task":"../x","state":"done"}`, 400},
		"task state":       {callhome.PathTask, "t", `{"instance":"00112233445566778899aabbccddeeff","task":"a-1","state":"lost"}`, 400},
		"task step":        {callhome.PathTask, "t", `{"instance":"00112233445566778899aabbccddeeff","task":"a-1","state":"running","step":-1}`, 400},
		"failed, no cause": {callhome.PathTask, "t", `{"instance":"00112233445566778899aabbccddeeff","task":"a-1","state":"failed"}`, 400},
		"done with cause":  {callhome.PathTask, "t", `{"instance":"00112233445566778899aabbccddeeff","task":"a-1","state":"done","cause":{}}`, 400},
		"task output":      {callhome.PathTask, "t", `{"instance":"00112233445566778899aabbccddeeff","task":"a-1","state":"running","output":"` + strings.Repeat("x", 40000) + `"}`, 400},
		"kernel":           {callhome.PathHello, "t", `{"protocol":2,"stage":"installed","instance":"00112233445566778899aabbccddeeff","facts":{"runtime":{"kernel":"` + strings.Repeat("x", 300) + `"}}}`, 400},
		"erased, no how":   {callhome.PathErased, "t", `{"instance":"00112233445566778899aabbccddeeff","bytes":1}`, 400},
		"erased, negative": {callhome.PathErased, "t", `{"instance":"00112233445566778899aabbccddeeff","method":"zero","bytes":-1}`, 400},
		"unknown path":     {"/v1/other", "t", `{}`, 404},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			status, f, _ := r.post(t, test.path, test.token, test.body)
			if status != test.status {
				t.Errorf("status %d %+v, want %d", status, f, test.status)
			}
			if name == "other protocol" && !strings.Contains(f.Text, "protocol 3") {
				t.Errorf("text %q does not name the protocol", f.Text)
			}
		})
	}
	if len(r.desk.calls) > 0 {
		t.Errorf("the desk was asked: %q", r.desk.calls)
	}
}

// TestStrangersAreNotRead sends a message that could not be understood: the
// refusal shows that nobody tried.
func TestStrangersAreNotRead(t *testing.T) {
	r := newRig(t, testLibrary{}, nil)
	r.desk.stranger = fleet.NewFault(fleet.CodeTokenRefused, fleet.Denied, nil, "not in force")
	if status, refusal, _ := r.post(t, callhome.PathHello, "t", strings.Repeat("{", 1<<20)); status != http.StatusForbidden || refusal.Code != fleet.CodeTokenRefused {
		t.Errorf("status %d, %+v, want 403 and %s", status, refusal, fleet.CodeTokenRefused)
	}
}

func TestNoCertificateNoEntry(t *testing.T) {
	r := newRig(t, testLibrary{}, nil)
	r.client.Transport.(*http.Transport).TLSClientConfig.Certificates = nil
	if status, f, _ := r.post(t, callhome.PathProgress, "t", goodProgress); status != 403 || len(r.desk.calls) > 0 {
		t.Errorf("status %d %+v, desk asked %d times", status, f, len(r.desk.calls))
	}
}

func (r *rig) get(t *testing.T, method, url, span string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if span != "" {
		req.Header.Set("Range", span)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, b
}

func TestMedia(t *testing.T) {
	content := make([]byte, 5<<20+17)
	_, _ = rand.Read(content)
	for _, parts := range []bool{false, true} {
		r := newRig(t, testLibrary{content: content, parts: parts}, func(c *Config) { c.PlainAddr = "127.0.0.1:0" })
		plain := "http://" + r.PlainAddr().String()
		for _, base := range []string{r.url(""), plain} {
			before := r.bytes
			url := base + MediaPath(key, "boot.iso")
			if resp, got := r.get(t, "GET", url, ""); resp.StatusCode != 200 || !bytes.Equal(got, content) {
				t.Fatalf("%s: status %d, %d bytes", base, resp.StatusCode, len(got))
			}
			resp, got := r.get(t, "GET", url, "bytes=4194304-4194500")
			if resp.StatusCode != 206 || !bytes.Equal(got, content[4194304:4194501]) || resp.Header.Get("ETag") != `"v1"` {
				t.Errorf("range: status %d, %d bytes, %v", resp.StatusCode, len(got), resp.Header)
			}
			if resp, got := r.get(t, "HEAD", url, ""); resp.ContentLength != int64(len(content)) || len(got) != 0 {
				t.Errorf("HEAD: length %d", resp.ContentLength)
			}
			if resp, _ := r.get(t, "GET", url, "bytes=99999999-"); resp.StatusCode != 416 {
				t.Errorf("range behind the end: status %d", resp.StatusCode)
			}
			if resp, _ := r.get(t, "POST", url, ""); resp.StatusCode != 405 {
				t.Errorf("POST: status %d", resp.StatusCode)
			}
			if n := r.bytes - before; n < int64(len(content))+197 || r.heads == 0 {
				t.Errorf("Served heard of %d bytes and %d HEAD requests", n, r.heads)
			}
		}
	}
}

func TestUnknownMedia(t *testing.T) {
	r := newRig(t, testLibrary{content: []byte("x")}, func(c *Config) { c.PlainAddr = "127.0.0.1:0" })
	_, want := r.get(t, "GET", r.url(MediaPath(strings.Repeat("f", 32), "boot.iso")), "")
	for _, path := range []string{"/m/", "/m/short/boot.iso", "/m/" + key[:31] + "/b", "/m/" + key + "/a/b", "/m/" + strings.ToUpper(key) + "/b", "/m/" + strings.Repeat("a", 200) + "/b"} {
		if resp, got := r.get(t, "GET", r.url(path), ""); resp.StatusCode != 404 || !bytes.Equal(got, want) {
			t.Errorf("%s: status %d %q", path, resp.StatusCode, got)
		}
	}
	if resp, _ := r.get(t, "POST", "http://"+r.PlainAddr().String()+callhome.PathHello, ""); resp.StatusCode != 404 {
		t.Errorf("the plain listener answers calls: status %d", resp.StatusCode)
	}
	r = newRig(t, testLibrary{err: errors.New("disk on fire")}, nil)
	if resp, got := r.get(t, "GET", r.url(MediaPath(key, "b")), ""); resp.StatusCode != 503 || strings.Contains(string(got), "fire") {
		t.Errorf("broken library: status %d %q", resp.StatusCode, got)
	}
	if strings.Contains(r.log.String(), key) {
		t.Errorf("the log shows the key of a medium: %s", r.log)
	}
}

func TestAnEndedAddressIsGone(t *testing.T) {
	r := newRig(t, testLibrary{err: fmt.Errorf("key: %w", ErrEnded)}, nil)
	for _, method := range []string{"GET", "HEAD"} {
		if resp, _ := r.get(t, method, r.url(MediaPath(key, "boot.iso")), ""); resp.StatusCode != http.StatusGone || resp.Header.Get("Retry-After") != "" {
			t.Errorf("%s: status %d, header %v", method, resp.StatusCode, resp.Header)
		}
	}
	if log := r.log.String(); !strings.Contains(log, "after its end") || strings.Contains(log, key) {
		t.Errorf("log: %s", log)
	}
}

func TestManyReaders(t *testing.T) {
	content := make([]byte, 1<<20)
	r := newRig(t, testLibrary{content: content}, func(c *Config) { c.MaxConns = 50 })
	r.client.Transport.(*http.Transport).DisableKeepAlives = true
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			resp, err := r.client.Get(r.url(MediaPath(key, "b")))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if n, err := io.Copy(io.Discard, resp.Body); n != int64(len(content)) || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
	wg.Wait()
}

func TestStalledReaderIsDropped(t *testing.T) {
	content := make([]byte, 64<<20) // more than all buffers between us hold
	r := newRig(t, testLibrary{content: content}, func(c *Config) { c.Idle = 200 * time.Millisecond })
	resp, err := r.client.Get(r.url(MediaPath(key, "b")))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	time.Sleep(time.Second)
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("a reader that stood still got all %d bytes", n)
	}
}

func TestCloseEndsOpenStreams(t *testing.T) {
	r := newRig(t, testLibrary{content: make([]byte, 64<<20)}, nil)
	resp, err := r.client.Get(r.url(MediaPath(key, "b")))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := r.Close(); err != nil { // must return although nobody reads
		t.Error(err)
	}
}

func TestAuthority(t *testing.T) {
	a, err := NewAuthority("s")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := a.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseAuthority(stored)
	if err != nil || !a.Equal(b) {
		t.Fatalf("read back: %v", err)
	}
	if bytes.Contains(a.PEM(), []byte("PRIVATE")) {
		t.Error("PEM holds the private key")
	}
	other, err := NewAuthority("s")
	if err != nil {
		t.Fatal(err)
	}
	otherStored, err := other.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	mixed := append(a.PEM(), otherStored[len(other.PEM()):]...)
	for name, bad := range map[string][]byte{"empty": nil, "no key": a.PEM(), "cut": stored[:len(stored)-40], "mixed": mixed} {
		if _, err := ParseAuthority(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cert, err := b.issue([]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fe80::1%eth0")}, []string{"seed"})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.PEM())
	for _, now := range []time.Time{time.Unix(1, 0), time.Now(), time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)} {
		for _, name := range []string{"10.0.0.1", "fe80::1", "seed"} {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now, DNSName: name}); err != nil {
				t.Errorf("%s at %s: %v", name, now, err)
			}
		}
	}
}

func TestCertificateNamesEveryAddress(t *testing.T) {
	r := newRig(t, testLibrary{content: []byte("x")}, func(c *Config) { c.Addr = "0.0.0.0:0"; c.Names = []string{"seed.example", "192.0.2.7"} })
	_, port, _ := strings.Cut(r.Addr().String(), "]:")
	if port == "" {
		_, port, _ = strings.Cut(r.Addr().String(), ":")
	}
	// 127.0.0.9 is no interface's own address, but arrives here all the same.
	for _, host := range []string{"127.0.0.1", "127.0.0.9"} {
		if resp, _ := r.get(t, "GET", "https://"+host+":"+port+MediaPath(key, "b"), ""); resp.StatusCode != 200 {
			t.Errorf("%s: status %d", host, resp.StatusCode)
		}
	}
	for _, name := range []string{"seed.example", "192.0.2.7"} {
		cfg := r.client.Transport.(*http.Transport).TLSClientConfig.Clone()
		cfg.ServerName = name
		c, err := tls.Dial("tcp", "127.0.0.1:"+port, cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = c.Close()
	}
}
