package redfish

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	pathTasks    = pathRoot + "/TaskService/Tasks"
	pathMonitors = pathRoot + "/TaskService/TaskMonitors"
	keptTasks    = 32 // finished ones are forgotten, the oldest first
)

// tasks are the asynchronous operations of one BMC. Its lock is an inner one,
// like that of faults.
type tasks struct {
	mu     sync.Mutex
	serial int
	all    []*task
}

type task struct {
	id      string
	name    string
	began   time.Time
	ended   time.Time
	outcome *problem
}

func (t *tasks) start(name string) *task {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serial++
	one := &task{id: strconv.Itoa(t.serial), name: name, began: time.Now()}
	t.all = append(t.all, one)
	if len(t.all) > keptTasks && !t.all[0].ended.IsZero() {
		t.all = slices.Delete(t.all, 0, 1)
	}
	return one
}

func (t *tasks) finish(one *task, outcome *problem) {
	t.mu.Lock()
	defer t.mu.Unlock()
	one.ended, one.outcome = time.Now(), outcome
}

// drop forgets a task that goes on.
func (t *tasks) drop(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = slices.DeleteFunc(t.all, func(one *task) bool { return one.id == id })
}

// look gives a copy.
func (t *tasks) look(id string) (task, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range t.all {
		if one.id == id {
			return *one, true
		}
	}
	return task{}, false
}

func (t *tasks) paths() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, one := range t.all {
		out = append(out, pathTasks+"/"+one.id)
	}
	return out
}

func (t task) body() object {
	out := object{
		"@odata.id": pathTasks + "/" + t.id, "@odata.type": "#Task.v1_7_4.Task",
		"Id": t.id, "Name": t.name, "TaskState": "Running", "TaskStatus": "OK",
		"StartTime": t.began.UTC().Format(time.RFC3339), "TaskMonitor": pathMonitors + "/" + t.id,
		"Messages": []object{},
	}
	if t.ended.IsZero() {
		return out
	}
	out["EndTime"] = t.ended.UTC().Format(time.RFC3339)
	out["TaskState"], out["PercentComplete"] = "Completed", 100
	if t.outcome != nil {
		out["TaskState"], out["TaskStatus"] = "Exception", "Critical"
		out["Messages"] = []object{t.outcome.message()}
	}
	return out
}

func (t *tasks) node(id string) (node, bool) {
	_, ok := t.look(id)
	return node{get: func() object {
		one, _ := t.look(id)
		return one.body()
	}}, ok
}

// monitor shows 202 while the task runs, then the answer the operation would
// have given.
func (t *tasks) monitor(id string) (node, bool) {
	one, ok := t.look(id)
	if !ok {
		return node{}, false
	}
	return node{monitor: func() reply {
		if one.ended.IsZero() {
			return accepted(one)
		}
		return done(one.outcome)
	}}, true
}

// accepted is the answer that an operation goes on as a task.
func accepted(t task) reply {
	h := http.Header{}
	h.Set("Location", pathMonitors+"/"+t.id)
	h.Set("Retry-After", fmt.Sprint(1))
	return reply{status: http.StatusAccepted, header: h, body: t.body()}
}
