package provision

import (
	"context"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// BMCs opens sessions to BMCs.
type BMCs interface {
	// Open logs in to one server's BMC, pinned to its certificate. The caller
	// closes the session.
	Open(ctx context.Context, at fleet.Endpoint) (BMC, error)
}

// BMC is a session to one server's BMC. Every call may be repeated. A call that
// may or may not have acted returns a fault of kind uncertain and does not
// repeat itself.
type BMC interface {
	// Look reads what the next decision needs.
	Look(ctx context.Context) (Sight, error)
	// Insert puts the image at url into the virtual drive that can boot it,
	// after taking out what was in it, and returns when the BMC shows it.
	Insert(ctx context.Context, url string) error
	// Eject empties the virtual drive; an empty one is success.
	Eject(ctx context.Context) error
	// BootOnce makes the next boot, and only that, go to the virtual drive.
	BootOnce(ctx context.Context) error
	// Power switches to on or off and returns when the BMC shows that state.
	// Off does not ask the operating system.
	Power(ctx context.Context, to fleet.PowerState) error
	// Close ends the session, also when ctx of other calls has ended.
	Close() error
}

// Sight is what a BMC shows of one server at one moment.
type Sight struct {
	Identity fleet.Identity   `json:"identity"`
	Power    fleet.PowerState `json:"power"`
	// Media is the image address in the virtual drive: "" when empty,
	// "unknown" when something is inserted and the BMC does not say what.
	Media    string `json:"media,omitempty"`
	BootOnce bool   `json:"bootOnce,omitempty"` // the next boot goes to the virtual drive
	// NetOnce is the way by which the next boot goes to the network; "" when it does not.
	NetOnce fleet.BootRoute `json:"netOnce,omitempty"`
}

// Journal is where events become durable.
type Journal interface {
	// Append returns when the events are durable, with sequence numbers.
	Append(ctx context.Context, events ...fleet.Event) ([]fleet.Event, error)
	// Events reads up to limit events with a sequence number above after.
	Events(ctx context.Context, after int64, limit int) ([]fleet.Event, error)
}

// Configs renders what machines boot with. It is pure. The path of the agent
// program lies below the ticket's URL.
type Configs interface {
	// Digest gives what fleet.Assignment.Ignition must be for this assignment.
	Digest(a fleet.Assignment) (string, error)
	// Live gives the Ignition config of the system on the medium.
	Live(a fleet.Assignment, ticket callhome.Ticket, agentPath string) ([]byte, error)
	// Keyfiles gives the network of the system on the medium, for its initial RAM
	// disk.
	Keyfiles(a fleet.Assignment) ([]Keyfile, error)
	// Installed gives the installed system's Ignition config and further kernel
	// arguments of its first boot.
	Installed(a fleet.Assignment, ticket callhome.Ticket, agentPath string) (config []byte, kernelArguments []string, err error)
}

// Archive keeps what is too large for the journal.
type Archive interface {
	// Plan reads a stored plan; false when there is none with that id.
	Plan(ctx context.Context, id string) (fleet.Plan, bool, error)
	// KeepFacts stores what an agent saw of a server.
	KeepFacts(ctx context.Context, server fleet.ServerID, facts fleet.Facts) error
	// OutOfBand reads what the BMC told of a server; false when nothing is kept.
	OutOfBand(ctx context.Context, id fleet.Identity) (fleet.Facts, bool, error)
}

// Routes finds our own address as a given host reaches it.
type Routes interface {
	// Towards gives the base URL for callers at host (an IP address).
	Towards(host string) (string, error)
}

// Limits bound what is done at once and how long things may take. The zero
// value of a field takes the default beside it.
type Limits struct {
	BMCSessions   int           // 64; each is one TLS connection and at most one request in flight here
	ActionTries   int           // 5; tries of one action before a server is held
	AutoAttempts  int           // 2; boots tried without a person, as long as no write was granted
	Backoff       time.Duration // 2 s; doubled with each try, at most 1 min
	ActionTimeout time.Duration // 5 min; slow BMCs fetch a whole image before they answer
	BootTimeout   time.Duration // 20 min; POST of large servers takes up to 10
	AgentSilence  time.Duration // 3 min; the agent speaks at least each 10 s while it writes
	ArriveTimeout time.Duration // 20 min; as BootTimeout
	NodeSilence   time.Duration // 2 min; a node speaks at least each 20 s
	EraseTimeout  time.Duration // 30 min; disks that cannot discard are written over only where it matters
	TokenLife     time.Duration // 1 h; a join on a slow disk takes minutes
	AdmitTimeout  time.Duration // 10 min
	ReadyTimeout  time.Duration // 20 min; images are loaded already, so this is for slow disks

	MediaLife  time.Duration // 3 boots; addresses of an attempt that shows no sign of life end after it
	MediaMost  time.Duration // 24 h; and in any case so long after they were given away: 1 GiB at 100 kbit/s
	SharedLife time.Duration // 7 days; disk image, agent and software after the last sign of any server

	StackTries       int           // 2; tries of one component or proof before a person must act
	StackBackoff     time.Duration // 15 s; doubled with each try, at most 1 min
	ComponentTimeout time.Duration // 75 min; whoever installs gives up sooner, and knows why
	ProofTimeout     time.Duration // 60 min; a fence waits for a large server's POST, a ring of 30 nodes for 30 migrations
}

func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	num := func(d *int, v int) {
		if *d <= 0 {
			*d = v
		}
	}
	num(&l.BMCSessions, 64)
	num(&l.ActionTries, 5)
	num(&l.AutoAttempts, 2)
	set(&l.Backoff, 2*time.Second)
	set(&l.ActionTimeout, 5*time.Minute)
	set(&l.BootTimeout, 20*time.Minute)
	set(&l.AgentSilence, 3*time.Minute)
	set(&l.ArriveTimeout, 20*time.Minute)
	set(&l.NodeSilence, 2*time.Minute)
	set(&l.EraseTimeout, 30*time.Minute)
	set(&l.TokenLife, time.Hour)
	set(&l.AdmitTimeout, 10*time.Minute)
	set(&l.ReadyTimeout, 20*time.Minute)
	set(&l.MediaLife, 3*l.BootTimeout)
	set(&l.MediaMost, 24*time.Hour)
	set(&l.SharedLife, 7*24*time.Hour)
	num(&l.StackTries, 2)
	set(&l.StackBackoff, 15*time.Second)
	set(&l.ComponentTimeout, 75*time.Minute)
	set(&l.ProofTimeout, time.Hour)
	return l
}
