package boot

import (
	"errors"
	"fmt"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Bounds of lists and texts in messages. The largest servers known have some
// hundred disks and some dozen ports.
const (
	maxDisks = 4096
	maxNICs  = 1024
	maxText  = 256
	maxChain = 20
	maxCause = 4096 // of one text in a chain of causes
	hexSHA   = 64

	maxModules  = 64
	maxProblems = 10_000
	maxTaskID   = 100
	maxSteps    = 100_000
	maxOutput   = 32 << 10
)

func checkHello(m callhome.Hello) error {
	switch {
	case m.Protocol != callhome.Protocol:
		return fmt.Errorf("protocol %d, this metalrise speaks %d: boot a medium made by this metalrise", m.Protocol, callhome.Protocol)
	case m.Stage != callhome.Live && m.Stage != callhome.Installed:
		return fmt.Errorf("stage %.20q: want live or installed", m.Stage)
	case len(m.Version) > maxText, len(m.Server) > maxText, len(m.Plan) > maxText:
		return fmt.Errorf("version, server or plan longer than %d bytes", maxText)
	case m.Attempt < 0:
		return fmt.Errorf("attempt %d is negative", m.Attempt)
	case len(m.Facts.Disks) > maxDisks, len(m.Facts.NICs) > maxNICs:
		return fmt.Errorf("%d disks and %d ports: at most %d and %d", len(m.Facts.Disks), len(m.Facts.NICs), maxDisks, maxNICs)
	case len(m.Facts.Problems) > maxProblems:
		return fmt.Errorf("%d problems: at most %d", len(m.Facts.Problems), maxProblems)
	}
	if k, ok := m.Facts.KVM.Get(); ok && (len(k.Modules) > maxModules || len(k.Why) > maxCause || len(k.Flag) > maxText) {
		return errors.New("facts of KVM are longer than anybody's")
	}
	if r, ok := m.Facts.Runtime.Get(); ok && (len(r.Kernel) > maxText || len(r.Container) > maxText) {
		return fmt.Errorf("kernel or container longer than %d bytes", maxText)
	}
	return checkInstance(m.Instance)
}

// checkWho is checkHello for a machine without a ticket of its own.
func checkWho(m callhome.Who) error {
	return checkHello(callhome.Hello{Protocol: m.Protocol, Version: m.Version, Stage: callhome.Live, Instance: m.Instance, Facts: m.Facts})
}

func checkProgress(m callhome.Progress) error {
	if len(m.Step) > maxText || m.Done < 0 || m.Total < 0 {
		return fmt.Errorf("progress %d of %d in step %.20q makes no sense", m.Done, m.Total, m.Step)
	}
	return checkInstance(m.Instance)
}

func checkWritten(m callhome.Written) error {
	if len(m.SHA256) != hexSHA || !isHex(m.SHA256) {
		return fmt.Errorf("sha256 %.70q: want %d hexadecimal digits", m.SHA256, hexSHA)
	}
	if err := checkDisk(m.Disk, m.Bytes, m.Seconds); err != nil {
		return err
	}
	return checkInstance(m.Instance)
}

func checkErased(m callhome.Erased) error {
	if m.Method == "" || len(m.Method) > maxText {
		return fmt.Errorf("method %.80q: want 1 to %d bytes", m.Method, maxText)
	}
	if err := checkDisk(m.Disk, m.Bytes, m.Seconds); err != nil {
		return err
	}
	return checkInstance(m.Instance)
}

func checkDisk(d fleet.DiskRef, bytes int64, seconds float64) error {
	if bytes < 0 || seconds < 0 || d.SizeBytes < 0 {
		return fmt.Errorf("%d bytes in %g s on a disk of %d: a negative number", bytes, seconds, d.SizeBytes)
	}
	if len(d.WWN) > maxText || len(d.Serial) > maxText || len(d.Model) > maxText {
		return fmt.Errorf("name of the disk longer than %d bytes", maxText)
	}
	return nil
}

func checkFailed(m callhome.Failed) error {
	if err := checkCause(m.Cause); err != nil {
		return err
	}
	return checkInstance(m.Instance)
}

func checkTask(m callhome.TaskReport) error {
	switch {
	case !isTaskID(m.Task):
		return fmt.Errorf("task %.110q: want 1 to %d of a-z, 0-9 and '-'", m.Task, maxTaskID)
	case m.State != callhome.TaskRunning && m.State != callhome.TaskDone && m.State != callhome.TaskFailed:
		return fmt.Errorf("state %.20q: want running, done or failed", m.State)
	case m.Step < 0, m.Step > maxSteps, m.Done < 0, m.Total < 0:
		return fmt.Errorf("step %d, %d of %d bytes makes no sense", m.Step, m.Done, m.Total)
	case len(m.Name) > maxText:
		return fmt.Errorf("name of the step longer than %d bytes", maxText)
	case len(m.Output) > maxOutput:
		return fmt.Errorf("output of %d bytes: at most %d", len(m.Output), maxOutput)
	case (m.State == callhome.TaskFailed) != (m.Cause != nil):
		return fmt.Errorf("state %s: a cause belongs to a failure, and to nothing else", m.State)
	}
	if m.Cause != nil {
		if err := checkCause(*m.Cause); err != nil {
			return err
		}
	}
	return checkInstance(m.Instance)
}

func isTaskID(s string) bool {
	return s != "" && len(s) <= maxTaskID && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func checkCause(c fleet.Cause) error {
	if len(c.Code) > maxText || len(c.Kind) > maxText || len(c.Chain) > maxChain {
		return fmt.Errorf("cause of %d texts: at most %d", len(c.Chain), maxChain)
	}
	for _, text := range c.Chain {
		if len(text) > maxCause {
			return fmt.Errorf("text of %d bytes in the cause: at most %d", len(text), maxCause)
		}
	}
	return nil
}

func checkInstance(s string) error {
	if len(s) < 16 || len(s) > 64 || !isHex(s) {
		return fmt.Errorf("instance %.70q: want 16 to 64 hexadecimal digits", s)
	}
	return nil
}

func isHex(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return true
}
