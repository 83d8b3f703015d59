package recipe

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Command is one program run of a build.
type Command struct {
	Dir   string
	Name  string // looked up in PATH
	Args  []string
	Env   []string // nil: the caller's
	Stdin []byte
	// Private gives the program its own mount namespace, so that nothing it
	// mounts can outlive it.
	Private bool
	// Each, if set, is told every line of standard error as it comes.
	Each func(line string)
}

// Run executes c and reports the end of its output if it ends badly.
func (b *Builder) Run(c Command) error {
	_, err := b.Output(c)
	return err
}

// Output is Run that returns what the program wrote to its standard output.
// The whole process group ends with the context.
func (b *Builder) Output(c Command) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(b.Ctx, c.Name, c.Args...)
	cmd.Dir, cmd.Env = c.Dir, c.Env
	cmd.Stdin = bytes.NewReader(c.Stdin)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if c.Each != nil {
		cmd.Stderr = io.MultiWriter(&stderr, &lines{each: c.Each})
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.Private {
		cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctxErr := b.Ctx.Err(); ctxErr != nil {
		return "", fmt.Errorf("%s: %w", c.Name, ctxErr)
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", c.Name, strings.Join(c.Args, " "), err, tail(stdout.String()+stderr.String(), 2000))
	}
	return stdout.String(), nil
}

// lines hands on what is written to it line by line.
type lines struct {
	each func(string)
	rest []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.rest = rest
		l.each(string(line))
	}
}

func tail(s string, n int) string {
	s = strings.TrimSpace(s)
	if len(s) <= n {
		return s
	}
	return "…" + s[len(s)-n:]
}
