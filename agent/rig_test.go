package agent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"metalrise.dev/agent"
	"metalrise.dev/agent/agenttest"
	"metalrise.dev/boot"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

const (
	imageKey    = "0123456789abcdef0123456789abcdef"
	askingToken = "asking-token"
	mib         = 1 << 20
)

// desk answers as provision would for one server, and remembers.
type desk struct {
	mu       sync.Mutex
	write    callhome.Write
	key      string // the token is bound to
	hellos   []callhome.Hello
	asked    []callhome.Who
	ticket   *callhome.Ticket // for a machine that asks who it is
	progress []callhome.Progress
	written  []callhome.Written
	failed   []callhome.Failed
	erased   []callhome.Erased
	erase    *callhome.EraseOrder // ordered instead of the write
	now      time.Time
	refuse   error
	// hold, when set, is asked at each progress.
	hold     func(callhome.Progress) bool
	held     bool
	onFailed func()
	onErased func()
}

func (d *desk) admit(who boot.Caller) error {
	if d.refuse != nil {
		return d.refuse
	}
	if who.Token != "secret-token" || (d.key != "" && d.key != who.KeyHash) {
		return fleet.NewFault(fleet.CodeTokenRefused, fleet.Denied, nil, "token refused")
	}
	d.key = who.KeyHash
	return nil
}

func (d *desk) orders(v callhome.Verb) callhome.Orders {
	o := callhome.Orders{Verb: v, After: 200 * time.Millisecond, Now: d.now}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if v == callhome.Go {
		o.Write = &d.write
	}
	return o
}

// Who knows the machine at the third call.
func (d *desk) Who(_ context.Context, who boot.Caller, m callhome.Who) (callhome.Orders, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if who.Token != askingToken {
		return callhome.Orders{}, fleet.NewFault(fleet.CodeTokenRefused, fleet.Denied, nil, "not the token of an asking system")
	}
	d.asked = append(d.asked, m)
	if d.ticket == nil || len(d.asked) < 3 {
		o := d.orders(callhome.Hold)
		o.Why = "the plan does not name this machine"
		return o, nil
	}
	o := d.orders(callhome.Go)
	o.Ticket = d.ticket
	return o, nil
}

func (d *desk) Hello(_ context.Context, who boot.Caller, m callhome.Hello) (callhome.Orders, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.admit(who); err != nil {
		return callhome.Orders{}, err
	}
	d.hellos = append(d.hellos, m)
	switch {
	case m.Stage == callhome.Installed:
		return d.orders(callhome.Done), nil
	case len(d.hellos) == 1:
		return d.orders(callhome.Wait), nil
	case d.held:
		return d.orders(callhome.Hold), nil
	case len(d.failed) > 0:
		return d.orders(callhome.Hold), nil
	case d.erase != nil:
		o := d.orders(callhome.Erase)
		o.Erase = d.erase
		return o, nil
	}
	return d.orders(callhome.Go), nil
}

func (d *desk) Progress(_ context.Context, who boot.Caller, m callhome.Progress) (callhome.Orders, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.admit(who); err != nil {
		return callhome.Orders{}, err
	}
	d.progress = append(d.progress, m)
	if d.hold != nil && d.hold(m) {
		d.held = true
		return d.orders(callhome.Hold), nil
	}
	return d.orders(callhome.Go), nil
}

func (d *desk) Written(_ context.Context, who boot.Caller, m callhome.Written) (callhome.Orders, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.admit(who); err != nil {
		return callhome.Orders{}, err
	}
	d.written = append(d.written, m)
	if len(d.written) == 1 {
		return d.orders(callhome.Wait), nil
	}
	return d.orders(callhome.Restart), nil
}

func (d *desk) Admit(boot.Caller) error { return nil }

func (d *desk) Failed(_ context.Context, who boot.Caller, m callhome.Failed) (callhome.Orders, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.admit(who); err != nil {
		return callhome.Orders{}, err
	}
	d.failed = append(d.failed, m)
	if d.onFailed != nil {
		d.onFailed()
	}
	return d.orders(callhome.Hold), nil
}

func (d *desk) Erased(_ context.Context, who boot.Caller, m callhome.Erased) (callhome.Orders, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.admit(who); err != nil {
		return callhome.Orders{}, err
	}
	d.erased = append(d.erased, m)
	if d.onErased != nil && len(d.erased) == 2 { // told once, and once more after it was told to hold
		d.onErased()
	}
	return d.orders(callhome.Hold), nil
}

func (d *desk) Task(_ context.Context, who boot.Caller, m callhome.TaskReport) (callhome.Orders, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.admit(who); err != nil {
		return callhome.Orders{}, err
	}
	return d.orders(callhome.Done), nil
}

// shelf is a library of byte strings.
type shelf struct {
	mu    sync.Mutex
	items map[string][]byte
	opens int
	// cut lets each opened content fail after so many bytes; 0: never.
	cut int64
	// slow, when set, is called before each read.
	slow func(off int64)
}

func (s *shelf) Open(_ context.Context, key string) (boot.Content, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens++
	b, ok := s.items[key]
	if !ok {
		return boot.Content{}, fs.ErrNotExist
	}
	sum := sha256.Sum256(b)
	return boot.Content{
		Body: &cutReader{r: bytes.NewReader(b), left: s.cut, cut: s.cut > 0, slow: s.slow},
		Size: int64(len(b)), ETag: `"` + hex.EncodeToString(sum[:8]) + `"`,
	}, nil
}

type cutReader struct {
	r    io.ReaderAt
	left int64
	cut  bool
	slow func(int64)
}

func (c *cutReader) ReadAt(p []byte, off int64) (int, error) {
	if c.slow != nil {
		c.slow(off)
	}
	if c.cut {
		if c.left <= 0 {
			return 0, io.ErrUnexpectedEOF
		}
		p = p[:min(int64(len(p)), c.left)]
	}
	n, err := c.r.ReadAt(p, off)
	c.left -= int64(n)
	return n, err
}

// rig is one machine, and everything it talks to.
type rig struct {
	desk      *desk
	shelf     *shelf
	host      *agenttest.Host
	server    *boot.Server
	authority *boot.Authority
	ticket    callhome.Ticket
	image     []byte
	log       *lockedLog
}

type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func testFacts(n int) fleet.Facts {
	return fleet.Facts{
		Source:   fleet.SeenByAgent,
		Identity: fleet.NewIdentity("", fmt.Sprintf("SN%04d", n)),
		Disks: []fleet.Disk{
			{Serial: "OTHER", WWN: "5000000000000001", SizeBytes: fleet.Known[int64](64 * mib)},
			{Serial: "PLANNED", WWN: "5000000000000002", SizeBytes: fleet.Known[int64](64 * mib)},
		},
	}
}

func newRig(t testing.TB, format string, pad int) *rig {
	t.Helper()
	image := imageOf([]byte("boot partition"), pad)
	packed, err := agenttest.Pack(format, image)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{write: callhome.Write{
		Disk:            fleet.DiskRef{Serial: "PLANNED", WWN: "5000000000000002", SizeBytes: 64 * mib},
		Image:           callhome.Image{Path: boot.MediaPath(imageKey, "disk."+format), Format: format, SHA256: sumOf(image), Bytes: int64(len(image))},
		Ignition:        []byte(`{"ignition":{"version":"3.4.0"}}`),
		KernelArguments: []string{"ip=10.0.0.2::10.0.0.1:255.255.255.0:n1:eno1:none", "rd.neednet=1"},
		Owner:           "rack-a",
	}}
	s := &shelf{items: map[string][]byte{imageKey: packed}}
	authority, err := boot.NewAuthority("rack-a")
	if err != nil {
		t.Fatal(err)
	}
	server, err := boot.Listen(t.Context(), boot.Config{Addr: "127.0.0.1:0", Authority: authority, Desk: d, Library: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	facts := testFacts(1)
	return &rig{desk: d, shelf: s, host: agenttest.NewHost(facts), server: server, authority: authority, image: image, log: &lockedLog{}, ticket: callhome.Ticket{
		Protocol: callhome.Protocol, URL: "https://" + server.Addr().String(), CA: string(authority.PEM()), Token: "secret-token",
		Stage: callhome.Live, Site: "rack-a", Server: facts.Identity.ID(), Identity: facts.Identity, Plan: "plan-1", Attempt: 1,
	}}
}

// run is bounded, because an agent that fails asks again for ever.
func (r *rig) run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return agent.RunWith(ctx, r.ticket, r.host, r.log)
}

// runUntilFailed runs the agent until it reported a failure and was told to hold.
func (r *rig) runUntilFailed(t *testing.T) fleet.Cause {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r.desk.onFailed = cancel
	_ = r.run(ctx)
	r.desk.mu.Lock()
	defer r.desk.mu.Unlock()
	if len(r.desk.failed) != 1 {
		t.Fatalf("the agent reported %d failures, want 1; its console:\n%s", len(r.desk.failed), r.log)
	}
	if n := r.host.Reboots(); n != 0 {
		t.Errorf("the machine was rebooted %d times after a failure", n)
	}
	return r.desk.failed[0].Cause
}

// wantUnbootable checks that the disk's start and end are clear.
func wantUnbootable(t *testing.T, d *agenttest.Disk) {
	t.Helper()
	for _, off := range []int64{0, d.Size() - mib} {
		p := make([]byte, mib)
		if _, err := d.ReadAt(p, off); err != nil {
			t.Fatal(err)
		}
		if i := bytes.IndexFunc(p, func(r rune) bool { return r != 0 }); i >= 0 {
			t.Errorf("byte %d of the disk is not zero: the disk could boot half-written", off+int64(i))
		}
	}
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func imageOf(boot []byte, pad int) []byte { return agenttest.Image(boot, pad) }

// putTicket lays the ticket where Ignition would.
func putTicket(t *testing.T, root string, ticket callhome.Ticket) {
	t.Helper()
	b, err := json.Marshal(ticket)
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(root, callhome.TicketPath)
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
