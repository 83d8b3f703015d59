package agent

import (
	"context"
	"io"
	"os"
	"time"

	"metalrise.dev/agent/node"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Host is the machine under the agent. NewHost gives the real one.
type Host interface {
	// Look gathers what can be seen of the machine now. What cannot be read is
	// unknown and listed in Facts.Problems.
	Look(ctx context.Context) fleet.Facts

	// OpenDisk finds the one disk that ref names and opens it exclusively.
	// None or several, or one that is read-only, mounted or otherwise in use,
	// is a fleet.Fault with CodeDiskChanged. Nothing is written.
	OpenDisk(ctx context.Context, ref fleet.DiskRef) (Disk, error)

	// Configure mounts the file system in the given part of an open disk and
	// writes the files into it, flushed when it returns.
	Configure(ctx context.Context, d Disk, part Span, files []File) error

	// SetClock sets the machine's clock.
	SetClock(now time.Time) error

	// Reboot flushes everything and restarts the machine. It may return before
	// the machine is down.
	Reboot(ctx context.Context) error

	// Keep stores a small secret value until the next boot of the machine,
	// Recall finds it again, fs.ErrNotExist when there is none.
	Keep(name string, value []byte) error
	Recall(name string) ([]byte, error)

	NodeHost
}

// Carrier is a Host that can also work inside a system it just wrote.
type Carrier interface {
	// Inside mounts the file system in the given part of an open disk and calls do
	// with the folder where it is. All is flushed when it returns.
	Inside(ctx context.Context, d Disk, part Span, do func(dir string) error) error
}

// NodeHost is what an installed system can do besides.
type NodeHost interface {
	// LookNode adds to the facts what only an installed system is asked for.
	LookNode(f *fleet.Facts)

	// Save stores a small secret value for as long as the system is installed,
	// whole or not at all, also when power is cut; Load finds it again,
	// fs.ErrNotExist when there is none.
	Save(name string, value []byte) error
	Load(name string) ([]byte, error)

	// Do carries out one step of a task, as node.System does.
	Do(ctx context.Context, from node.Source, step callhome.Step, moved func(bytes int64)) error
}

// Disk is one disk, opened exclusively.
type Disk interface {
	io.ReaderAt
	io.WriterAt
	Seen() fleet.Disk   // as looked at when it was opened
	Contents() Contents // of the same moment
	Size() int64        // bytes
	SectorSize() int64  // logical, bytes
	// Zero makes n bytes from off on read as zero.
	Zero(off, n int64) error
	// Discard tells the disk that n bytes from off on are no longer needed; what
	// it returns for them is not defined. An error where the disk cannot.
	Discard(off, n int64) error
	// Sync returns when everything written is durable. Reads after it come from
	// the disk, not from memory, where the kernel allows that.
	Sync() error
	// Rescan asks the kernel to read the partition table again, if it can.
	Rescan()
	Close() error
}

// Span is a part of a disk, in bytes.
type Span struct {
	Offset, Size int64
}

// File is one file to be written, with its path inside the file system.
type File struct {
	Path string
	Mode os.FileMode
	Data []byte
	// Keep leaves a file alone that is already there.
	Keep bool
}

// Contents is what was found on a disk.
type Contents struct {
	Signs []Sign
	Owner string // the site whose marker was found, or ""
}

// Sign is one thing found on a disk.
type Sign struct {
	Kind SignKind
	Text string // for people
}

// SignKind tells how much a sign means.
type SignKind string

const (
	Empty     SignKind = "empty"     // a partition table without partitions, or nothing at all
	Partition SignKind = "partition" // a partition, whatever it holds
	Data      SignKind = "data"      // a file system or another thing that lives on this disk alone
	Member    SignKind = "member"    // a member of something larger: a pool, an array, a cluster's store
	Medium    SignKind = "medium"    // the running system's own medium
)

// Members lists the signs of something larger than this disk.
func (c Contents) Members() []string {
	var out []string
	for _, s := range c.Signs {
		if s.Kind == Member {
			out = append(out, s.Text)
		}
	}
	return out
}

// Texts lists all signs for fleet.Disk.Contents. It is never empty.
func (c Contents) Texts() []string {
	out := make([]string, 0, len(c.Signs))
	for _, s := range c.Signs {
		out = append(out, s.Text)
	}
	if len(out) == 0 {
		out = append(out, "nothing known")
	}
	return out
}
