package boot

import (
	"fmt"

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
	}
	return checkInstance(m.Instance)
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
	if m.Bytes < 0 || m.Seconds < 0 || m.Disk.SizeBytes < 0 {
		return fmt.Errorf("%d bytes in %g s on a disk of %d: a negative number", m.Bytes, m.Seconds, m.Disk.SizeBytes)
	}
	if len(m.Disk.WWN) > maxText || len(m.Disk.Serial) > maxText || len(m.Disk.Model) > maxText {
		return fmt.Errorf("name of the disk longer than %d bytes", maxText)
	}
	return checkInstance(m.Instance)
}

func checkFailed(m callhome.Failed) error {
	if len(m.Cause.Code) > maxText || len(m.Cause.Kind) > maxText || len(m.Cause.Chain) > maxChain {
		return fmt.Errorf("cause of %d texts: at most %d", len(m.Cause.Chain), maxChain)
	}
	for _, text := range m.Cause.Chain {
		if len(text) > maxCause {
			return fmt.Errorf("text of %d bytes in the cause: at most %d", len(text), maxCause)
		}
	}
	return checkInstance(m.Instance)
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
