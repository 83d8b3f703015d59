package bmc

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// maxTask bounds the wait for an asynchronous act; loading a whole image over a
// slow management network takes minutes.
const maxTask = 10 * time.Minute

// errNotShown ends a wait for something that did not come to show.
var errNotShown = errors.New("it does not show in time")

// until looks again and again, ever more rarely, until look says yes or
// Options.Settle has passed. Errors of a look do not end the wait, unless they
// cannot pass by themselves; the last one is the cause when time runs out.
func (s *Session) until(ctx context.Context, look func() (bool, error)) error {
	return s.within(ctx, s.opts.Settle, look)
}

// within is until with a limit of its own.
func (s *Session) within(ctx context.Context, limit time.Duration, look func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errNotShown)
	defer cancel()
	var last error
	for wait := s.opts.Poll; ; wait = min(wait*3/2, 5*s.opts.Poll) {
		done, err := look()
		if done {
			return nil
		}
		if err != nil {
			last = err
			if k := fleet.KindOf(err); k != fleet.Transient && k != fleet.UnsureKind {
				return err
			}
		}
		if pause(ctx, wait) != nil {
			if last != nil {
				return last
			}
			return context.Cause(ctx)
		}
	}
}

// awaitTask waits for an act that was accepted with a task: with 202, or with
// another success whose body is one. Other answers are done already. A task
// that vanishes says nothing (Lenovo); the look that follows each act does.
func (s *Session) awaitTask(ctx context.Context, a *answer) error {
	return s.awaitTaskFor(ctx, a, maxTask)
}

// watchTask is awaitTask for acts whose effect is looked for anyway, and whose
// task may end with the next start only (Dell's configuration jobs): one that
// does not end within a quarter of Options.Settle is left alone.
func (s *Session) watchTask(ctx context.Context, a *answer) error {
	err := s.awaitTaskFor(ctx, a, s.opts.Settle/4)
	if errors.Is(err, errTaskGoesOn) && ctx.Err() == nil {
		return nil
	}
	return err
}

var errTaskGoesOn = errors.New("it goes on")

func (s *Session) awaitTaskFor(ctx context.Context, a *answer, limit time.Duration) error {
	monitor := s.taskOf(a)
	if monitor == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for wait := s.opts.Poll; ; wait = min(wait*3/2, 5*s.opts.Poll) {
		a, err := s.do(ctx, ask{method: http.MethodGet, path: monitor})
		switch {
		case a != nil && (a.status == http.StatusNotFound || a.status == http.StatusGone):
			return nil
		case err != nil && fleet.KindOf(err) != fleet.Transient:
			return err
		case err == nil:
			if done, err := taskState(a); done {
				return err
			}
		}
		if err := pause(ctx, wait); err != nil {
			return fleet.NewFault(fleet.CodeBMCBusy, fleet.UnsureKind, errors.Join(errTaskGoesOn, err), "task %s does not end", monitor)
		}
	}
}

// taskOf finds the monitor of the task that an answer tells of, "" when there
// is none.
func (s *Session) taskOf(a *answer) string {
	if a == nil {
		return ""
	}
	var body node
	if m, err := decode(a.body); err == nil {
		body = node{m: m}
	}
	isTask := strings.HasPrefix(body.str("@odata.type"), "#Task.")
	if a.status != http.StatusAccepted && !isTask {
		return ""
	}
	if monitor, err := s.client.local(a.header.Get("Location")); err == nil && monitor != "" {
		return monitor
	}
	return firstOf(body.link("TaskMonitor"), body.self())
}

// taskState reads a task or its monitor.
func taskState(a *answer) (done bool, err error) {
	m, decodeErr := decode(a.body)
	if decodeErr != nil {
		return a.status != http.StatusAccepted, nil
	}
	n := node{m: m}
	switch strings.ToLower(n.str("TaskState")) {
	case "completed":
		if s := strings.ToLower(n.str("TaskStatus")); s != "critical" {
			return true, nil
		}
		return true, taskFault(n, a.path)
	case "exception", "killed", "cancelled", "interrupted":
		return true, taskFault(n, a.path)
	case "":
		return a.status != http.StatusAccepted, nil
	}
	return false, nil
}

// taskFault makes a fault of a failed task's messages, as if they had been the
// answer to the act.
func taskFault(n node, path string) error {
	r := &refusal{method: "task", path: path, status: http.StatusBadRequest}
	for _, m := range n.objects("Messages") {
		r.messages = append(r.messages, message{id: m.str("MessageId"), text: m.str("Message"), args: m.texts("MessageArgs")})
	}
	if r.isLicence() || r.isNotReady() {
		return r.fault()
	}
	return fleet.NewFault(fleet.CodeBMCRejected, fleet.Transient, r, "the BMC's task ended as %s", firstOf(n.str("TaskState"), "failed"))
}
