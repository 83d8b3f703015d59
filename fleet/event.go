package fleet

import (
	"encoding/json"
	"time"
)

// Event is one line of the journal. Events are appended, never changed. The
// first event of an action on the world (Began) is durable before the action
// starts; an action without its Ended event has an uncertain outcome.
type Event struct {
	Seq     int64           `json:"seq"` // given by the journal, rising without gaps
	At      time.Time       `json:"at"`
	Server  ServerID        `json:"server,omitempty"` // "" for the site as a whole
	Plan    string          `json:"plan,omitempty"`
	Attempt int             `json:"attempt,omitempty"`
	Action  Action          `json:"action"`
	Edge    Edge            `json:"edge"`
	Outcome Outcome         `json:"outcome,omitempty"` // of an Ended event
	Cause   *Cause          `json:"cause,omitempty"`   // why an Ended event is not OK, or why a server is held
	Note    string          `json:"note,omitempty"`    // one sentence for people
	Data    json.RawMessage `json:"data,omitempty"`    // a shape that belongs to the action; see package provision
}

// Action is something done to, or learnt from, one server or the site.
type Action string

const (
	ActEnroll   Action = "enroll"    // an address became a server
	ActInspect  Action = "inspect"   // facts were read out-of-band
	ActPlan     Action = "plan"      // a plan was made and stored
	ActConsent  Action = "consent"   // a person allowed the erasures of a plan
	ActWithdraw Action = "withdraw"  // a person took the consent back: nothing more is begun under it
	ActStage    Action = "stage"     // an attempt's media address and token came into force
	ActIdentify Action = "identify"  // the BMC was asked whether it is still the same server
	ActEject    Action = "eject"     // medium taken out of the virtual drive
	ActInsert   Action = "insert"    // medium put into the virtual drive
	ActStranger Action = "stranger"  // a machine that no plan names asked to boot from the network and got no answer
	ActProbe    Action = "probe"     // the BMC was asked to fetch a tiny medium, to learn which routes will carry
	ActFetch    Action = "fetch"     // the attempt's medium was asked for, or read
	ActBootOnce Action = "boot-once" // next boot goes to the virtual drive, or where else the attempt's route leads
	ActPowerOff Action = "power-off"
	ActPowerOn  Action = "power-on"
	ActHello    Action = "hello"    // the live system called home and its facts were judged
	ActWrite    Action = "write"    // the agent was let write the planned disk; destructive
	ActRestart  Action = "restart"  // the agent was let reboot into the written disk
	ActArrive   Action = "arrive"   // the installed system reported itself
	ActHold     Action = "hold"     // the server needs a person
	ActRetry    Action = "retry"    // a person asked for another attempt
	ActFinish   Action = "finish"   // the run of a plan is over for this server
	ActProgress Action = "progress" // how far a running action is; may be thinned out

	// From an installed server to a node of the cluster.
	ActPrepare Action = "prepare" // the installed system was given the nodes' software
	ActBegin   Action = "begin"   // the first control plane was let initialize the cluster
	ActBase    Action = "base"    // what every cluster needs was applied: pod network, rules of admission
	ActInvite  Action = "invite"  // a token for one node came into force
	ActJoin    Action = "join"    // the node was let join with its token
	ActAdmit   Action = "admit"   // the API shows the node as the planned server; its token was revoked
	ActReady   Action = "ready"   // every check of the node is true
	ActReset   Action = "reset"   // what a failed join left on the node was removed

	// The VM platform on a cluster; events of the site as a whole.
	ActComponent Action = "component" // a component was applied, and became ready
	ActProve     Action = "prove"     // one step of the ring of proofs; it starts, moves and switches off VMs of its own
	ActHandOver  Action = "hand-over" // all is there and proven, or waived by name

	// From a node to a server that may be taken away.
	ActDrain  Action = "drain"  // its pods and VMs were moved or ended
	ActLeave  Action = "leave"  // it left etcd and the cluster
	ActErase  Action = "erase"  // its install disk was erased; destructive
	ActRemove Action = "remove" // a person asked for it, and it is done
)

// Edge is where in its life an action is.
type Edge string

const (
	Began      Edge = "began"
	Progressed Edge = "progressed"
	Ended      Edge = "ended"
)

// Outcome is how an action ended.
type Outcome string

const (
	OK        Outcome = "ok"
	Adopted   Outcome = "adopted"   // the reply was lost, but looking showed that it was done
	Failed    Outcome = "failed"    // it was surely not done
	Uncertain Outcome = "uncertain" // nobody knows; look before acting again
)

// Cause is a fault as it is kept in the journal.
type Cause struct {
	Code  Code     `json:"code"`
	Kind  Kind     `json:"kind"`
	Chain []string `json:"chain"` // outermost first
}

// Phase is a milestone on a server's way. Each can be checked again by looking.
type Phase string

const (
	Enrolled  Phase = "Enrolled"
	Inspected Phase = "Inspected"
	Planned   Phase = "Planned"
	Staged    Phase = "Staged"
	Booted    Phase = "Booted"
	Installed Phase = "Installed"
	Joined    Phase = "Joined"
	Ready     Phase = "Ready"
)

// Phases lists all phases in the order a server passes them.
func Phases() []Phase {
	return []Phase{Enrolled, Inspected, Planned, Staged, Booted, Installed, Joined, Ready}
}

// Ironic gives OpenStack Ironic's name for the state a server of this phase
// would have there, for people who know that one. Source: Ironic's bare metal
// state machine documentation.
func (p Phase) Ironic() string {
	switch p {
	case Enrolled:
		return "enroll"
	case Inspected:
		return "manageable"
	case Planned:
		return "available"
	case Staged:
		return "deploying"
	case Booted:
		return "wait call-back"
	case Installed, Joined, Ready:
		return "active"
	}
	return ""
}

// Condition is the second axis: what is happening to a server now. Trouble
// changes the condition, never the phase.
type Condition string

const (
	Idle    Condition = "Idle"    // no plan is being applied to it
	Moving  Condition = "Moving"  // an action is under way
	Waiting Condition = "Waiting" // for the machine, the BMC or a retry time
	Held    Condition = "Held"    // a person must act
	Settled Condition = "Settled" // the plan is fulfilled
)

// Status is where one server is, for people and programs. It is folded from
// the journal and never stored.
type Status struct {
	Server    ServerID  `json:"server"`
	Hostname  string    `json:"hostname,omitempty"`
	Role      Role      `json:"role,omitempty"`
	BMC       string    `json:"bmc"`
	Phase     Phase     `json:"phase"`
	Condition Condition `json:"condition"`
	Attempt   int       `json:"attempt,omitempty"`
	// Route is the rung of the boot ladder that the attempt uses, Missed those
	// above it that did not carry.
	Route  BootRoute    `json:"route,omitempty"`
	Missed []RouteFault `json:"missed,omitempty"`
	// Medium is what the BMC is given on that route, Fetched how many bytes of it
	// the BMC read.
	Medium  Medium `json:"medium,omitempty"`
	Fetched int64  `json:"fetched,omitempty"`
	// Routes is the boot ladder, as long as the server is still to be booted
	// from a medium.
	Routes []RouteOffer `json:"routes,omitempty"`
	Step   string       `json:"step"` // one line: what is happening, or waited for
	Since  time.Time    `json:"since"`
	// Deadline is when waiting becomes a fault; zero when nothing is waited for.
	Deadline time.Time  `json:"deadline,omitzero"`
	Done     int64      `json:"done,omitempty"`  // of Total bytes, while writing
	Total    int64      `json:"total,omitempty"` //
	Cause    *Cause     `json:"cause,omitempty"` // while held
	KVM      Maybe[KVM] `json:"kvm,omitzero"`    // as the installed system reported
	// Checks are those of the server as a node of the cluster, once it is one.
	Checks []Check `json:"checks,omitempty"`
}

// Overview is where all servers of a run are, for people and programs.
type Overview struct {
	Site    string    `json:"site"`
	Plan    string    `json:"plan,omitempty"`
	At      time.Time `json:"at"`
	Quiet   bool      `json:"quiet"`   // nothing moves: every server is settled or held
	Engine  bool      `json:"engine"`  // an engine is running
	Servers []Status  `json:"servers"` // in plan order
	// Strangers are machines that asked to boot from the network and that the plan
	// does not name. They got no answer.
	Strangers []Stranger `json:"strangers,omitempty"`
	// Cluster is nil where the plan ends with installed hosts.
	Cluster *ClusterStatus `json:"cluster,omitempty"`
	// Stack is nil where the plan ends with ready nodes.
	Stack *StackStatus `json:"stack,omitempty"`
}

// Stranger is a machine that asked to boot from the network and that no plan
// names, by its own word.
type Stranger struct {
	MAC  string    `json:"mac"`
	UUID string    `json:"uuid,omitempty"`
	Arch string    `json:"arch,omitempty"`
	At   time.Time `json:"at"` // when it asked last

	// Of a machine that said more of itself, in a live system.
	Serial string `json:"serial,omitempty"`
	Model  string `json:"model,omitempty"` // with its manufacturer
	Rule   string `json:"rule,omitempty"`  // that it matches
	Code   Code   `json:"code,omitempty"`  // why it is held, where that has a page
	Note   string `json:"note,omitempty"`  // what becomes of it
}

// Found is what answers at one address, as far as it tells without a login.
type Found struct {
	Address     string    `json:"address"` // host:port
	At          time.Time `json:"at"`
	Fingerprint string    `json:"fingerprint,omitempty"` // SHA-256 of its TLS certificate
	Vendor      string    `json:"vendor,omitempty"`
	Product     string    `json:"product,omitempty"`
	Redfish     string    `json:"redfish,omitempty"`  // version of the service
	UUID        string    `json:"uuid,omitempty"`     // of the service, not of a server
	What        string    `json:"what"`               // "redfish", or what it is instead
	Why         string    `json:"why,omitempty"`      // how that was known
	Outdated    Code      `json:"outdated,omitempty"` // BMC-016 to BMC-018 where its TLS is outdated
	Position    string    `json:"position,omitempty"` // in the rack, as a CSV file told
	// Only a login tells what follows; it stays empty until then.
	Behind   string     `json:"behind,omitempty"`          // "server", "multi-server enclosure", "dpu", …
	Username string     `json:"username,omitempty"`        // of the login that worked
	Lockout  Maybe[int] `json:"lockoutThreshold,omitzero"` // refused logins after which an account is locked; 0: never
}
