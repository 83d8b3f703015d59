package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// job is the writing of one disk.
type job struct {
	*session
	disk  Disk
	order callhome.Write
	total int64 // uncompressed bytes; 0 when unknown

	head  []byte   // the held-back start of the image
	buf   []byte   // of headSize bytes, for all that is done one after the other
	sums  []uint32 // of every further piece of headSize bytes
	last  int64    // length of the last piece
	zeros Span     // not yet written run of zeros
	dirty int64    // written since the last flush

	done atomic.Int64
	step atomic.Value // string
}

const (
	stepWriting     = "writing"
	stepVerifying   = "verifying"
	stepConfiguring = "configuring"

	reportEvery = time.Second
	maxZeros    = 64 << 20  // one request to zero; a slow disk needs a second for it
	maxDirty    = 256 << 20 // bounds what a flush has to wait for
)

func (j *job) piece() []byte {
	if j.buf == nil {
		j.buf = make([]byte, headSize)
	}
	return j.buf
}

// put takes one piece of the image.
func (j *job) put(p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	if off == 0 {
		j.head = bytes.Clone(p)
		return nil
	}
	j.sums = append(j.sums, crc32.Checksum(p, castagnoli()))
	j.last = int64(len(p))
	if len(p) == headSize && isZero(p) {
		// The disk's old content is not known to be zero, so zeros are written
		// too, but in large runs that disks can do by themselves.
		if j.zeros.Size == 0 {
			j.zeros.Offset = off
		}
		j.zeros.Size += headSize
		if j.zeros.Size < maxZeros {
			return nil
		}
		return j.flushZeros()
	}
	if err := j.flushZeros(); err != nil {
		return err
	}
	if _, err := j.disk.WriteAt(p, off); err != nil {
		return err
	}
	j.dirty += int64(len(p))
	if j.dirty < maxDirty {
		return nil
	}
	j.dirty = 0
	return j.disk.Sync()
}

func (j *job) flushZeros() error {
	if j.zeros.Size == 0 {
		return nil
	}
	err := j.disk.Zero(j.zeros.Offset, j.zeros.Size)
	j.zeros = Span{}
	return err
}

// verify reads everything behind the head back from the disk. The digest said
// that the right bytes arrived; this says that the disk has them.
func (j *job) verify(ctx context.Context) error {
	if err := j.disk.Sync(); err != nil {
		return writeFault(err, "flush")
	}
	buf := j.piece()
	for i, want := range j.sums {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		off := int64(i+1) * headSize
		p := buf
		if i == len(j.sums)-1 {
			p = buf[:j.last]
		}
		if err := readFull(j.disk, p, off); err != nil {
			return writeFault(err, "read back at byte %d", off)
		}
		if crc32.Checksum(p, castagnoli()) != want {
			return fleet.NewFault(fleet.CodeWriteFailed, fleet.Transient, nil, "the disk returns other bytes than were written, near byte %d", off)
		}
	}
	return nil
}

// bootPartition is what CoreOS calls the partition of kernel and first-boot files.
const bootPartition = "boot"

// Marker is what the agent leaves on a disk it wrote, as /metalrise.json of the
// boot partition. It tells a later site whose disk it is.
type Marker struct {
	Site       string         `json:"site"`
	Plan       string         `json:"plan"`
	Server     fleet.ServerID `json:"server"`
	Incomplete bool           `json:"incomplete"`
	Medium     string         `json:"medium,omitempty"` // the prepared medium that it came from
}

const markerName = "metalrise.json"

// configure puts our files into the boot partition.
func (j *job) configure(ctx context.Context, table *gpt) error {
	part, err := table.find(bootPartition)
	if err != nil {
		return fleet.NewFault(fleet.CodeImageMismatch, fleet.Invalid, err, "look for the boot partition of the image")
	}
	if part.Offset < headSize || part.Offset+part.Size > j.disk.Size() {
		return fleet.NewFault(fleet.CodeImageMismatch, fleet.Invalid, nil, "boot partition from byte %d, %d long: want it between the first MiB and the disk's end", part.Offset, part.Size)
	}
	m := Marker{Site: j.order.Owner, Plan: j.ticket.Plan, Server: j.ticket.Server}
	if j.carry != nil {
		m.Medium = j.carry.Medium
	}
	marker, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("make the marker: %w", err)
	}
	first, err := firstBoot(j.order.KernelArguments)
	if err != nil {
		return err
	}
	files := []File{
		{Path: "ignition/config.ign", Mode: 0o600, Data: j.order.Ignition},
		{Path: "ignition.firstboot", Mode: 0o644, Data: first, Keep: len(first) == 0},
		{Path: markerName, Mode: 0o644, Data: marker},
	}
	if err := j.host.Configure(ctx, j.disk, part, files); err != nil || j.carry == nil {
		return writeFault(err, "write ignition config into the boot partition")
	}
	return j.takeAlong(ctx, table)
}

// rootPartition is what CoreOS calls the partition of the root file system.
const rootPartition = "root"

// takeAlong lets the written system have what it is to find when it starts.
func (j *job) takeAlong(ctx context.Context, table *gpt) error {
	part, err := table.find(rootPartition)
	if err != nil {
		return fleet.NewFault(fleet.CodeImageMismatch, fleet.Invalid, err, "look for the root partition of the image")
	}
	host, ok := j.host.(Carrier)
	if !ok || part.Offset < headSize || part.Offset+part.Size > j.disk.Size() {
		return fleet.NewFault(fleet.CodeImageMismatch, fleet.Invalid, nil, "root partition from byte %d, %d long: this machine cannot write into it", part.Offset, part.Size)
	}
	return writeFault(host.Inside(ctx, j.disk, part, func(root string) error { return j.carry.Into(ctx, root) }), "put what it takes along into the written system")
}

// firstBoot is the content of /ignition.firstboot, which the boot loader of a
// CoreOS image sources at the first boot. The arguments go between quotes there,
// so only what cannot end them or be expanded is let through.
func firstBoot(args []string) ([]byte, error) {
	if len(args) == 0 {
		return nil, nil
	}
	for _, a := range args {
		for _, r := range a {
			ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.,:=/@+%[]~!", r)
			if !ok {
				return nil, fleet.NewFault(fleet.CodeWriteFailed, fleet.Invalid, nil, "kernel argument %.80q: character %q is not allowed", a, r)
			}
		}
		if a == "" || len(a) > 512 {
			return nil, fleet.NewFault(fleet.CodeWriteFailed, fleet.Invalid, nil, "kernel argument %.80q: want 1 to 512 characters", a)
		}
	}
	return []byte("set ignition_network_kcmdline=\"" + strings.Join(args, " ") + "\"\n"), nil
}

// finish makes the disk bootable: backup table, then the head without its first
// sectors, then those.
func (j *job) finish(table *gpt) error {
	const firstSectors = 4096
	tail, at, err := table.moveBackup(j.head, j.disk.Size())
	if err != nil {
		return err
	}
	for _, piece := range []struct {
		data []byte
		off  int64
	}{{tail, at}, {j.head[firstSectors:], firstSectors}, {j.head[:firstSectors], 0}} {
		if _, err := j.disk.WriteAt(piece.data, piece.off); err != nil {
			return err
		}
		if err := j.disk.Sync(); err != nil {
			return err
		}
		back := j.piece()[:len(piece.data)]
		if err := readFull(j.disk, back, piece.off); err != nil {
			return err
		}
		if !bytes.Equal(back, piece.data) {
			return fmt.Errorf("the disk returns other bytes than were written at byte %d", piece.off)
		}
	}
	j.disk.Rescan()
	return nil
}

// report tells how far the job is, each second, until the returned function is
// called. An order to hold, or a refusal, ends the job through cancel. Lost
// calls do no harm: the job goes on as long as the image arrives.
func (j *job) report(ctx context.Context, cancel context.CancelCauseFunc) (stop func()) {
	ctx, end := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(reportEvery)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			step, _ := j.step.Load().(string)
			done := j.done.Load()
			orders, err := j.line.post(ctx, callhome.PathProgress, callhome.Progress{
				Instance: j.seat.instance, Step: step, Done: done, Total: j.total,
			})
			var f *fleet.Fault
			switch {
			case err == nil && orders.Verb == callhome.Hold:
				cancel(&heldError{orders: orders})
				return
			case errors.As(err, &f) && f.Kind == fleet.Denied:
				cancel(err)
				return
			}
		}
	})
	return func() { end(); wg.Wait() }
}
