// Command metalrise takes powered-off servers to a cluster of KVM hypervisors.
//
// This package reads flags, wires the parts together and maps outcomes to exit
// codes. It decides nothing about servers: that is for packages plan and
// provision.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"metalrise.dev/fleet"
	"metalrise.dev/lab/machine/container"
)

func main() {
	container.MaybeInit() // a container machine's first process is this program too; it ends here
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes, as the help of each command lists them.
const (
	exitOK          = 0
	exitFailed      = 1   // something went wrong; the text says what
	exitUsage       = 2   // wrong flags or arguments
	exitFindings    = 3   // input is not acceptable: blockers among the findings
	exitDenied      = 4   // no consent, or the wrong one
	exitHeld        = 5   // the run is over or quiet, and servers or the VM platform are held
	exitDrift       = 6   // the cluster is not as it was handed over
	exitInterrupted = 130 // Ctrl-C
)

// exitError carries an exit code. Its error may be nil when all was said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// run is main with everything given to it.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	tty := out
	// What BMCs and machines say of themselves may hold control sequences.
	out, errs = &plainText{w: out, visible: true}, &plainText{w: errs, visible: true}
	root := newRoot(&streams{in: in, out: out, errs: errs, tty: tty})
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if errors.As(err, &exit) && exit.err == nil {
		return exit.code
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(errs, "interrupted")
		return exitInterrupted
	}
	complain(errs, err)
	if exit != nil {
		return exit.code
	}
	switch fleet.CodeOf(err) {
	case fleet.CodeConsentMissing, fleet.CodeConsentMismatch:
		return exitDenied
	case fleet.CodeSiteInvalid, fleet.CodePlanBlocked:
		return exitFindings
	}
	return exitFailed
}

// complain prints an error with its code and remedy.
func complain(w io.Writer, err error) {
	code := fleet.CodeOf(err)
	page, ok := fleet.Page(code)
	if !ok || code == fleet.CodeUnexpected {
		fmt.Fprintf(w, "error: %v\n", err)
		return
	}
	fmt.Fprintf(w, "error %s: %v\n  %s\n  what to do: %s\n", code, err, page.Title, page.Remedy)
}
