package redfish

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"metalrise.dev/lab/machine"
)

const (
	testUser = "admin"
	testPass = "not-a-real-secret"
	serial   = "LAB0042"
	reset    = "/redfish/v1/Systems/" + serial + "/Actions/ComputerSystem.Reset"
	system   = "/redfish/v1/Systems/" + serial
	slotPath = "/redfish/v1/Managers/BMC/VirtualMedia/CD1"
)

func testSpec() machine.Spec {
	return machine.Spec{
		Name: "n1", UUID: "8d5a4f0e-2c1b-4f6a-9e3d-0a1b2c3d4e5f", Serial: serial, Vendor: "Contoso", Model: "R1",
		Firmware: "uefi", CPUs: 4, MemoryMiB: 8192, Dir: "unused",
		Disks: []machine.Disk{
			{Name: "disk0", Serial: "DSK0", WWN: "5000c500a0b1c2d3", Model: "LABDISK", SizeBytes: 64 << 30},
			{Name: "disk1", Serial: "DSK1", WWN: "5000c500a0b1c2d4", Model: "LABDISK", SizeBytes: 32 << 30, Rotating: true},
		},
		NICs: []machine.NIC{{MAC: "52:54:00:00:00:01", Bridge: "br0"}, {MAC: "52:54:00:00:00:02"}},
	}
}

// board is scripted hardware: each boot takes the next step, the last one repeats.
type board struct {
	mu       sync.Mutex
	steps    []step
	boots    []machine.BootSource
	running  int
	asked    chan struct{} // closed by Shutdown
	shutErr  error
	cleaned  int
	overlaps int
}

// step plays one boot: stop at once with a reason, or run until cut or shut down.
type step struct {
	stop machine.Stop
	err  error
	do   func(machine.BootSource)
	runs bool
	deaf bool         // does not hear Shutdown
	then machine.Stop // what a Shutdown leads to; "" is PoweredOff
}

func (h *board) Boot(ctx context.Context, from machine.BootSource, _ io.Writer) (machine.Stop, error) {
	h.mu.Lock()
	s := step{runs: true}
	if n := len(h.steps); n > 0 {
		s = h.steps[0]
		if n > 1 {
			h.steps = h.steps[1:]
		}
	}
	h.boots = append(h.boots, from)
	h.running++
	if h.running > 1 {
		h.overlaps++
	}
	asked := make(chan struct{})
	h.asked = asked
	h.mu.Unlock()
	defer func() { h.mu.Lock(); h.running--; h.mu.Unlock() }()
	if s.do != nil {
		s.do(from)
	}
	if !s.runs {
		return s.stop, s.err
	}
	if s.deaf {
		asked = nil
	}
	select {
	case <-ctx.Done():
		return machine.Killed, nil
	case <-asked:
		return cmp.Or(s.then, machine.PoweredOff), nil
	}
}

func (h *board) Shutdown(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.shutErr == nil {
		close(h.asked)
	}
	return h.shutErr
}

func (h *board) Clean(context.Context) error { h.cleaned++; return nil }

func (h *board) seen() []machine.BootSource {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]machine.BootSource(nil), h.boots...)
}

func (h *board) kinds() string {
	out := ""
	for _, b := range h.seen() {
		out += " " + string(b.Kind)
	}
	return out
}

// rig is a BMC asked through its handler, without a network.
type rig struct {
	t     *testing.T
	bmc   *BMC
	board *board
}

func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	h := &board{}
	cfg := Config{Username: testUser, Password: testPass, Spec: testSpec(), Hardware: h, Media: Lazy}
	if change != nil {
		change(&cfg)
	}
	b, err := newBMC(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if h.overlaps > 0 {
			t.Errorf("hardware was booted %d times while it ran", h.overlaps)
		}
	})
	return &rig{t: t, bmc: b, board: h}
}

type answer struct {
	status int
	header http.Header
	body   map[string]any
	raw    string
	lost   bool // the connection was closed without an answer
}

// id is the message id of an error answer without its registry.
func (a answer) id() string {
	e, _ := a.body["error"].(map[string]any)
	code, _ := e["code"].(string)
	if len(code) <= len(registry) {
		return code
	}
	return code[len(registry):]
}

func (a answer) path(keys ...string) any {
	var at any = a.body
	for _, k := range keys {
		m, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = m[k]
	}
	return at
}

// raw sends a request as it is; ask adds the login.
func (r *rig) raw(req *http.Request) (a answer) {
	r.t.Helper()
	w := httptest.NewRecorder()
	func() {
		defer func() {
			if e := recover(); e != nil {
				if e != http.ErrAbortHandler {
					panic(e)
				}
				a.lost = true
			}
		}()
		r.bmc.ServeHTTP(w, req)
	}()
	a.status, a.header, a.raw = w.Code, w.Header(), w.Body.String()
	if w.Body.Len() > 0 && !a.lost {
		if err := json.Unmarshal(w.Body.Bytes(), &a.body); err != nil {
			r.t.Errorf("%s %s: body is not JSON: %v: %s", req.Method, req.URL, err, w.Body)
		}
	}
	return a
}

func request(method, path string, body any) *http.Request {
	var in io.Reader
	if body != nil {
		text, _ := json.Marshal(body)
		in = bytes.NewReader(text)
	}
	req := httptest.NewRequest(method, path, in)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

func (r *rig) ask(method, path string, body any) answer {
	r.t.Helper()
	req := request(method, path, body)
	req.SetBasicAuth(testUser, testPass)
	return r.raw(req)
}

func (r *rig) want(status int, method, path string, body any) answer {
	r.t.Helper()
	a := r.ask(method, path, body)
	if a.status != status {
		r.t.Errorf("%s %s %v: status %d, want %d: %s", method, path, body, a.status, status, a.raw)
	}
	return a
}

func (r *rig) reset(t ResetType) answer {
	r.t.Helper()
	return r.want(http.StatusNoContent, "POST", reset, object{"ResetType": t})
}

func (r *rig) override(e Enabled, target Target) {
	r.t.Helper()
	r.want(http.StatusOK, "PATCH", system, object{"Boot": object{"BootSourceOverrideEnabled": e, "BootSourceOverrideTarget": target}})
}

func (r *rig) insertISO(url string) {
	r.t.Helper()
	r.want(http.StatusNoContent, "POST", slotPath+"/Actions/VirtualMedia.InsertMedia", object{"Image": url})
}

func (r *rig) power() PowerState { return r.bmc.Status().Power }

// until waits in real time for something that other goroutines bring about.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("never came: %s", what)
}

func insecure() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
}

func jsonOf(t *testing.T, text []byte) (out map[string]any) {
	t.Helper()
	if len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Errorf("body is not JSON: %v: %s", err, text)
	}
	return out
}
