package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// arrive takes the installed system's report. It comes again after a lost reply,
// after each reboot, and from a server that becomes a node also in between.
func (w *walker) arrive(ctx context.Context, c Caller, h callhome.Hello) (callhome.Orders, error) {
	remedy := ""
	if kvm, _ := h.Facts.KVM.Get(); !kvm.Usable {
		remedy = w.engine.remedy(ctx, w.plan)
	}
	if err := w.acceptArrival(ctx, c, h, remedy); err != nil {
		return callhome.Orders{}, err
	}
	return w.nodeOrders(ctx)
}

// acceptArrival judges and journals a report. remedy is what helps where KVM is
// not usable.
func (w *walker) acceptArrival(ctx context.Context, c Caller, h callhome.Hello, remedy string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.track
	if !t.Written && !t.Node.Kept {
		return refused("no disk of this plan was written on this server")
	}
	if !w.plan.Identity.Match(h.Facts.Identity) {
		return refused("the token was made for another server")
	}
	if err := w.homeLocked(c); err != nil {
		return err
	}
	w.hear()
	kvm, _ := h.Facts.KVM.Get()
	kvm = cutKVM(kvm)
	run, _ := h.Facts.Runtime.Get()
	run.Kernel, run.Container = clip(run.Kernel), clip(run.Container)
	a := arrival{KVM: kvm, Runtime: run, Key: c.KeyHash, Instance: clip(h.Instance), Remedy: remedy}
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if t.Arrived && !w.newsLocked(a) {
		return nil
	}
	if err := w.engine.Archive.KeepFacts(ctx, w.plan.Server, h.Facts); err != nil {
		return err
	}
	note := "the installed system reported itself; KVM works"
	if !kvm.Usable {
		note = "the installed system reported itself; " + string(fleet.CodeKVMUnavailable) + " no KVM: " + kvm.Why
	}
	return w.recordLocked(ctx, fleet.Event{Action: fleet.ActArrive, Edge: fleet.Ended, Outcome: fleet.OK, Data: data, Note: note})
}

// cutKVM keeps what a machine says of its hypervisor within bounds: each report
// that says something new stays in the journal for ever.
func cutKVM(k fleet.KVM) fleet.KVM {
	k.Why, k.Flag = clip(k.Why), clip(k.Flag)
	k.Modules = slices.Clone(k.Modules[:min(len(k.Modules), 16)])
	for i, name := range k.Modules {
		k.Modules[i] = clip(name)
	}
	return k
}

// newsLocked tells whether a repeated report says anything new.
func (w *walker) newsLocked(a arrival) bool {
	t := w.track
	if t.Hold != nil && t.Hold.Code == fleet.CodeNodeSilent {
		return true
	}
	kvm, _ := t.KVM.Get()
	same := kvm.Usable == a.Usable && kvm.Device == a.Device && kvm.Why == a.Why && kvm.VhostNet == a.VhostNet && kvm.Tun == a.Tun
	return !same || t.Node.Home.Key != a.Key || t.Node.Plan != nil && (t.Node.Home.Instance != a.Instance || t.Node.Runtime != a.Runtime)
}

// homeLocked refuses anybody but the installed system that came first. Its key
// survives reboots.
func (w *walker) homeLocked(c Caller) error {
	if home := w.track.Node.Home.Key; w.track.Node.Plan != nil && home != "" && home != c.KeyHash {
		return refused("the token was redeemed by another system")
	}
	return nil
}

// Task hears how far a node is with its work.
func (e *Engine) Task(ctx context.Context, c Caller, m callhome.TaskReport) (callhome.Orders, error) {
	w, g, err := e.caller(c)
	if err == nil && (g.kind != string(callhome.Installed) || w.plan.Node == nil) {
		err = refused("the token is not that of a node")
	}
	if err != nil {
		return callhome.Orders{}, err
	}
	if err := w.acceptTask(ctx, c, m); err != nil {
		return callhome.Orders{}, err
	}
	if m.State != callhome.TaskRunning {
		return w.nodeOrders(ctx)
	}
	// It works: its next report must not be held up, and it knows its task.
	w.mu.Lock()
	defer w.mu.Unlock()
	if t := w.track; t.Hold == nil && t.Node.Removal == nil && t.Node.Task != nil && t.Node.Task.ID == m.Task {
		return callhome.Orders{Verb: callhome.Work, Now: time.Now()}, nil
	}
	return w.nodeOrdersLocked()
}

func (w *walker) acceptTask(ctx context.Context, c Caller, m callhome.TaskReport) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.track
	if err := w.homeLocked(c); err != nil {
		return err
	}
	if t.Node.Home.Key == "" { // after a retry: it must say hello first
		return refused("the token is not redeemed")
	}
	w.hear()
	if t.Node.Task == nil || m.Task != t.Node.Task.ID {
		return nil // of a task that is over
	}
	if t.Hold != nil && t.Hold.Code == fleet.CodeNodeSilent {
		if err := w.backLocked(ctx); err != nil {
			return err
		}
	}
	w.done, w.total, w.step = m.Done, m.Total, clip(m.Name)
	data, err := json.Marshal(struct {
		Task string `json:"task"`
		Step string `json:"step,omitempty"`
		Done int64  `json:"done,omitempty"`
	}{m.Task, clip(m.Name), m.Done})
	if err != nil {
		return err
	}
	e := fleet.Event{Action: t.Node.Task.Action, Edge: fleet.Ended, Outcome: fleet.OK, Data: data}
	switch m.State {
	case callhome.TaskRunning:
		if now := time.Now(); now.Sub(w.told) < 5*time.Second { // thinned out, as with writes
			return nil
		}
		w.told = time.Now()
		e.Edge, e.Outcome, e.Note = fleet.Progressed, "", clip(m.Name)
	case callhome.TaskFailed:
		e.Outcome, e.Cause = fleet.Failed, taskCause(t.Node.Task.Action, m)
	}
	if e.Edge == fleet.Ended {
		w.done, w.total, w.step = 0, 0, ""
	}
	return w.recordLocked(ctx, e)
}

// backLocked writes down that a node speaks again that was held for its silence.
func (w *walker) backLocked(ctx context.Context) error {
	n := w.track.Node
	kvm, _ := w.track.KVM.Get()
	data, err := json.Marshal(arrival{KVM: kvm, Key: n.Home.Key, Instance: n.Home.Instance, Runtime: n.Runtime, Remedy: n.Remedy})
	if err != nil {
		return err
	}
	return w.recordLocked(ctx, fleet.Event{Action: fleet.ActArrive, Edge: fleet.Ended, Outcome: fleet.OK, Data: data, Note: "the node speaks again"})
}

// colours are what programs put around words for a terminal; their first
// character may be lost on the way.
var colours = regexp.MustCompile("\x1b?\\[[0-9;]*m ?")

// taskCause makes a fault of what a node reported, with the end of the output
// of the program that failed.
func taskCause(a fleet.Action, m callhome.TaskReport) *fleet.Cause {
	c := fleet.Cause{Kind: fleet.Conflict}
	if m.Cause != nil {
		c = reported(*m.Cause)
	}
	if c.Code == "" || c.Code == fleet.CodeAgentFailed || c.Code == fleet.CodeUnexpected || c.Code == fleet.CodeNodePrepare {
		switch a {
		case fleet.ActBegin:
			c.Code = fleet.CodeClusterBegin
		case fleet.ActJoin:
			c.Code = fleet.CodeNodeJoin
		default:
			c.Code = fleet.CodeNodePrepare
		}
	}
	c.Chain = append([]string{fmt.Sprintf("%s: step %d, %s", clip(m.Task), m.Step+1, clip(m.Name))}, c.Chain...)
	lines := strings.Split(strings.TrimSpace(m.Output), "\n")
	for _, line := range lines[max(0, len(lines)-12):] {
		if line = strings.TrimSpace(colours.ReplaceAllString(line, "")); line != "" {
			c.Chain = append(c.Chain, "it wrote: "+clip(line))
		}
	}
	return &c
}

// nodeOrders is what an installed system has to do. A call that has to wait is
// kept open until something changes.
func (w *walker) nodeOrders(ctx context.Context) (callhome.Orders, error) {
	until := time.NewTimer(longPoll)
	defer until.Stop()
	for {
		w.mu.Lock()
		o, err := w.nodeOrdersLocked()
		changed := w.changed
		w.mu.Unlock()
		if err != nil || o.Verb != callhome.Wait {
			return o, err
		}
		select {
		case <-changed:
		case <-until.C:
			w.mu.Lock()
			w.hear() // it was on the line all the time
			w.mu.Unlock()
			return o, nil
		case <-ctx.Done():
			return o, ctx.Err()
		}
	}
}

func (w *walker) nodeOrdersLocked() (callhome.Orders, error) {
	t := w.track
	o := callhome.Orders{Verb: callhome.Wait, After: time.Second, Now: time.Now(), Why: describe(w.decision)}
	switch {
	case t.Node.Plan == nil, t.Node.Ready, t.Node.Removal != nil:
		o.Verb, o.After, o.Why = callhome.Done, 0, ""
	case t.Hold != nil && t.Hold.Code != fleet.CodeNodeSilent:
		o.Verb, o.After, o.Why = callhome.Hold, 10*time.Second, describe(Hold{*t.Hold})
	case t.Node.Task != nil:
		task, err := w.taskLocked()
		if err != nil {
			return callhome.Orders{}, err
		}
		o.Verb, o.After, o.Why, o.Task = callhome.Work, 0, "", task
	}
	return o, nil
}

// erasesLocked tells whether the live system is there to erase the disk.
func (w *walker) erasesLocked() bool {
	n := &w.track.Node
	return n.Removal != nil && n.Removal.Erase && !n.Erased
}

// Erased hears that a disk was erased. What it says is the record of it.
func (e *Engine) Erased(ctx context.Context, c Caller, m callhome.Erased) (callhome.Orders, error) {
	w, err := e.live(c)
	if err != nil {
		return callhome.Orders{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.boundLocked(c); err != nil {
		return callhome.Orders{}, err
	}
	w.hear()
	if !w.erasesLocked() {
		return w.ordersLocked()
	}
	m.Instance, m.Method = clip(m.Instance), clip(m.Method)
	data, err := json.Marshal(m)
	if err != nil {
		return callhome.Orders{}, err
	}
	done := fleet.Event{Action: fleet.ActErase, Edge: fleet.Ended, Outcome: fleet.OK, Data: data,
		Note: fmt.Sprintf("erased disk %s by %s, %d bytes", w.plan.InstallDisk, m.Method, m.Bytes)}
	if !w.plan.InstallDisk.Match(fleet.Disk{WWN: m.Disk.WWN, Serial: m.Disk.Serial, SizeBytes: fleet.Known(m.Disk.SizeBytes)}) {
		done.Outcome = fleet.Failed
		done.Cause = fleet.CauseOf(fleet.NewFault(fleet.CodeDiskChanged, fleet.Conflict, nil, "the machine erased disk serial %.80q wwn %.80q, planned is %s", m.Disk.Serial, m.Disk.WWN, w.plan.InstallDisk))
	}
	if err := w.recordLocked(ctx, done); err != nil {
		return callhome.Orders{}, err
	}
	return w.ordersLocked()
}
