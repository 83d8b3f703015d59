// Package callhome holds the words a machine and metalrise exchange while the
// machine is installed: the ticket it boots with, what it reports, and the
// orders it gets. It never sends anything; package agent speaks it from the
// machine's side, package boot answers it, package provision decides.
//
// # The conversation
//
// All calls are POST requests with JSON bodies over TLS. The machine trusts
// only the certificate authority in its ticket. It shows a client certificate
// made in memory at its start; the first call that redeems a token binds the
// token to the key of that certificate, and the token is worthless with any
// other key from then on.
//
//	live system       PathHello    Hello     → Orders: go, wait or hold
//	                  PathProgress Progress  → Orders: go or hold
//	                  PathWritten  Written   → Orders: wait, then restart
//	                  PathFailed   Failed    → Orders: hold
//	installed system  PathHello    Hello     → Orders: done, or as a node: work, wait or hold
//	                  PathTask     TaskReport → the same
//
// Any call may be repeated: the answer to the same call is the same.
package callhome

import (
	"time"

	"metalrise.dev/fleet"
)

// Protocol is the version of these words. Log of changes:
//
//	1  first version
//	2  installed systems get tasks: PathTask, Work, Orders.Task
const Protocol = 2

// Paths of the calls below the base URL of a ticket.
const (
	PathHello    = "/v1/hello"
	PathProgress = "/v1/progress"
	PathWritten  = "/v1/written"
	PathFailed   = "/v1/failed"
)

// MaxBody bounds every request body, in bytes. Facts of a large server (hundreds
// of disks) are some 100 KiB.
const MaxBody = 4 << 20

// Stage is which system of a server speaks.
type Stage string

const (
	Live      Stage = "live"      // booted from the medium, in memory
	Installed Stage = "installed" // booted from the written disk
)

// Ticket is what a machine boots with. Ignition writes it to TicketPath with
// mode 0600.
type Ticket struct {
	Protocol int            `json:"protocol"`
	URL      string         `json:"url"` // "https://10.0.1.5:8443", without a path
	CA       string         `json:"ca"`  // PEM of the only authority to trust
	Token    string         `json:"token"`
	Stage    Stage          `json:"stage"`
	Site     string         `json:"site"`
	Server   fleet.ServerID `json:"server"`
	Identity fleet.Identity `json:"identity"` // the server this ticket was made for
	Plan     string         `json:"plan"`
	Attempt  int            `json:"attempt"`
}

// Where a ticket and the agent program lie on a machine.
const (
	TicketPath = "/etc/metalrise/ticket.json"
	CAPath     = "/etc/metalrise/ca.pem"
	AgentPath  = "/usr/local/bin/metalrise"
)

// Hello says who a machine is and what it sees.
type Hello struct {
	Protocol int            `json:"protocol"`
	Version  string         `json:"version"` // of the agent
	Stage    Stage          `json:"stage"`
	Instance string         `json:"instance"` // random, one per boot of the system
	Server   fleet.ServerID `json:"server"`
	Plan     string         `json:"plan"`
	Attempt  int            `json:"attempt"`
	Facts    fleet.Facts    `json:"facts"`
}

// Progress says how far a write is.
type Progress struct {
	Instance string `json:"instance"`
	Step     string `json:"step"` // "writing", "verifying", "configuring"
	Done     int64  `json:"done"` // uncompressed bytes
	Total    int64  `json:"total"`
}

// Written says that the planned disk was written, verified and flushed.
type Written struct {
	Instance string        `json:"instance"`
	Disk     fleet.DiskRef `json:"disk"`   // as found on the machine
	SHA256   string        `json:"sha256"` // of the uncompressed bytes written
	Bytes    int64         `json:"bytes"`
	Seconds  float64       `json:"seconds"`
}

// Failed says that the agent cannot go on. The machine stays up.
type Failed struct {
	Instance string      `json:"instance"`
	Cause    fleet.Cause `json:"cause"`
}

// Verb is what a machine is told to do.
type Verb string

const (
	Go      Verb = "go"      // write the disk as the orders say, or go on writing
	Wait    Verb = "wait"    // ask again after Orders.After
	Hold    Verb = "hold"    // touch nothing, stay up, ask again after Orders.After
	Restart Verb = "restart" // reboot into the written disk
	Done    Verb = "done"    // nothing more to say
)

// Orders is the answer to every call.
type Orders struct {
	Verb  Verb          `json:"verb"`
	After time.Duration `json:"after,omitempty"` // nanoseconds, with Wait and Hold
	Why   string        `json:"why,omitempty"`   // for the machine's console
	Now   time.Time     `json:"now"`             // our clock, so that the machine can set its own
	Write *Write        `json:"write,omitempty"` // with Go
	Erase *EraseOrder   `json:"erase,omitempty"` // with Erase
	Task  *Task         `json:"task,omitempty"`  // with Work
	// Ticket is who a machine is that asked, with Go.
	Ticket *Ticket `json:"ticket,omitempty"`
}

// Write is the order to write one disk.
type Write struct {
	Disk  fleet.DiskRef `json:"disk"`
	Image Image         `json:"image"`
	// Ignition is the installed system's config. It travels here, over pinned
	// TLS, because the medium itself may be read by anybody on the BMC network.
	Ignition []byte `json:"ignition"`
	// KernelArguments are added to the first boot of the installed system.
	KernelArguments []string `json:"kernelArguments,omitempty"`
	// Foreign is the serial of a disk whose foreign data a person gave up.
	Foreign string `json:"foreign,omitempty"`
	// Owner marks the disk as this site's, so that a later site refuses to erase it unasked.
	Owner string `json:"owner"`
}

// Image is the disk image and how to know it.
type Image struct {
	Path   string `json:"path"`   // below the ticket's URL
	Format string `json:"format"` // "raw.zst", "raw.gz", "raw.xz" or "raw"
	SHA256 string `json:"sha256"` // of the uncompressed bytes; decides whether the disk may boot
	Bytes  int64  `json:"bytes"`  // uncompressed; 0 when unknown
}
