package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Configure implements Host.
func (m *Machine) Configure(ctx context.Context, d Disk, part Span, files []File) error {
	return m.inside(ctx, d, part, []string{"ext4"}, func(dir string) error { return writeFiles(dir, files) })
}

// Inside implements Carrier.
func (m *Machine) Inside(ctx context.Context, d Disk, part Span, do func(dir string) error) error {
	return m.inside(ctx, d, part, []string{"ext4", "xfs", "btrfs"}, do)
}

// inside mounts a part of an open disk for as long as do takes, and flushes. It
// gives the part a loop device of its own, so that it does not matter whether the
// kernel knows the partition, and mounts that in a mount namespace of its own, so
// that nothing stays when the agent dies.
func (m *Machine) inside(_ context.Context, d Disk, part Span, kinds []string, do func(dir string) error) error {
	disk, ok := d.(*hostDisk)
	if !ok {
		return fmt.Errorf("a %T is no disk of this machine", d)
	}
	done := make(chan error, 1)
	go func() {
		// The thread has its own mounts from here on. It is never unlocked, so
		// that it ends with the goroutine, and the mounts with it.
		runtime.LockOSThread()
		done <- m.mounted(disk, part, kinds, do)
	}()
	if err := <-done; err != nil {
		return err
	}
	return disk.Sync()
}

func (m *Machine) mounted(disk *hostDisk, part Span, kinds []string, do func(dir string) error) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("keep mounts private: %w", err)
	}
	if err := os.MkdirAll(m.path(runDir), 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(m.path(runDir), "part-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(dir) }() // a folder that stays does no harm
	loop, err := m.attach(disk, part)
	if err != nil {
		return fmt.Errorf("attach a loop device: %w", err)
	}
	defer func() { _ = loop.Close() }() // detaches: the kernel was told to at the last close
	// Not by its path: only the open file is surely the device that was attached.
	source := "/proc/self/fd/" + strconv.Itoa(int(loop.Fd()))
	for _, kind := range kinds {
		if err = unix.Mount(source, dir, kind, unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, ""); err == nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("mount the partition as %s: %w", strings.Join(kinds, ", "), err)
	}
	err = do(dir)
	if umountErr := unix.Unmount(dir, 0); umountErr != nil {
		err = errors.Join(err, fmt.Errorf("unmount the partition: %w", umountErr))
	}
	return err
}

// attach binds a free loop device to a part of the disk. Another program may
// take the free one first, so it tries a few times.
func (m *Machine) attach(disk *hostDisk, part Span) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = control.Close() }()
	for try := 0; ; try++ {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("ask for a free one: %w", err)
		}
		loop, err := m.openLoop(n)
		if err != nil {
			return nil, err
		}
		config := &unix.LoopConfig{Fd: uint32(disk.Fd())}
		config.Info.Offset, config.Info.Sizelimit = uint64(part.Offset), uint64(part.Size)
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		if err = unix.IoctlLoopConfigure(int(loop.Fd()), config); err == nil {
			return loop, nil
		}
		_ = loop.Close()
		if !errors.Is(err, unix.EBUSY) || try > 20 {
			return nil, err
		}
	}
}

// openLoop opens loop device n, and makes a node for it where /dev is not kept
// by the kernel (block major 7, Documentation/admin-guide/devices.txt).
func (m *Machine) openLoop(n int) (*os.File, error) {
	name := "/dev/loop" + strconv.Itoa(n)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if !errors.Is(err, os.ErrNotExist) {
		return f, err
	}
	node := m.path("dev/.metalrise-loop" + strconv.Itoa(n)) // /run does not allow devices
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(n)))); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make a node for loop device %d: %w", n, err)
	}
	defer func() { _ = os.Remove(node) }()
	return os.OpenFile(node, os.O_RDWR, 0)
}

// writeFiles writes below dir and nowhere else: the image may hold links.
func writeFiles(dir string, files []File) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for _, f := range files {
		if err := writeFile(root, f); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
		if err := syncDir(root, path.Dir(f.Path)); err != nil {
			return fmt.Errorf("flush folder of %s: %w", f.Path, err)
		}
	}
	return nil
}

func writeFile(root *os.Root, f File) error {
	if dir := path.Dir(f.Path); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if f.Keep {
		if _, err := root.Lstat(f.Path); err == nil {
			return nil
		}
	}
	// An older file could have wider rights, or be a link.
	if err := root.Remove(f.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	out, err := root.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, f.Mode)
	if err != nil {
		return err
	}
	_, err = out.Write(f.Data)
	return errors.Join(err, out.Chmod(f.Mode), out.Sync(), out.Close())
}

func syncDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
