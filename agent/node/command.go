package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

const (
	// maxTail is what is kept of a failed program's output: the ends of both of
	// them, where the reason is.
	maxTail = 8 << 10
	// maxListing bounds what is read of a program whose output is used.
	maxListing = 4 << 20
	// grace is what a program has to end by itself when its time is over.
	grace    = 5 * time.Second
	unitTime = 5 * time.Minute
)

// runtimeDirs are where a container runtime may lie, the payload's first.
func runtimeDirs() []string {
	return []string{"/opt/metalrise/bin", "/usr/local/bin", "/usr/bin", "/bin"}
}

// systemDirs are where the system's own tools lie.
func systemDirs() []string { return []string{"/usr/bin", "/usr/sbin", "/bin", "/sbin"} }

// environment is what programs get: nothing of the agent's own.
func environment() []string {
	return []string{"PATH=/opt/metalrise/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"}
}

// find looks for a program.
func (s System) find(name string, dirs []string) (string, bool) {
	for _, d := range dirs {
		full := path.Join(d, name)
		if info, err := os.Stat(filepath.Join(s.Root, full)); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return full, true
		}
	}
	return "", false
}

// ProgramError is the failure of a program with the end of what it wrote,
// printable and without the tokens that programs of a cluster like to print.
type ProgramError struct {
	Program string
	Output  string
	Err     error
}

func (e *ProgramError) Error() string { return e.Program + ": " + e.Err.Error() }
func (e *ProgramError) Unwrap() error { return e.Err }

// OutputOf finds what a failed program wrote, "" when no program failed.
func OutputOf(err error) string {
	var p *ProgramError
	if errors.As(err, &p) {
		return p.Output
	}
	return ""
}

// command runs a program in a process group of its own, which does not outlive
// the call. It returns what the program wrote to its standard output.
func (s System) command(ctx context.Context, argv []string, limit time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it was not done after %s", limit))
	defer cancel()
	// Two pipes keep no order between each other, so that a long output would push
	// the complaint out of a common tail.
	out, complaints := &tail{most: maxListing}, &tail{most: maxTail / 2}
	cmd := exec.CommandContext(ctx, filepath.Join(s.Root, argv[0]), argv[1:]...)
	cmd.Env, cmd.Dir = environment(), filepath.Join(s.Root, "/")
	cmd.Stdout, cmd.Stderr = out, complaints
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = grace
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // children that stayed behind; usually none
	}
	if err == nil || (errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState.Success()) {
		return out.b, nil // a child that kept the output open does not make it a failure
	}
	if why := context.Cause(ctx); ctx.Err() != nil {
		err = why
	}
	var missing *os.PathError
	if errors.As(err, &missing) {
		err = missing.Err
	}
	return nil, &ProgramError{Program: argv[0], Output: printable(append(out.end(maxTail/2), complaints.b...)), Err: err}
}

// runStep runs an ordered program.
func (s System) runStep(ctx context.Context, step callhome.RunStep) error {
	if step.Unless != "" {
		if _, err := os.Stat(filepath.Join(s.Root, step.Unless)); err == nil {
			return nil
		}
	}
	limit := step.Timeout
	if limit == 0 {
		limit = usualRun
	}
	if _, err := s.command(ctx, step.Argv, limit); err != nil {
		return prepare(err, "run %s", path.Base(step.Argv[0]))
	}
	return nil
}

// unit makes one systemctl call.
func (s System) unit(ctx context.Context, step callhome.UnitStep) error {
	systemctl, ok := s.find("systemctl", systemDirs())
	if !ok {
		return fleet.NewFault(fleet.CodeNodePrepare, fleet.Unsupported, nil, "%s %s: systemctl is in none of %s", step.Verb, step.Name, strings.Join(systemDirs(), ", "))
	}
	call := func(args ...string) ([]byte, error) {
		return s.command(ctx, append([]string{systemctl, "--no-ask-password"}, args...), unitTime)
	}
	switch step.Verb {
	case "daemon-reload":
		if _, err := call("daemon-reload"); err != nil {
			return prepare(err, "reload units")
		}
		return nil
	case "stop", "disable":
		state, err := call("show", "--property=LoadState", "--value", "--", step.Name)
		if err == nil && strings.TrimSpace(string(state)) == "not-found" {
			return nil // what is not there is stopped
		}
	case "start", "restart":
		// A unit that failed too often before is not started again otherwise. That
		// nothing is to be forgotten is no fault.
		_, _ = call("reset-failed", "--", step.Name)
	}
	if _, err := call(step.Verb, "--", step.Name); err != nil {
		return prepare(err, "%s %s", step.Verb, step.Name)
	}
	return nil
}

// tail keeps the end of what is written.
type tail struct {
	b    []byte
	most int
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p[max(0, len(p)-t.most):]...)
	if over := len(t.b) - t.most; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

// end is a copy of the last n bytes.
func (t *tail) end(n int) []byte { return bytes.Clone(t.b[max(0, len(t.b)-n):]) }

// secretShapes are what kubeadm prints and nobody should read in a report:
// bootstrap tokens, and the key under which certificates are shared.
var secretShapes = regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b|(certificate-key[ =]+)[0-9a-f]{64}|\beyJ[\w-]{10,}\.[\w-]+\.[\w-]+`)

// printable is UTF-8 without control characters but line ends and tabs.
func printable(b []byte) string {
	text := strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || (r >= 0x20 && r != 0x7f && (r < 0x80 || r >= 0xa0) && r != utf8.RuneError) {
			return r
		}
		if r == '\r' {
			return -1
		}
		return ' '
	}, strings.ToValidUTF8(string(b), " "))
	return secretShapes.ReplaceAllString(text, "${1}[secret]")
}
