package callhome

import (
	"time"

	"metalrise.dev/fleet"
)

// An installed system that becomes a node of a cluster goes on calling:
//
//	installed system  PathHello  Hello       → Orders: work (with a Task), wait, hold or done
//	                  PathTask   TaskReport  → Orders: the same
//
// PathTask is called while a task runs (at least each 10 s) and when it ended.
// The agent keeps on its disk which tasks it finished, so that neither a restart
// nor a reboot does one twice.

// PathTask is the path of reports about a task.
const PathTask = "/v1/task"

// Work is the verb that lets an installed system carry out Orders.Task.
const Work Verb = "work"

// Task is a list of steps that an installed system carries out in their order.
// Each step may be repeated: one that is done already costs a look. The same ID
// always stands for the same steps.
type Task struct {
	ID    string `json:"id"`   // "prepare-1"; at most 100 of [a-z0-9-]
	Name  string `json:"name"` // for people: "prepare the node"
	Steps []Step `json:"steps"`
}

// Step is one of the kinds below: exactly one of its pointers is set.
type Step struct {
	Name  string      `json:"name"` // for people: "fetch kubelet"
	Fetch *FetchStep  `json:"fetch,omitempty"`
	File  *FileStep   `json:"file,omitempty"`
	Image *ImageStep  `json:"image,omitempty"`
	Unit  *UnitStep   `json:"unit,omitempty"`
	Run   *RunStep    `json:"run,omitempty"`
	Claim *ClaimStep  `json:"claim,omitempty"`
	Gone  *RemoveStep `json:"gone,omitempty"`
}

// FetchStep puts a content that is known by its digest in its place. It is whole
// or absent, also after a power cut.
type FetchStep struct {
	Path   string `json:"path"` // below the ticket's URL
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	To     string `json:"to"`   // absolute path on the machine
	Mode   uint32 `json:"mode"` // permission bits
}

// FileStep writes a file, or a link, whole or not at all.
type FileStep struct {
	To     string `json:"to"`
	Mode   uint32 `json:"mode"`
	Data   []byte `json:"data,omitempty"`
	Target string `json:"target,omitempty"` // a symbolic link to this path instead
}

// ImageStep fetches an archive of container images and imports it into the
// container runtime. Images that are there already are not fetched.
type ImageStep struct {
	Path       string   `json:"path"`
	SHA256     string   `json:"sha256"`
	Bytes      int64    `json:"bytes"`
	References []string `json:"references"`
}

// UnitStep is one systemctl call.
type UnitStep struct {
	Verb string `json:"verb"`           // "daemon-reload", "enable", "start", "restart", "stop", "disable"
	Name string `json:"name,omitempty"` // "kubelet.service"; not with daemon-reload
}

// RunStep runs a program without a shell. An exit status other than 0 is a
// failure whose report carries the end of the output.
type RunStep struct {
	Argv    []string      `json:"argv"` // argv[0] is an absolute path
	Timeout time.Duration `json:"timeout"`
	// Unless names a file whose presence means that this step is done.
	Unless string `json:"unless,omitempty"`
}

// ClaimStep makes sure that nobody in the segment answers to an address before
// the machine takes it (RFC 5227, ARP probe; neighbour solicitation for IPv6).
type ClaimStep struct {
	Address string `json:"address"` // without prefix length
	MAC     string `json:"mac"`     // of the port whose segment is asked
}

// RemoveStep removes a file or a folder with all below it.
type RemoveStep struct {
	Path string `json:"path"`
}

// TaskState is how far a task is.
type TaskState string

const (
	TaskRunning TaskState = "running"
	TaskDone    TaskState = "done"
	TaskFailed  TaskState = "failed"
)

// TaskReport says how far a task is.
type TaskReport struct {
	Instance string       `json:"instance"`
	Task     string       `json:"task"` // its ID
	State    TaskState    `json:"state"`
	Step     int          `json:"step"` // from 0; of Steps
	Name     string       `json:"name"` // of the step
	Done     int64        `json:"done"` // bytes fetched so far
	Total    int64        `json:"total"`
	Cause    *fleet.Cause `json:"cause,omitempty"`  // of a failure
	Output   string       `json:"output,omitempty"` // the end of what the failed program wrote
}
