package agent_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"metalrise.dev/agent"
	"metalrise.dev/boot"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// foreman is a desk that gives an installed system one task after the other.
type foreman struct {
	desk
	tasks   []callhome.Task
	next    int
	hellos  []callhome.Hello
	reports []callhome.TaskReport
	// running answers reports of a running task; nil lets it go on.
	running func(callhome.TaskReport) callhome.Orders
	anew    bool // reports are refused until the next hello
	// failed answers the report of a failure; nil holds.
	failed func(callhome.TaskReport) callhome.Orders
}

func (f *foreman) orders(v callhome.Verb) callhome.Orders {
	return callhome.Orders{Verb: v, After: 200 * time.Millisecond, Now: time.Now()}
}

func (f *foreman) current() callhome.Orders {
	if f.next == len(f.tasks) {
		return f.orders(callhome.Done)
	}
	o := f.orders(callhome.Work)
	o.Task = &f.tasks[f.next]
	return o
}

func (f *foreman) Hello(_ context.Context, who boot.Caller, m callhome.Hello) (callhome.Orders, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.admit(who); err != nil {
		return callhome.Orders{}, err
	}
	f.hellos = append(f.hellos, m)
	f.anew = false
	return f.current(), nil
}

func (f *foreman) Task(_ context.Context, who boot.Caller, m callhome.TaskReport) (callhome.Orders, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.admit(who); err != nil {
		return callhome.Orders{}, err
	}
	if f.anew {
		return callhome.Orders{}, fleet.NewFault(fleet.CodeTokenRefused, fleet.Denied, nil, "the token is not redeemed")
	}
	f.reports = append(f.reports, m)
	switch m.State {
	case callhome.TaskDone:
		if f.next < len(f.tasks) && m.Task == f.tasks[f.next].ID {
			f.next++
		}
		return f.current(), nil
	case callhome.TaskFailed:
		if f.failed != nil {
			return f.failed(m), nil
		}
		return f.orders(callhome.Hold), nil
	}
	if f.running != nil {
		return f.running(m), nil
	}
	return f.orders(callhome.Work), nil
}

// yard is an installed machine and all it talks to.
type yard struct {
	t       *testing.T
	foreman *foreman
	*rig
}

func newYard(t *testing.T, tasks ...callhome.Task) *yard {
	t.Helper()
	r := newRig(t, "raw.zst", 0)
	f := &foreman{tasks: tasks}
	server, err := boot.Listen(t.Context(), boot.Config{Addr: "127.0.0.1:0", Authority: r.authority, Desk: f, Library: r.shelf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	r.ticket.Stage, r.ticket.URL = callhome.Installed, "https://"+server.Addr().String()
	return &yard{t: t, foreman: f, rig: r}
}

func unitTask(id string, names ...string) callhome.Task {
	task := callhome.Task{ID: id, Name: "task " + id}
	for _, n := range names {
		task.Steps = append(task.Steps, callhome.Step{Name: n, Unit: &callhome.UnitStep{Verb: "start", Name: n + ".service"}})
	}
	return task
}

// begun names the steps that were begun.
func (y *yard) begun() string {
	var out []string
	for _, s := range y.host.Steps() {
		out = append(out, s.Name)
	}
	return strings.Join(out, " ")
}

func (y *yard) ended() string {
	y.foreman.mu.Lock()
	defer y.foreman.mu.Unlock()
	var out []string
	for _, r := range y.foreman.reports {
		if r.State != callhome.TaskRunning {
			out = append(out, r.Task+":"+string(r.State))
		}
	}
	return strings.Join(out, " ")
}

func TestTasksOneAfterTheOther(t *testing.T) {
	t.Parallel()
	y := newYard(t, unitTask("prepare-1", "a", "b"), unitTask("join-1", "c"))
	if err := y.run(t.Context()); err != nil {
		t.Fatalf("%v; console:\n%s", err, y.log)
	}
	if y.begun() != "a b c" || y.ended() != "prepare-1:done join-1:done" {
		t.Errorf("steps %q, reports %q", y.begun(), y.ended())
	}
	if len(y.foreman.hellos) < 2 {
		t.Error("no hello with a fresh look between the tasks")
	}
}

// Neither a restart of the agent nor of the machine does a finished task again,
// and the machine is the same caller all the time.
func TestFinishedTasksAreRemembered(t *testing.T) {
	t.Parallel()
	y := newYard(t, unitTask("prepare-1", "a"))
	if err := y.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := y.foreman.hellos[0].Instance
	y.foreman.next = 0
	y.host.Boot()
	if err := y.run(t.Context()); err != nil { // the token is bound to the key: another one would be refused
		t.Fatalf("%v; console:\n%s", err, y.log)
	}
	if y.begun() != "a" || y.ended() != "prepare-1:done prepare-1:done" {
		t.Errorf("steps %q, reports %q", y.begun(), y.ended())
	}
	if last := y.foreman.hellos[len(y.foreman.hellos)-1].Instance; last == first {
		t.Error("another boot has the same instance")
	}
}

// Killed in the middle of a step, the task is done again from its beginning.
func TestRestartInTheMiddle(t *testing.T) {
	t.Parallel()
	y := newYard(t, unitTask("prepare-1", "a", "b", "c"))
	ctx, cancel := context.WithCancel(t.Context())
	y.host.OnStep(func(ctx context.Context, s callhome.Step) error {
		if s.Name == "b" {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	if err := y.run(ctx); err == nil {
		t.Fatal("ended as if all were well")
	}
	y.host.OnStep(nil)
	y.host.Boot()
	if err := y.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if y.begun() != "a b a b c" || y.ended() != "prepare-1:done" {
		t.Errorf("steps %q, reports %q", y.begun(), y.ended())
	}
}

func TestFailedTaskIsNotRepeated(t *testing.T) {
	t.Parallel()
	y := newYard(t, unitTask("join-1", "a", "b", "c"))
	y.host.OnStep(func(_ context.Context, s callhome.Step) error {
		if s.Name == "b" {
			return fleet.NewFault(fleet.CodeNodePrepare, fleet.Conflict, errors.New("exit status 1"), "start b.service")
		}
		return nil
	})
	failures := 0
	y.foreman.failed = func(r callhome.TaskReport) callhome.Orders {
		if failures++; failures == 3 { // retry
			y.foreman.tasks = []callhome.Task{unitTask("join-2", "d")}
		}
		return y.foreman.current()
	}
	if err := y.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if y.begun() != "a b d" || y.ended() != "join-1:failed join-1:failed join-1:failed join-2:done" {
		t.Errorf("steps %q, reports %q", y.begun(), y.ended())
	}
	for _, r := range y.foreman.reports {
		if r.State == callhome.TaskFailed && (r.Cause.Code != fleet.CodeNodePrepare || r.Cause.Kind != fleet.Conflict || r.Step != 1 || r.Name != "b" ||
			strings.Join(r.Cause.Chain, "|") != "step 2 of 3, b|start b.service|exit status 1") {
			t.Errorf("%+v %+v", r, r.Cause)
		}
	}
}

// After a retry the other side wants a hello first, whatever was going on.
func TestRefusedReportLeadsToHello(t *testing.T) {
	t.Parallel()
	y := newYard(t, unitTask("prepare-1", "a", "b"))
	y.host.OnStep(func(_ context.Context, s callhome.Step) error {
		y.foreman.mu.Lock()
		defer y.foreman.mu.Unlock()
		if s.Name == "b" && len(y.foreman.hellos) == 1 {
			y.foreman.anew = true
		}
		return nil
	})
	if err := y.run(t.Context()); err != nil {
		t.Fatalf("%v; console:\n%s", err, y.log)
	}
	if y.begun() != "a b" || y.ended() != "prepare-1:done" {
		t.Errorf("steps %q, reports %q", y.begun(), y.ended())
	}
}

// An order to hold lets the step under way end and begins no other.
func TestHoldBetweenSteps(t *testing.T) {
	t.Parallel()
	y := newYard(t, unitTask("prepare-1", "a", "b", "c"))
	told := make(chan struct{})
	var once sync.Once
	y.host.OnStep(func(ctx context.Context, s callhome.Step) error {
		if s.Name == "b" {
			select {
			case <-told:
				time.Sleep(200 * time.Millisecond) // the answer is on its way
			case <-ctx.Done():
			}
			return ctx.Err()
		}
		return nil
	})
	holds := 0
	y.foreman.running = func(r callhome.TaskReport) callhome.Orders {
		if r.Name == "b" && holds == 0 {
			holds++
			once.Do(func() { close(told) })
			return y.foreman.orders(callhome.Hold)
		}
		return y.foreman.current()
	}
	if err := y.run(t.Context()); err != nil {
		t.Fatalf("%v; console:\n%s", err, y.log)
	}
	if y.begun() != "a b a b c" || y.ended() != "prepare-1:done" {
		t.Errorf("steps %q, reports %q", y.begun(), y.ended())
	}
}

// A transfer is stopped at once; another task takes its place.
func TestOtherTaskStopsTransfer(t *testing.T) {
	t.Parallel()
	fetch := callhome.Task{ID: "prepare-1", Steps: []callhome.Step{
		{Name: "fetch", Fetch: &callhome.FetchStep{Path: "/m/x", SHA256: strings.Repeat("ab", 32), Bytes: 10, To: "/opt/metalrise/x", Mode: 0o755}},
	}}
	y := newYard(t, fetch)
	y.host.OnStep(func(ctx context.Context, s callhome.Step) error {
		if s.Fetch != nil {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	})
	y.foreman.running = func(callhome.TaskReport) callhome.Orders {
		y.foreman.tasks = []callhome.Task{unitTask("reset-1", "r")}
		return y.foreman.current()
	}
	if err := y.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if y.begun() != "fetch r" || y.ended() != "reset-1:done" {
		t.Errorf("steps %q, reports %q", y.begun(), y.ended())
	}
}

func TestRefusedTaskIsReported(t *testing.T) {
	t.Parallel()
	y := newYard(t, callhome.Task{ID: "prepare-1", Steps: []callhome.Step{{Name: "evil", File: &callhome.FileStep{To: "/dev/sda", Mode: 0o600}}}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	y.foreman.failed = func(callhome.TaskReport) callhome.Orders { cancel(); return y.foreman.orders(callhome.Hold) }
	_ = y.run(ctx)
	if y.begun() != "" || y.ended() != "prepare-1:failed" {
		t.Fatalf("steps %q, reports %q; console:\n%s", y.begun(), y.ended(), y.log)
	}
	if c := y.foreman.reports[0].Cause; c.Kind != fleet.Invalid || c.Code != fleet.CodeNodePrepare {
		t.Errorf("%+v", c)
	}
}

// The clock is right before the first step, and the answer to a report sets it
// too when the hello's answer did not.
func TestClockBeforeTasks(t *testing.T) {
	t.Parallel()
	y := newYard(t, unitTask("prepare-1", "a"))
	y.foreman.now = time.Now().Add(2 * time.Hour)
	var at time.Time
	y.host.OnStep(func(context.Context, callhome.Step) error { at = y.host.Clock(); return nil })
	server, err := boot.Listen(t.Context(), boot.Config{Addr: "127.0.0.1:0", Authority: y.authority, Desk: late{y.foreman}, Library: y.shelf})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	y.ticket.URL = "https://" + server.Addr().String()
	if err := y.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !at.Equal(y.foreman.now) {
		t.Errorf("the clock was %s at the first step, want %s", at, y.foreman.now)
	}
}

// late is a foreman whose clock is another one.
type late struct{ *foreman }

func (l late) Hello(ctx context.Context, who boot.Caller, m callhome.Hello) (callhome.Orders, error) {
	o, err := l.foreman.Hello(ctx, who, m)
	o.Now = l.now
	return o, err
}

// The real machine, as a folder, fetches over a connection that keeps breaking,
// and the ticket goes when all is done.
func TestRealFilesOverBrokenTLS(t *testing.T) {
	t.Parallel()
	const key = "fedcba9876543210fedcba9876543210"
	content := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	task := callhome.Task{ID: "prepare-1", Name: "prepare", Steps: []callhome.Step{
		{Name: "fetch", Fetch: &callhome.FetchStep{Path: boot.MediaPath(key, "hyper"), SHA256: sumOf(content), Bytes: int64(len(content)), To: "/opt/metalrise/bin/hyper", Mode: 0o755}},
		{Name: "write", File: &callhome.FileStep{To: "/etc/kubernetes/pki/ca.key", Mode: 0o600, Data: []byte("key")}},
	}}
	y := newYard(t, task)
	y.shelf.items[key], y.shelf.cut = content, 700_000
	root := t.TempDir()
	putTicket(t, root, y.ticket)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := agent.Run(ctx, agent.Config{Root: root, Log: y.log}); err != nil {
		t.Fatalf("%v; console:\n%s", err, y.log)
	}
	if b, err := os.ReadFile(filepath.Join(root, "opt/metalrise/bin/hyper")); err != nil || !bytes.Equal(b, content) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if _, err := os.Stat(filepath.Join(root, callhome.TicketPath)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the ticket is still there: %v", err)
	}
	for path, mode := range map[string]os.FileMode{"var/lib/metalrise/agent": 0o700, "var/lib/metalrise/agent/seat.json": 0o600, "var/lib/metalrise/agent/tasks.json": 0o600, "etc/kubernetes/pki/ca.key": 0o600} {
		if info, err := os.Stat(filepath.Join(root, path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v, want mode %o", path, info, err, mode)
		}
	}
	last := y.foreman.reports[len(y.foreman.reports)-1]
	if last.Done != int64(len(content)) || y.shelf.opens < 4 {
		t.Errorf("%+v after %d openings", last, y.shelf.opens)
	}
	if strings.Contains(y.log.String(), key) || strings.Contains(y.log.String(), "secret-token") {
		t.Errorf("the console shows a secret:\n%s", y.log)
	}
}

func TestWrongContentOverTLS(t *testing.T) {
	t.Parallel()
	const key = "fedcba9876543210fedcba9876543210"
	for name, c := range map[string]struct {
		bytes int64
		code  fleet.Code
	}{"another": {3, fleet.CodePayloadCorrupt}, "longer": {2, fleet.CodePayloadCorrupt}, "shorter": {4, fleet.CodePayloadCorrupt}, "gone": {-1, fleet.CodeNodePrepare}} {
		t.Run(name, func(t *testing.T) {
			step := callhome.Step{Name: "fetch", Fetch: &callhome.FetchStep{Path: boot.MediaPath(key, "x"), SHA256: strings.Repeat("ab", 32), Bytes: c.bytes, To: "/opt/metalrise/x", Mode: 0o644}}
			if c.bytes < 0 {
				step.Fetch.Bytes, step.Fetch.Path = 3, boot.MediaPath(strings.Repeat("0", 32), "x")
			}
			y := newYard(t, callhome.Task{ID: "prepare-1", Steps: []callhome.Step{step}})
			y.shelf.items[key] = []byte("xyz")
			root := t.TempDir()
			putTicket(t, root, y.ticket)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var got callhome.TaskReport
			y.foreman.failed = func(r callhome.TaskReport) callhome.Orders {
				got = r
				cancel()
				return y.foreman.orders(callhome.Hold)
			}
			_ = agent.Run(ctx, agent.Config{Root: root, Log: y.log})
			y.foreman.mu.Lock()
			defer y.foreman.mu.Unlock()
			if got.Cause == nil || got.Cause.Code != c.code {
				t.Fatalf("%+v %+v; console:\n%s", got, got.Cause, y.log)
			}
			if _, err := os.Stat(filepath.Join(root, "opt/metalrise/x")); err == nil {
				t.Error("it is in its place")
			}
			if _, err := os.Stat(filepath.Join(root, callhome.TicketPath)); err != nil {
				t.Error("the ticket is gone")
			}
			if text := fmt.Sprint(got.Cause.Chain); strings.Contains(text, key) {
				t.Errorf("the report shows the key: %s", text)
			}
		})
	}
}
