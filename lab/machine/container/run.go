package container

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"metalrise.dev/lab/machine"
)

// run is one time from power on to power off: what has to be undone after it.
type run struct {
	m       *Machine
	out     *lineOut
	loops   []*loop
	group   *group
	console *console
	stage   string
	devs    map[uint64]bool // device numbers of file systems that are not in mounts

	mu     sync.Mutex // over mounts
	mounts *os.File   // mount table of the machine, readable after its death
}

func (r *run) attach(path string, offset, size int64, readOnly bool) (*loop, error) {
	l, err := attachLoop(path, offset, size, readOnly)
	if err == nil {
		r.loops = append(r.loops, l)
	}
	return l, err
}

// start makes the namespaces with everything in them and runs the machine
// until it stops.
func (r *run) start(ctx context.Context, p *plan) (machine.Stop, error) {
	if err := raiseHostLimits(); err != nil {
		return "", err
	}
	var err error
	if r.group, err = newGroup(r.m.groupName()); err != nil {
		return "", err
	}
	if r.console, err = openConsole(r.out); err != nil {
		return "", err
	}
	if r.stage, err = os.MkdirTemp(r.m.spec.Dir, stagePattern); err != nil {
		return "", err
	}
	p.Console, p.Stage, p.BootID = r.console.Path, r.stage, newUUID()
	for _, h := range r.group.in {
		p.Cgroups = append(p.Cgroups, cgroupMount{Name: h.name, Options: h.options})
	}
	if ctx.Err() != nil {
		return machine.Killed, nil
	}
	child, err := r.spawn()
	if err != nil {
		return "", err
	}
	return r.supervise(ctx, child, p)
}

// newUUID makes a random UUID (RFC 4122, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// child is the machine's process 1 as the host sees it.
type child struct {
	pid    int
	link   *os.File // our end of the pipe: the plan goes in, words come out
	exited chan exit
}

type exit struct {
	status syscall.WaitStatus
	err    error
}

// spawn starts process 1 in new namespaces. It lives on one thread that stays
// until it ends, as the kernel kills it when the thread that made it ends.
func (r *run) spawn() (*child, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{initName}, Env: []string{"PATH=" + guestPath}, Dir: "/",
		Stdin: r.console.far, Stdout: r.console.far, Stderr: r.console.far, ExtraFiles: []*os.File{theirs},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWPID | unix.CLONE_NEWNET,
			Pdeathsig:  syscall.SIGKILL,
			Setsid:     true,
		},
	}
	c := &child{link: ours, exited: make(chan exit, 1)}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			c.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		var e *exec.ExitError
		if errors.As(err, &e) {
			err = nil
		}
		c.exited <- exit{cmd.ProcessState.Sys().(syscall.WaitStatus), err}
	}()
	if err := <-started; err != nil {
		ours.Close()
		return nil, fmt.Errorf("start process 1: %w", err)
	}
	return c, nil
}

func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make pipe: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "link"), os.NewFile(uintptr(fds[1]), "link"), nil
}

// word is what process 1 says over the pipe before the system takes over.
type word string

const (
	wordMounted   word = "mounted"   // the machine has a new root and mount table
	wordFileDev   word = "filedev"   // followed by the device number that files of the root show
	wordNotBooted word = "notbooted" // followed by why
	wordFault     word = "fault"     // followed by what the lab could not do
	wordReset     word = "reset"     // the initramfs asks for a reset
)

// supervise tells process 1 what to do and waits for its end or ctx's.
func (r *run) supervise(ctx context.Context, c *child, p *plan) (machine.Stop, error) {
	kill := func() { _ = unix.Kill(c.pid, unix.SIGKILL) }
	setup := r.furnish(c, p)
	if setup != nil {
		kill()
	} else {
		r.m.setPID(c.pid)
		defer r.m.setPID(0)
	}
	said := make(chan words, 1)
	go func() { said <- r.listen(c) }()
	var end exit
	select {
	case end = <-c.exited:
	case <-ctx.Done():
		r.pullPlug()
		kill()
		end = <-c.exited
	}
	c.link.Close()
	last := <-said
	switch {
	case setup != nil:
		return "", setup
	case end.err != nil:
		return "", fmt.Errorf("wait for process 1: %w", end.err)
	case ctx.Err() != nil && end.status.Signaled() && end.status.Signal() == syscall.SIGKILL:
		return machine.Killed, nil
	case last.word == wordFault:
		return "", errors.New(last.text)
	case last.word == wordNotBooted:
		r.out.say("No bootable device: %s", last.text)
		return machine.NotBooted, nil
	case last.word == wordReset:
		return machine.Rebooted, nil
	case end.status.Signaled() && end.status.Signal() == syscall.SIGHUP:
		return machine.Rebooted, nil // reboot(2): a restart inside a PID namespace
	case end.status.Signaled() && end.status.Signal() == syscall.SIGINT:
		return machine.PoweredOff, nil // reboot(2): halt or power off
	}
	// Process 1 ended without asking for either: a kernel would panic and stay.
	r.out.say("Kernel panic - not syncing: Attempted to kill init! (%s)", describeExit(end.status))
	<-ctx.Done()
	return machine.Killed, nil
}

func describeExit(s syscall.WaitStatus) string {
	if s.Signaled() {
		return "signal " + strconv.Itoa(int(s.Signal()))
	}
	return "exit code " + strconv.Itoa(s.ExitStatus())
}

// furnish does what only the host can do for process 1, then lets it begin.
func (r *run) furnish(c *child, p *plan) error {
	// What a killed lab left under the same names would be in the way.
	if err := errors.Join(r.m.unplug(), r.group.remove()); err != nil {
		return err
	}
	if err := r.group.create(r.m.spec, c.pid); err != nil {
		return err
	}
	if err := r.m.plug(c.pid); err != nil {
		return err
	}
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("write plan: %w", err)
	}
	if _, err := c.link.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("hand the plan to process 1: %w", err)
	}
	return nil
}

type words struct {
	word word
	text string
}

// listen keeps the last thing process 1 says before the pipe closes.
func (r *run) listen(c *child) (last words) {
	lines := bufio.NewReader(io.LimitReader(c.link, 1<<20))
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return last
		}
		w, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		last = words{word(w), text}
		switch last.word {
		case wordMounted:
			r.holdMounts(c.pid)
		case wordFileDev:
			if n, err := strconv.ParseUint(text, 10, 64); err == nil {
				r.devs[n] = true
			}
		}
	}
}

// holdMounts opens the machine's mount table as seen from its root of now. Held
// open, it can be read when nobody lives in it any more.
func (r *run) holdMounts(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mounts != nil {
		r.mounts.Close()
	}
	r.mounts, _ = os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
}

// guestMount is one line of the machine's mount table.
type guestMount struct {
	dev   uint64
	point string
	kind  string
}

// guestMounts reads proc_pid_mountinfo(5).
func (r *run) guestMounts() []guestMount {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mounts == nil {
		return nil
	}
	if _, err := r.mounts.Seek(0, io.SeekStart); err != nil {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(r.mounts, 16<<20))
	if err != nil {
		return nil
	}
	var all []guestMount
	for _, line := range bytes.Split(b, []byte("\n")) {
		f := strings.Fields(string(line))
		if len(f) < 10 {
			continue
		}
		major, minor, _ := strings.Cut(f[2], ":")
		a, err1 := strconv.ParseUint(major, 10, 32)
		i, err2 := strconv.ParseUint(minor, 10, 32)
		if err1 != nil || err2 != nil {
			continue
		}
		g := guestMount{dev: unix.Mkdev(uint32(a), uint32(i)), point: f[4]}
		for n, s := range f {
			if s == "-" && n+1 < len(f) {
				g.kind = f[n+1]
			}
		}
		all = append(all, g)
	}
	return all
}

// pullPlug makes what the machine has not flushed be lost: without it the
// kernel would write a dead machine's file systems out in good order. What was
// written to a disk past any file system may still reach it, as it may on a
// real one.
func (r *run) pullPlug() {
	const (
		ext4Shutdown   = 0x8004587d // EXT4_IOC_SHUTDOWN
		withoutLogging = 2          // EXT4_GOING_FLAGS_NOLOGFLUSH
	)
	r.m.mu.Lock()
	pid := r.m.pid
	r.m.mu.Unlock()
	done := map[uint64]bool{}
	for _, g := range r.guestMounts() {
		if g.kind != "ext4" || done[g.dev] || unix.Major(g.dev) != loopMajor {
			continue
		}
		done[g.dev] = true
		f, err := os.Open(fmt.Sprintf("/proc/%d/root%s", pid, g.point))
		if err != nil {
			continue
		}
		_ = unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, withoutLogging)
		f.Close()
	}
}

// end undoes everything of the run. Process 1 has ended, and with it all
// others in its namespace.
func (r *run) end() error {
	var errs []error
	if r.console != nil {
		r.console.close()
	}
	for _, g := range r.guestMounts() {
		if g.kind == "tmpfs" || g.kind == "overlay" || unix.Major(g.dev) == loopMajor {
			r.devs[g.dev] = true
		}
	}
	if r.mounts != nil {
		r.mounts.Close()
	}
	for _, l := range r.loops {
		l.f.Close()
	}
	errs = append(errs, r.m.detachOwn(r.loops, r.devs))
	if r.group != nil {
		r.m.mu.Lock()
		r.m.peak = r.group.peakMemory()
		r.m.mu.Unlock()
		errs = append(errs, r.m.unplug(), r.group.remove())
	}
	if r.stage != "" {
		errs = append(errs, os.Remove(r.stage))
	}
	return errors.Join(errs...)
}
