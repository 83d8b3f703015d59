package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"metalrise.dev/agent/node"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

const (
	// tellMin and tellMax bound how often a running task is reported.
	tellMin = time.Second
	tellMax = 8 * time.Second // so that an answer is there within ten
	// repeatPause is the least time between two reports of a task that ended.
	repeatPause = time.Second
	tasksName   = "tasks.json"
	maxTasks    = 200
)

// ended is how a task ended, as kept on the disk.
type ended struct {
	Task   string       `json:"task"`
	Done   bool         `json:"done"`
	Step   int          `json:"step"`
	Name   string       `json:"name"`
	Bytes  int64        `json:"bytes"`
	Cause  *fleet.Cause `json:"cause,omitempty"`
	Output string       `json:"output,omitempty"`
}

func (e ended) report(instance string) callhome.TaskReport {
	state := callhome.TaskFailed
	if e.Done {
		state = callhome.TaskDone
	}
	return callhome.TaskReport{
		Instance: instance, Task: e.Task, State: state, Step: e.Step, Name: e.Name, Done: e.Bytes, Total: e.Bytes, Cause: e.Cause, Output: e.Output,
	}
}

// memory is what became of tasks, oldest first. It outlives the boot.
type memory struct {
	host  Host
	tasks []ended
}

func recallTasks(host Host) (*memory, error) {
	m := &memory{host: host}
	b, err := host.Load(tasksName)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &m.tasks)
	}
	if err != nil {
		return nil, fmt.Errorf("read which tasks were done: %w", err)
	}
	return m, nil
}

func (m *memory) find(id string) (ended, bool) {
	i := slices.IndexFunc(m.tasks, func(e ended) bool { return e.Task == id })
	if i < 0 {
		return ended{}, false
	}
	return m.tasks[i], true
}

func (m *memory) keep(e ended) error {
	m.tasks = append(m.tasks, e)
	m.tasks = m.tasks[max(0, len(m.tasks)-maxTasks):]
	b, err := json.Marshal(m.tasks)
	if err != nil {
		return err
	}
	return m.host.Save(tasksName, b)
}

// installed is the installed system's side of the conversation. It returns when
// metalrise has nothing more to say.
func (s *session) installed(ctx context.Context) error {
	done, err := recallTasks(s.host)
	if err != nil {
		return err
	}
	for {
		orders, err := s.hello(ctx)
		if err != nil {
			return err
		}
		if orders.Verb == callhome.Work && orders.Task != nil {
			if orders, err = s.work(ctx, done, *orders.Task); err != nil {
				return err
			}
			s.looked = time.Time{} // what a task changed is seen in the next hello
			if orders.Verb != callhome.Done {
				continue
			}
		}
		if orders.Verb == callhome.Done {
			s.say("metalrise knows that this server is installed, and needs nothing more of it")
			return nil
		}
		if err := s.wait(ctx, orders); err != nil {
			return err
		}
	}
}

// work carries out a task, or says how it ended when it was carried out before,
// and gives the answer to the report. A task that was stopped by orders is not
// reported; the answer is then those orders.
func (s *session) work(ctx context.Context, done *memory, t callhome.Task) (callhome.Orders, error) {
	if e, ok := done.find(t.ID); ok {
		if err := sleep(ctx, repeatPause); err != nil {
			return callhome.Orders{}, err
		}
		return s.tellEnd(ctx, e)
	}
	s.say("task %s: %s", t.ID, t.Name)
	r := newRunning(s, t)
	err := node.Check(t)
	switch {
	case err == nil:
		err = r.steps(ctx)
	case !node.IsID(t.ID): // then nothing can be reported about it
		s.say("%v", err)
		return callhome.Orders{Verb: callhome.Wait}, sleep(ctx, waitUsual)
	}
	if ctx.Err() != nil {
		return callhome.Orders{}, context.Cause(ctx)
	}
	if orders, stopped := r.stopped(); stopped && errors.Is(err, errStopped) {
		s.say("task %s is stopped before step %q: %s %s", t.ID, r.report.Name, orders.Verb, orders.Why)
		if orders.Verb == callhome.Wait || orders.Verb == callhome.Hold {
			err = s.wait(ctx, orders)
		} else {
			err = nil
		}
		return orders, err
	}
	e := ended{Task: t.ID, Done: err == nil, Step: r.report.Step, Name: r.report.Name, Bytes: r.report.Done}
	if err != nil {
		e.Cause, e.Output = boundedCause(err), node.OutputOf(err)
		s.say("task %s failed: %v", t.ID, err)
		for line := range strings.Lines(e.Output) {
			s.say("| %s", strings.TrimRight(line, "\n"))
		}
	} else {
		s.say("task %s is done", t.ID)
	}
	if err := done.keep(e); err != nil {
		s.say("how task %s ended could not be written down, so that a restart would do it again: %v", t.ID, err)
	}
	return s.tellEnd(ctx, e)
}

// tellEnd reports how a task ended until it is answered. Who is refused has to
// say hello again: the other side may have begun anew.
func (s *session) tellEnd(ctx context.Context, e ended) (callhome.Orders, error) {
	return s.askUntil(ctx, callhome.PathTask, e.report(s.seat.instance), refusedCall)
}

func refusedCall(err error) bool {
	var f *fleet.Fault
	return errors.As(err, &f) && f.Kind == fleet.Denied
}

// boundedCause keeps a cause within what is accepted of one.
func boundedCause(err error) *fleet.Cause {
	c := fleet.CauseOf(err)
	c.Chain = c.Chain[:min(len(c.Chain), 20)]
	for i, text := range c.Chain {
		c.Chain[i] = printable(text)
	}
	if c.Code == fleet.CodeUnexpected {
		c.Code = fleet.CodeNodePrepare
	}
	return c
}

var errStopped = errors.New("stopped by orders")

// running is a task that is being carried out.
type running struct {
	session *session
	task    callhome.Task

	mu     sync.Mutex
	report callhome.TaskReport
	stop   *callhome.Orders
	cancel func() // ends the step under way, where that may be; else nil
	news   chan struct{}
}

func newRunning(s *session, t callhome.Task) *running {
	r := &running{session: s, task: t, news: make(chan struct{}, 1)}
	r.report = callhome.TaskReport{Instance: s.seat.instance, Task: t.ID, State: callhome.TaskRunning}
	for _, step := range t.Steps {
		r.report.Total += node.Bytes(step)
	}
	return r
}

func (r *running) stopped() (callhome.Orders, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop == nil {
		return callhome.Orders{}, false
	}
	return *r.stop, true
}

// steps carries out one step after the other while another goroutine reports.
func (r *running) steps(ctx context.Context) error {
	telling, end := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { r.tell(telling) })
	defer wg.Wait()
	defer end()
	for i, step := range r.task.Steps {
		if _, stop := r.stopped(); stop {
			return errStopped
		}
		if err := r.step(ctx, i, step); err != nil {
			return err
		}
	}
	return nil
}

func (r *running) step(ctx context.Context, i int, step callhome.Step) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.mu.Lock()
	r.report.Step, r.report.Name = i, clip(step.Name)
	r.cancel = nil
	if step.Fetch != nil { // what was fetched is kept, so that stopping costs nothing
		r.cancel = func() { cancel(errStopped) }
	}
	r.mu.Unlock()
	r.wake()
	err := r.session.host.Do(ctx, source{r.session}, step, func(n int64) {
		r.mu.Lock()
		r.report.Done = max(0, r.report.Done+n)
		r.mu.Unlock()
		r.wake()
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), errStopped):
		return errStopped
	}
	var f *fleet.Fault
	if !errors.As(err, &f) {
		f = fleet.NewFault(fleet.CodeNodePrepare, fleet.KindOf(err), err, "carry it out")
		err = f
	}
	return fmt.Errorf("step %d of %d, %s: %w", i+1, len(r.task.Steps), r.report.Name, err)
}

func (r *running) wake() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// tell reports how far the task is until the context ends: soon after each
// change, and when nothing changes too. Reports that nobody hears are dropped;
// the node's work needs no listener.
func (r *running) tell(ctx context.Context) {
	for lost := 0; ; {
		r.mu.Lock()
		report := r.report
		r.mu.Unlock()
		orders, err := r.session.line.post(ctx, callhome.PathTask, report)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.session.say("report of task %s: %v", r.task.ID, err)
			lost++
			if refusedCall(err) {
				r.obey(callhome.Orders{Verb: callhome.Wait, Why: "the report was refused"})
			}
		default:
			r.session.clock(orders.Now)
			r.obey(orders)
			lost = 0
		}
		if sleep(ctx, min(tellMin<<min(lost, 5), tellMax)) != nil {
			return
		}
		quiet := time.NewTimer(tellMax - tellMin)
		select {
		case <-r.news:
		case <-quiet.C:
		case <-ctx.Done():
		}
		quiet.Stop()
	}
}

// obey stops the task unless it is to go on.
func (r *running) obey(o callhome.Orders) {
	if o.Verb == callhome.Work && (o.Task == nil || o.Task.ID == r.task.ID) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop == nil {
		r.stop = &o
		if r.cancel != nil {
			r.cancel()
		}
	}
}

func clip(s string) string { return printable(s[:min(len(s), 200)]) }

// source is the way of steps to what metalrise serves.
type source struct{ s *session }

var _ node.Source = source{}

// Open implements node.Source.
func (c source) Open(ctx context.Context, path string, from, size int64) (io.ReadCloser, error) {
	f, err := c.s.line.fetch(ctx, path, size, c.s.say)
	if err != nil {
		return nil, err
	}
	f.off, f.kind = from, payloadFetch
	if from > 0 {
		f.total = size
	}
	return f, nil
}
