package kubernetes

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// process is one program that runs until it is killed, with its output in a file.
type process struct {
	name string
	log  string
	pid  int
	done chan struct{} // closed at its end
	end  error         // set before done is closed
}

// startProcess runs the program of the given name that lives in the multi-call
// file hyper. It dies with this process, however that ends.
func startProcess(hyper, dir, name string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := &exec.Cmd{Path: hyper, Args: append([]string{name}, args...), Dir: dir, Stdout: out, Stderr: out,
		Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}}
	started := make(chan error)
	go func() {
		// The kernel sends the death signal when the thread that forked ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.end = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// kill ends the process with its children and waits for it.
func (p *process) kill() {
	if p.ended() != nil {
		return // its number may be another's by now
	}
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	<-p.done
}

// ended tells what the process said last if it is not running any more.
func (p *process) ended() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended by itself (%v): %s", p.name, p.end, lastLines(p.log, 1500))
	default:
		return nil
	}
}

// lastLines returns the end of a file, for an error text.
func lastLines(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err.Error()
	}
	if _, err := f.Seek(max(0, st.Size()-n), io.SeekStart); err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(io.LimitReader(f, n))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b))
}
