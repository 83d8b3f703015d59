package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

const (
	// headSize is how much of the disk's start is held back: partition tables
	// and boot code end before 1 MiB, where the first partition begins.
	headSize = 1 << 20
	minDisk  = 4 * headSize
	maxImage = 1 << 40
)

// heldError says that metalrise told us to stop. It is no fault.
type heldError struct{ orders callhome.Orders }

func (e *heldError) Error() string { return "told to hold: " + printable(e.orders.Why) }

// write does the one destructive thing. It returns an error with the disk's
// head cleared, or the finished disk.
func (s *session) write(ctx context.Context, w callhome.Write) (callhome.Written, error) {
	var none callhome.Written
	if err := checkOrder(w); err != nil {
		return none, err
	}
	if !s.ticket.Identity.Match(s.facts.Identity) {
		return none, fleet.NewFault(fleet.CodeFactsDiffer, fleet.Conflict, nil,
			"this machine is %+v, the ticket was made for %+v", s.facts.Identity, s.ticket.Identity)
	}
	began := time.Now()
	disk, err := s.host.OpenDisk(ctx, w.Disk)
	if err != nil {
		return none, fmt.Errorf("find disk %s: %w", w.Disk, err)
	}
	defer func() { _ = disk.Close() }()
	if err := mayErase(disk, w); err != nil {
		return none, err
	}
	job := &job{session: s, disk: disk, order: w, total: w.Image.Bytes}
	if err := job.run(ctx); err != nil {
		return none, err
	}
	seen := disk.Seen()
	out := callhome.Written{
		Instance: s.seat.instance,
		Disk:     fleet.DiskRef{WWN: seen.WWN, Serial: seen.Serial, SizeBytes: disk.Size(), Model: seen.Model},
		SHA256:   w.Image.SHA256,
		Bytes:    job.done.Load(),
		Seconds:  time.Since(began).Seconds(),
	}
	b, err := json.Marshal(out)
	if err == nil {
		err = s.host.Keep(writtenName, b)
	}
	if err != nil {
		s.say("remember that the disk is written: %v", err) // costs only a restarted agent's memory
	}
	s.say("wrote and verified %d bytes in %.0f s", out.Bytes, out.Seconds)
	return out, nil
}

// checkOrder refuses what cannot be meant, before any disk is touched.
func checkOrder(w callhome.Write) error {
	bad := func(format string, args ...any) error {
		return fleet.NewFault(fleet.CodeWriteFailed, fleet.Invalid, nil, "order to write: "+format, args...)
	}
	sum, err := hex.DecodeString(w.Image.SHA256)
	switch {
	case w.Disk.WWN == "" && w.Disk.Serial == "":
		return bad("the disk has neither WWN nor serial")
	case err != nil || len(sum) != sha256.Size || strings.ToLower(w.Image.SHA256) != w.Image.SHA256:
		return bad("sha256 %.70q is not 64 lower-case hexadecimal digits", w.Image.SHA256)
	case w.Image.Bytes < 0 || w.Image.Bytes > maxImage:
		return bad("image of %d bytes", w.Image.Bytes)
	case len(w.Ignition) == 0:
		return bad("no ignition config: the system would come up without anything")
	case w.Owner == "":
		return bad("no owner: the disk could not be marked")
	}
	_, err = firstBoot(w.KernelArguments)
	return err
}

// mayErase looks at the opened disk once more before the first byte is written.
func mayErase(d Disk, w callhome.Write) error {
	if err := mayTake(d, w.Disk, w.Owner, w.Foreign); err != nil {
		return err
	}
	if d.Size() < minDisk || w.Image.Bytes > d.Size() {
		return fleet.NewFault(fleet.CodeDiskChanged, fleet.Conflict, nil, "disk %s has %d bytes, the image %d", w.Disk, d.Size(), w.Image.Bytes)
	}
	return nil
}

// mayTake refuses a disk that is not the ordered one, that the running system
// lives on, or that holds what belongs to others than owner. A person may have
// given up the foreign data of the disk with serial (or WWN) foreign.
func mayTake(d Disk, want fleet.DiskRef, owner, foreign string) error {
	seen := d.Seen()
	if !want.Match(seen) {
		return fleet.NewFault(fleet.CodeDiskChanged, fleet.Conflict, nil, "the disk that was opened has serial %q and wwn %q, planned was %s", seen.Serial, seen.WWN, want)
	}
	if seen.Removable {
		return fleet.NewFault(fleet.CodeDiskChanged, fleet.Conflict, nil, "disk %s is removable", want)
	}
	for _, sign := range d.Contents().Signs {
		if sign.Kind == Medium {
			return fleet.NewFault(fleet.CodeDiskForeign, fleet.Conflict, nil, "disk %s holds the running system (%s)", want, sign.Text)
		}
	}
	seen.Members, seen.Owner = d.Contents().Members(), d.Contents().Owner
	if others := fleet.Foreign(owner, seen); len(others) > 0 && !fleet.GivenUp(foreign, seen) {
		return fleet.NewFault(fleet.CodeDiskForeign, fleet.Conflict, nil, "disk %s carries data of somebody else: %s", want, strings.Join(others, ", "))
	}
	return nil
}

// run takes the disk from erased to bootable, or leaves its head cleared.
func (j *job) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer j.report(ctx, cancel)()
	defer func() {
		if err == nil {
			return
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause // why it was stopped says more than where
		}
		var held *heldError
		if clearErr := j.clear(); clearErr != nil {
			err = fmt.Errorf("%w (and clearing the start of the disk: %v)", err, clearErr)
		} else if !errors.As(err, &held) {
			err = fmt.Errorf("disk %s, its start is cleared: %w", j.order.Disk, err)
		}
	}()
	j.step.Store(stepWriting)
	if err := j.clear(); err != nil {
		return fleet.NewFault(fleet.CodeWriteFailed, fleet.Transient, err, "clear the start of the disk")
	}
	if err := j.stream(ctx); err != nil {
		return err
	}
	j.step.Store(stepVerifying)
	if err := j.verify(ctx); err != nil {
		return err
	}
	j.step.Store(stepConfiguring)
	table, err := parseGPT(j.head, j.disk.SectorSize())
	if err != nil {
		return fleet.NewFault(fleet.CodeImageMismatch, fleet.Invalid, err, "image for disks with sectors of %d bytes", j.disk.SectorSize())
	}
	if err := j.configure(ctx, table); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := j.finish(table); err != nil {
		return fleet.NewFault(fleet.CodeWriteFailed, fleet.Transient, err, "write the start of the disk")
	}
	return nil
}

// clear makes the disk unbootable: no partition table, no boot code, no backup
// of the table, no signature that a firmware or kernel would find.
func (j *job) clear() error {
	size := j.disk.Size()
	for _, off := range []int64{0, size - headSize} {
		if err := j.disk.Zero(off, headSize); err != nil {
			return fmt.Errorf("zero at byte %d: %w", off, err)
		}
	}
	if err := j.disk.Sync(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// stream writes everything but the head and compares the digest.
func (j *job) stream(ctx context.Context) error {
	limit := j.disk.Size()
	if j.order.Image.Bytes > 0 {
		limit = j.order.Image.Bytes
	}
	src, err := j.line.fetch(ctx, j.order.Image.Path, limit+slack, j.say)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	plain, err := unpack(j.order.Image.Format, src)
	if err != nil {
		return writeFault(err, "open image")
	}
	defer func() { _ = plain.Close() }()
	sum := sha256.New()
	if err := j.copy(ctx, plain, sum, limit); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != j.order.Image.SHA256 {
		return fleet.NewFault(fleet.CodeImageMismatch, fleet.Invalid, nil, "the image of %d bytes has sha256 %s, planned was %s", j.done.Load(), got, j.order.Image.SHA256)
	}
	if n := j.done.Load(); j.order.Image.Bytes > 0 && n != j.order.Image.Bytes {
		return fleet.NewFault(fleet.CodeImageMismatch, fleet.Invalid, nil, "the image has %d bytes, planned were %d", n, j.order.Image.Bytes)
	}
	return nil
}

// copy moves the image to the disk in steps of headSize, the first of which
// only goes to memory.
func (j *job) copy(ctx context.Context, src io.Reader, sum io.Writer, limit int64) error {
	buf := j.piece()
	for off := int64(0); ; off += headSize {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := fill(src, buf)
		end := err == io.EOF
		if err != nil && !end {
			return writeFault(err, "read image at uncompressed byte %d", off)
		}
		if off+int64(n) > limit {
			return fleet.NewFault(fleet.CodeImageMismatch, fleet.Invalid, nil, "the image is longer than the %d bytes it may have", limit)
		}
		_, _ = sum.Write(buf[:n]) // a hash never fails
		if err := j.put(buf[:n], off); err != nil {
			return writeFault(err, "write at byte %d", off)
		}
		j.done.Add(int64(n))
		if end {
			break
		}
	}
	if len(j.head) < headSize {
		return fleet.NewFault(fleet.CodeImageMismatch, fleet.Invalid, nil, "the image has %d bytes, which is no disk image", len(j.head))
	}
	return writeFault(j.flushZeros(), "zero")
}

// writeFault gives an error the code of a broken write, unless it has one.
func writeFault(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	var f *fleet.Fault
	if errors.As(err, &f) {
		return err
	}
	return fleet.NewFault(fleet.CodeWriteFailed, fleet.Transient, err, format, args...)
}
