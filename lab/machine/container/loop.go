package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// loopMajor is the device number of loop devices (devices.txt of the kernel).
const loopMajor = 7

// loop is a loop device held by this process. The kernel detaches it by itself
// when its last user is gone, so that a killed lab leaves none.
type loop struct {
	Minor int
	path  string // of the backing file
	f     *os.File
}

func loopPath(minor int) string { return "/dev/loop" + strconv.Itoa(minor) }

// attachLoop attaches a free loop device to size bytes of a file from offset on.
// No partition is ever looked for: device nodes on the host stay as they are.
func attachLoop(path string, offset, size int64, readOnly bool) (*loop, error) {
	mode := os.O_RDWR
	var flags uint32 = unix.LO_FLAGS_AUTOCLEAR
	if readOnly {
		mode = os.O_RDONLY
		flags |= unix.LO_FLAGS_READ_ONLY
	}
	back, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, fmt.Errorf("attach loop device: %w", err)
	}
	defer back.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("attach loop device to %s: %w", path, err)
	}
	defer control.Close()
	cfg := unix.LoopConfig{Fd: uint32(back.Fd())}
	cfg.Info.Offset, cfg.Info.Sizelimit, cfg.Info.Flags = uint64(offset), uint64(size), flags
	copy(cfg.Info.File_name[:len(cfg.Info.File_name)-1], path)
	// Between asking for a free device and taking it another process may take it.
	for range 100 {
		minor, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("attach loop device to %s: find a free one: %w", path, err)
		}
		f, err := os.OpenFile(loopPath(minor), mode, 0)
		if err != nil {
			return nil, fmt.Errorf("attach loop device to %s: %w", path, err)
		}
		err = unix.IoctlLoopConfigure(int(f.Fd()), &cfg)
		if err == nil {
			return &loop{Minor: minor, path: path, f: f}, nil
		}
		f.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("attach %s to %s: %w", loopPath(minor), path, err)
		}
	}
	return nil, fmt.Errorf("attach loop device to %s: every free one was taken by others, 100 times", path)
}

// loopInfo is one attached loop device of the host.
type loopInfo struct {
	minor   int
	backing string // path as this process sees it; unreliable for a machine's own files
	fileDev uint64 // device number of the file system that holds the backing file
	ofDev   uint64 // device number of the backing block device, or fileDev
}

func attachedLoops() ([]loopInfo, error) {
	dirs, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, err
	}
	var all []loopInfo
	for _, d := range dirs {
		minor, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(d)), "loop"))
		if err != nil {
			continue
		}
		backing, err := os.ReadFile(filepath.Join(d, "backing_file"))
		if err != nil {
			continue // detached meanwhile
		}
		info, err := loopStatus(minor)
		if err != nil {
			continue
		}
		all = append(all, loopInfo{minor: minor, backing: strings.TrimSuffix(strings.TrimRight(string(backing), "\n"), " (deleted)"),
			fileDev: info.Device, ofDev: info.Rdevice})
	}
	return all, nil
}

func loopStatus(minor int) (*unix.LoopInfo64, error) {
	f, err := os.Open(loopPath(minor))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return unix.IoctlLoopGetStatus64(int(f.Fd()))
}

// detachLoop detaches a device, or has the kernel do so when its last user ends.
func detachLoop(minor int) error {
	f, err := os.Open(loopPath(minor))
	if err != nil {
		return fmt.Errorf("detach loop device: %w", err)
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("detach %s: %w", loopPath(minor), err)
	}
	return nil
}

// detachAll detaches every loop device that ours says is one of this machine
// and waits until the kernel has done so. Mounts of a dead machine are undone
// a moment after its last process ended, hence the patience.
func detachAll(ours func(loopInfo) bool) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		all, err := attachedLoops()
		if err != nil {
			return fmt.Errorf("list loop devices: %w", err)
		}
		var left []string
		for _, l := range all {
			if !ours(l) {
				continue
			}
			left = append(left, fmt.Sprintf("%s (%s)", loopPath(l.minor), l.backing))
			if err := detachLoop(l.minor); err != nil && time.Now().After(deadline) {
				return err
			}
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("loop devices are still in use: %s", strings.Join(left, ", "))
		}
		time.Sleep(20 * time.Millisecond)
	}
}
