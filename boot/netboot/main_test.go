package netboot

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// apart is set in a process that has network and mount namespaces of its own.
const apart = "METALRISE_TEST_APART"

// TestMain runs the tests once more in namespaces of their own: bridges, named
// namespaces and port 67 then belong to nobody else, and go with the process.
func TestMain(m *testing.M) {
	if what, path, ok := strings.Cut(os.Getenv(serveEnv), " "); ok {
		fmt.Fprintln(os.Stderr, serveForBenchmark(what, path))
		os.Exit(1)
	}
	if os.Geteuid() != 0 || os.Getenv(apart) != "" || fuzzing() {
		if os.Getenv(apart) != "" {
			if err := furnish(); err != nil {
				fmt.Fprintln(os.Stderr, "prepare namespaces:", err)
				os.Exit(1)
			}
		}
		os.Exit(runAll(m))
	}
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), apart+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil: // no right to do so: what needs the network skips
		os.Exit(runAll(m))
	}
}

// runAll runs the tests and wants nothing to be left running by them.
func runAll(m *testing.M) int {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if err := goleak.Find(); err != nil && code == 0 && flag.Lookup("test.bench").Value.String() == "" && !fuzzing() {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func fuzzing() bool {
	for _, a := range os.Args[1:] {
		if strings.HasPrefix(a, "-test.fuzz=") || strings.HasPrefix(a, "-test.fuzzworker") {
			return true
		}
	}
	return false
}

func furnish() error {
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return err
	}
	if err := syscall.Mount("netns", "/run/netns", "tmpfs", 0, ""); err != nil {
		return err
	}
	// what /sys tells of the network is of the namespace in which it was mounted
	if err := syscall.Mount("sysfs", "/sys", "sysfs", 0, ""); err != nil {
		return err
	}
	return exec.Command("ip", "link", "set", "lo", "up").Run()
}
