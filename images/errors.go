package images

import (
	"fmt"
	"strings"
)

// Reason sorts the faults a caller may treat on its own.
type Reason string

const (
	Wrong  Reason = ""       // the metadata or a file must be corrected
	Remote Reason = "remote" // a URL: the file must be downloaded first
)

// Fault is one thing wrong with a release's metadata.
type Fault struct {
	Path   string // in the JSON: "architectures.x86_64.artifacts.metal.release"
	Value  string // as found, "" if missing
	Why    string
	Remedy string
	Reason Reason
}

func (f Fault) String() string {
	s := f.Path
	if f.Value != "" {
		s += fmt.Sprintf(" %.120q", f.Value)
	}
	return s + " " + f.Why + ": " + f.Remedy
}

func remote(path, url string) Fault {
	return Fault{Path: path, Value: url, Why: "is a URL", Remedy: "download the file beside the metadata, verify it, and give its relative path", Reason: Remote}
}

// InvalidError carries everything that is wrong with a release, at once.
type InvalidError struct {
	Faults []Fault
}

func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = f.String()
	}
	return strings.Join(lines, "; ")
}

// CorruptError says that a file is not what its publisher promised.
type CorruptError struct {
	Path string
	Want string // checksum in hexadecimal: 64 digits are SHA-256, 128 SHA-512
	Got  string
	Size int64 // bytes of the file
}

func (e *CorruptError) Error() string {
	kind := "sha256"
	if len(e.Want) == 128 {
		kind = "sha512"
	}
	return fmt.Sprintf("%s of the %d bytes of %s is %s, the metadata promises %s: the file is damaged or another one, fetch it again", kind, e.Size, e.Path, e.Got, e.Want)
}
