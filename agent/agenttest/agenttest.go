// Package agenttest gives machines that exist in memory only, for tests and
// benchmarks of everything that talks to agents: the agent's real code runs on
// them, with real TLS, in any number within one process. It never touches the
// computer it runs on.
package agenttest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"metalrise.dev/agent"
	"metalrise.dev/agent/node"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Host is a machine in memory. Its disks are those of its facts. It is safe for
// use by several goroutines.
type Host struct {
	mu       sync.Mutex
	facts    fleet.Facts
	disks    map[string]*Disk // by serial, else WWN
	kept     map[string][]byte
	files    map[string]agent.File
	saved    map[string][]byte
	steps    []callhome.Step
	onStep   func(context.Context, callhome.Step) error
	reboots  int
	clock    time.Time
	contents map[string]agent.Contents
}

var _ agent.Host = (*Host)(nil)

// NewHost makes a machine that shows the given facts. Disks need a known size.
func NewHost(facts fleet.Facts) *Host {
	h := &Host{facts: facts, disks: map[string]*Disk{}, kept: map[string][]byte{}, saved: map[string][]byte{}, files: map[string]agent.File{}, contents: map[string]agent.Contents{}}
	for _, d := range facts.Disks {
		size, _ := d.SizeBytes.Get()
		h.disks[name(d)] = &Disk{seen: d, size: size, chunks: map[int64][]byte{}}
	}
	return h
}

func name(d fleet.Disk) string {
	if d.Serial != "" {
		return d.Serial
	}
	return d.WWN
}

// SetContents says what is found on a disk, named by serial (or WWN).
func (h *Host) SetContents(disk string, c agent.Contents) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.contents[disk] = c
}

// Disk gives a disk by serial (or WWN), nil when there is none.
func (h *Host) Disk(name string) *Disk {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.disks[name]
}

// Files are what was written into the boot partition, by path.
func (h *Host) Files() map[string]agent.File {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]agent.File{}
	for k, v := range h.files {
		out[k] = v
	}
	return out
}

// Reboots counts how often the agent restarted the machine.
func (h *Host) Reboots() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reboots
}

// Boot forgets what a machine forgets when it starts anew.
func (h *Host) Boot() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = map[string][]byte{}
}

// Look implements agent.Host.
func (h *Host) Look(context.Context) fleet.Facts {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.facts
	f.Disks = append([]fleet.Disk(nil), f.Disks...)
	for i, d := range f.Disks {
		c := h.contents[name(d)]
		f.Disks[i].Contents, f.Disks[i].Owner = c.Texts(), c.Owner
	}
	return f
}

// OpenDisk implements agent.Host.
func (h *Host) OpenDisk(_ context.Context, ref fleet.DiskRef) (agent.Disk, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var found []*Disk
	for _, d := range h.disks {
		if ref.Match(d.seen) {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		return nil, fleet.NewFault(fleet.CodeDiskChanged, fleet.Conflict, nil, "%d disks answer to it", len(found))
	}
	found[0].contents = h.contents[name(found[0].seen)]
	return found[0], nil
}

// Configure implements agent.Host: the files are remembered, not written. What
// an older system had saved is gone with it.
func (h *Host) Configure(_ context.Context, _ agent.Disk, _ agent.Span, files []agent.File) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.saved = map[string][]byte{}
	for _, f := range files {
		h.files[f.Path] = f
	}
	return nil
}

// SetClock implements agent.Host.
func (h *Host) SetClock(now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock = now
	return nil
}

// Clock is what the clock was set to, zero when it was not.
func (h *Host) Clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.clock
}

// Reboot implements agent.Host.
func (h *Host) Reboot(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reboots++
	return nil
}

// Keep implements agent.Host.
func (h *Host) Keep(name string, value []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept[name] = append([]byte(nil), value...)
	return nil
}

// Recall implements agent.Host.
func (h *Host) Recall(name string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.kept[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return v, nil
}

// LookNode implements agent.NodeHost: facts of the node are those that the machine
// was made with.
func (h *Host) LookNode(*fleet.Facts) {}

// Save implements agent.NodeHost.
func (h *Host) Save(name string, value []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.saved[name] = append([]byte(nil), value...)
	return nil
}

// Load implements agent.NodeHost.
func (h *Host) Load(name string) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.saved[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return v, nil
}

// OnStep decides how steps end; it may block until its context ends. Without it
// they succeed.
func (h *Host) OnStep(f func(context.Context, callhome.Step) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.onStep = f
}

// Steps are the steps that were begun, in their order.
func (h *Host) Steps() []callhome.Step {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]callhome.Step(nil), h.steps...)
}

// Do implements agent.NodeHost: the step is remembered, not carried out.
func (h *Host) Do(ctx context.Context, _ node.Source, step callhome.Step, moved func(int64)) error {
	h.mu.Lock()
	h.steps = append(h.steps, step)
	f := h.onStep
	h.mu.Unlock()
	if f != nil {
		if err := f(ctx, step); err != nil {
			return err
		}
	}
	moved(node.Bytes(step))
	return nil
}

const chunk = 4096

// Disk is a disk in memory that keeps only what is not zero.
type Disk struct {
	mu       sync.Mutex
	seen     fleet.Disk
	contents agent.Contents
	size     int64
	chunks   map[int64][]byte
	writes   int64
	broken   int64
	rot      int64
	kept     bool
	discards int
}

var _ agent.Disk = (*Disk)(nil)

// Break makes every write fail once n bytes were written in all.
func (d *Disk) Break(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken = n
}

// Rot makes the byte at off read otherwise than it was written.
func (d *Disk) Rot(off int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rot = off
}

// Seen implements agent.Disk, as the next methods do.
func (d *Disk) Seen() fleet.Disk         { return d.seen }
func (d *Disk) Contents() agent.Contents { return d.contents }
func (d *Disk) Size() int64              { return d.size }
func (d *Disk) SectorSize() int64        { return 512 }
func (d *Disk) Sync() error              { return nil }
func (d *Disk) Rescan()                  {}
func (d *Disk) Close() error             { return nil }

// Written tells how many bytes were written in all, zeroing not counted.
func (d *Disk) Written() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.writes
}

// ReadAt implements io.ReaderAt.
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if start := off; d.rot > 0 {
		defer func() {
			if at := d.rot - start; at >= 0 && at < int64(len(p)) {
				p[at] ^= 1
			}
		}()
	}
	n := 0
	for n < len(p) && off < d.size {
		in := off % chunk
		k := int(min(int64(len(p)-n), chunk-in, d.size-off))
		if c := d.chunks[off/chunk]; c != nil {
			copy(p[n:n+k], c[in:])
		} else {
			clear(p[n : n+k])
		}
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (d *Disk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off < 0 || off+int64(len(p)) > d.size {
		return 0, fmt.Errorf("%d bytes at byte %d of a disk of %d", len(p), off, d.size)
	}
	if d.broken > 0 && d.writes+int64(len(p)) > d.broken {
		return 0, errors.New("input/output error")
	}
	d.writes += int64(len(p))
	for n := 0; n < len(p); {
		in := off % chunk
		k := int(min(int64(len(p)-n), chunk-in))
		c := d.chunks[off/chunk]
		if c == nil && zero(p[n:n+k]) {
			n, off = n+k, off+int64(k)
			continue
		}
		if c == nil {
			c = make([]byte, chunk)
			d.chunks[off/chunk] = c
		}
		copy(c[in:], p[n:n+k])
		n, off = n+k, off+int64(k)
	}
	return len(p), nil
}

// Zero implements agent.Disk.
func (d *Disk) Zero(off, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c, p := range d.chunks {
		from, to := max(off, c*chunk), min(off+n, (c+1)*chunk)
		switch {
		case from >= to:
		case to-from == chunk:
			delete(d.chunks, c)
		default:
			clear(p[from-c*chunk : to-c*chunk])
		}
	}
	return nil
}

// Discard implements agent.Disk. What was discarded reads as before until it is
// written again: that, too, is allowed.
func (d *Disk) Discard(int64, int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kept {
		return errors.ErrUnsupported
	}
	d.discards++
	return nil
}

// NoDiscard makes a disk that cannot discard.
func (d *Disk) NoDiscard() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept = true
}

// Discards counts the orders to discard that were obeyed.
func (d *Disk) Discards() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.discards
}

func zero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
