package container

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// console is a machine's serial line: a pseudo terminal whose far end is
// /dev/console and /dev/ttyS0 inside and whose near end is copied to a writer.
type console struct {
	near *os.File
	far  *os.File // held open so that the line stays up between two users of it
	Path string   // the far end's device node on the host
	out  *lineOut
	done chan struct{}
	stop chan struct{}
}

// lineOut lets the machine and its firmware write to one line.
type lineOut struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineOut) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// What the far listener does with the bytes is no concern of the machine:
	// a serial line has no way to fail.
	_, _ = l.w.Write(p)
	return len(p), nil
}

func (l *lineOut) say(format string, a ...any) {
	fmt.Fprintf(l, format+"\r\n", a...)
}

func openConsole(out *lineOut) (*console, error) {
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open console: %w", err)
	}
	if err := unix.IoctlSetPointerInt(int(near.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		near.Close()
		return nil, fmt.Errorf("open console: unlock: %w", err)
	}
	n, err := unix.IoctlGetInt(int(near.Fd()), unix.TIOCGPTN)
	if err != nil {
		near.Close()
		return nil, fmt.Errorf("open console: ask its number: %w", err)
	}
	path := fmt.Sprintf("/dev/pts/%d", n)
	far, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		near.Close()
		return nil, fmt.Errorf("open console: %w", err)
	}
	c := &console{near: near, far: far, Path: path, out: out, done: make(chan struct{}), stop: make(chan struct{})}
	go c.copy()
	return c, nil
}

// copy carries the line until close. A hang-up by a login program inside makes
// reads fail until someone opens the line again; that is not its end.
func (c *console) copy() {
	defer close(c.done)
	buf := make([]byte, 4096)
	for {
		fds := []unix.PollFd{{Fd: int32(c.near.Fd()), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 50)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if n > 0 {
			k, err := unix.Read(int(c.near.Fd()), buf)
			if k > 0 {
				_, _ = c.out.Write(buf[:k])
				continue
			}
			if err != nil && !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
				return
			}
		}
		select {
		case <-c.stop:
			return
		default:
		}
		if n > 0 {
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// close ends the line after what is still in it was carried.
func (c *console) close() {
	close(c.stop)
	<-c.done
	c.far.Close()
	c.near.Close()
}
