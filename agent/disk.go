package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"metalrise.dev/fleet"
)

// contentsOf looks at a disk without changing it.
func (m *Machine) contentsOf(d seenDisk) (Contents, error) {
	f, err := os.Open(m.path(d.disk.Source))
	if err != nil {
		return Contents{}, fmt.Errorf("open: %s", cause(err))
	}
	defer func() { _ = f.Close() }()
	return m.contentsFrom(f, d)
}

func (m *Machine) contentsFrom(f *os.File, d seenDisk) (Contents, error) {
	size, _ := d.disk.SizeBytes.Get()
	c, err := readContents(f, size, d.sector)
	if err != nil {
		return c, err
	}
	if d.inUse != "" {
		c.add(Medium, "%s", d.inUse)
	}
	if label := m.liveLabel(); label != "" {
		for _, s := range c.Signs {
			if s.Text == "iso9660 label "+label {
				c.add(Medium, "the running system's medium")
				break
			}
		}
	}
	return c, nil
}

// liveLabel is the label of the medium a CoreOS-like live system was started
// from, as its kernel argument names it.
func (m *Machine) liveLabel() string {
	for _, arg := range strings.Fields(m.read("proc/cmdline")) {
		if label, ok := strings.CutPrefix(arg, "coreos.liveiso="); ok {
			return label
		}
	}
	return ""
}

// OpenDisk implements Host.
func (m *Machine) OpenDisk(_ context.Context, ref fleet.DiskRef) (Disk, error) {
	changed := func(err error, format string, args ...any) error {
		return fleet.NewFault(fleet.CodeDiskChanged, fleet.Conflict, err, format, args...)
	}
	var found []seenDisk
	var others []string
	for _, d := range m.disks() {
		if ref.Match(d.disk) {
			found = append(found, d)
			continue
		}
		others = append(others, fmt.Sprintf("%s (serial %q, wwn %q)", d.disk.Source, d.disk.Serial, d.disk.WWN))
	}
	if len(found) == 0 {
		return nil, changed(nil, "not on this machine; here are %d others: %s", len(others), strings.Join(others[:min(len(others), 10)], ", "))
	}
	if len(found) > 1 {
		return nil, changed(nil, "%d disks answer to it: %s and %s", len(found), found[0].disk.Source, found[1].disk.Source)
	}
	d := found[0]
	switch {
	case d.readOnly:
		return nil, changed(nil, "%s is read-only", d.disk.Source)
	case d.inUse != "":
		return nil, changed(nil, "%s is %s", d.disk.Source, d.inUse)
	}
	f, err := os.OpenFile(m.path(d.disk.Source), os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		if errors.Is(err, unix.EBUSY) {
			return nil, changed(err, "%s is in use", d.disk.Source)
		}
		return nil, fleet.NewFault(fleet.CodeWriteFailed, fleet.Transient, err, "open %s", d.disk.Source)
	}
	out := &hostDisk{File: f, seen: d}
	if err := out.lock(); err != nil {
		_ = f.Close()
		return nil, changed(err, "%s is locked by another program", d.disk.Source)
	}
	if err := out.measure(); err != nil {
		_ = f.Close()
		return nil, changed(err, "measure %s", d.disk.Source)
	}
	if out.contents, err = m.contentsFrom(f, d); err != nil {
		_ = f.Close()
		return nil, fleet.NewFault(fleet.CodeWriteFailed, fleet.Transient, err, "look at %s", d.disk.Source)
	}
	out.seen.disk.Contents, out.seen.disk.Members, out.seen.disk.Owner = out.contents.Texts(), out.contents.Members(), out.contents.Owner
	return out, nil
}

// hostDisk is a block device, or a plain file in place of one.
type hostDisk struct {
	*os.File
	seen     seenDisk
	contents Contents
	size     int64
	isBlock  bool
}

// measure asks the device itself and compares with what was seen.
func (d *hostDisk) measure() error {
	info, err := d.Stat()
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		d.size = info.Size()
	case mode&os.ModeDevice != 0 && mode&os.ModeCharDevice == 0:
		d.isBlock = true
		var size uint64
		if err := d.ioctl(unix.BLKGETSIZE64, unsafe.Pointer(&size)); err != nil {
			return err
		}
		d.size = int64(size)
	default:
		return fmt.Errorf("it is a %s, not a block device", mode.Type())
	}
	if seen, _ := d.seen.disk.SizeBytes.Get(); seen != d.size {
		return fmt.Errorf("it has %d bytes, a moment ago %d", d.size, seen)
	}
	return nil
}

// lock keeps udev from probing the disk while it changes, as systemd's page
// "Locking Block Device Access" asks for. udev's own probes last a moment.
func (d *hostDisk) lock() error {
	var err error
	for range 50 {
		if err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
	return err
}

func (d *hostDisk) ioctl(request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

func (d *hostDisk) Seen() fleet.Disk   { return d.seen.disk }
func (d *hostDisk) Contents() Contents { return d.contents }
func (d *hostDisk) Size() int64        { return d.size }
func (d *hostDisk) SectorSize() int64  { return d.seen.sector }

// Zero lets the device do it, which many do at once, and else writes zeros.
func (d *hostDisk) Zero(off, n int64) error {
	if off < 0 || n < 0 || off+n > d.size {
		return fmt.Errorf("zero %d bytes at byte %d of a disk of %d", n, off, d.size)
	}
	var err error
	if d.isBlock {
		span := [2]uint64{uint64(off), uint64(n)}
		err = d.ioctl(unix.BLKZEROOUT, unsafe.Pointer(&span))
	} else {
		err = unix.Fallocate(int(d.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	}
	if err == nil {
		return nil
	}
	zeros := make([]byte, min(n, headSize))
	for n > 0 {
		k, err := d.WriteAt(zeros[:min(n, int64(len(zeros)))], off)
		if err != nil {
			return err
		}
		off, n = off+int64(k), n-int64(k)
	}
	return nil
}

// Discard is a hole in a plain file.
func (d *hostDisk) Discard(off, n int64) error {
	if off < 0 || n < 0 || off+n > d.size {
		return fmt.Errorf("discard %d bytes at byte %d of a disk of %d", n, off, d.size)
	}
	if !d.isBlock {
		return unix.Fallocate(int(d.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	}
	span := [2]uint64{uint64(off), uint64(n)}
	return d.ioctl(unix.BLKDISCARD, unsafe.Pointer(&span))
}

// Sync flushes, and drops what the kernel keeps of the disk in memory.
func (d *hostDisk) Sync() error {
	if err := d.File.Sync(); err != nil {
		return err
	}
	if d.isBlock {
		_ = d.ioctl(unix.BLKFLSBUF, nil) // needs a right that a container may lack; verifying is then weaker
	}
	_ = unix.Fadvise(int(d.Fd()), 0, 0, unix.FADV_DONTNEED)
	return nil
}

// Rescan is refused while something holds a partition, which nothing does.
func (d *hostDisk) Rescan() {
	if d.isBlock {
		_ = d.ioctl(unix.BLKRRPART, nil)
	}
}
