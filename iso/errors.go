package iso

import (
	"errors"
	"fmt"
)

// Errors that callers decide on. All are wrapped with the operation and subject.
var (
	// ErrNoEmbedArea: the ISO has no place for an Ignition config. It is no live
	// ISO of CoreOS layout; take the "live" ISO of the stream.
	ErrNoEmbedArea = errors.New("the ISO has no Ignition embed area (no /coreos/igninfo.json, no /images/ignition.img): it is not a CoreOS live ISO")
	// ErrNoIgnition: the embed area is there and holds no config.
	ErrNoIgnition = errors.New("the embed area holds no Ignition config")
	// ErrNoKargsArea: the ISO has no place for kernel arguments.
	ErrNoKargsArea = errors.New("the ISO has no kernel argument area (no /coreos/kargs.json, no COREOS_KARG_EMBED_AREA in its boot loader configuration)")
	// ErrNoDefaults: the ISO does not say what kernel arguments it was built with.
	ErrNoDefaults = errors.New("the ISO does not tell its default kernel arguments (no /coreos/kargs.json): take the original file instead of resetting this one")
	// ErrNoNetwork: the live system does not take keyfiles from its initrd.
	ErrNoNetwork = errors.New("the live system of this ISO takes no network keyfiles from its initrd (live-initrd-network in /coreos/features.json): use a newer release, or set the network by kernel arguments (ip=)")
	// ErrRootfsURL: a minimal ISO without an address, or another one with it.
	ErrRootfsURL = errors.New("an address of the root file system belongs to a minimal ISO, and every minimal ISO needs one")
	// ErrNoMinimal: the ISO cannot be had without its root file system.
	ErrNoMinimal = errors.New("no minimal ISO can be made of this one")
	// ErrBaseChanged: the base file is not the one that was opened any more.
	// Open it again; images made of the old one must not be mixed with it.
	ErrBaseChanged = errors.New("the base ISO changed on disk since it was opened")
)

// FormatError says that bytes are not what the format demands.
type FormatError struct {
	Where string // which structure: "directory coreos", "/coreos/kargs.json"
	Why   string // what is wrong with it, with the value
}

func (e *FormatError) Error() string { return "malformed ISO: " + e.Where + ": " + e.Why }

func malformed(where, why string, args ...any) error {
	return &FormatError{Where: where, Why: fmt.Sprintf(why, args...)}
}

// Part names what did not fit.
type Part string

const (
	PartIgnition Part = "Ignition config"
	PartKargs    Part = "kernel arguments"
	PartFiles    Part = "files for the initrd"
)

// TooLargeError says that one server's bytes do not fit into the area that the
// base ISO reserves for them. Sizes in bytes; Need is as stored, so compressed
// for an Ignition config.
type TooLargeError struct {
	Part Part
	Raw  int64 // before compression; equal to Need for kernel arguments
	Need int64
	Have int64
	Why  string // the area cannot become larger; "" where that is not asked
}

func (e *TooLargeError) Error() string {
	if e.Part == PartKargs {
		return fmt.Sprintf("kernel arguments need %d bytes with their terminator and the area of the base ISO has %d: drop some, or set them from the Ignition config instead", e.Need, e.Have)
	}
	if e.Part == PartFiles {
		return fmt.Sprintf("config and files for the initrd have %d bytes together and at most %d are allowed: have the live system fetch the large ones", e.Need, e.Have)
	}
	why := ""
	if e.Why != "" {
		why = " (" + e.Why + ")"
	}
	return fmt.Sprintf("Ignition config of %d bytes is %d bytes when compressed and the place of the base ISO for it has %d and cannot become larger%s: embed a small config that merges the large one from a URL with a verification hash and the server's certificate authority (ignition.config.merge, ignition.security.tls)", e.Raw, e.Need, e.Have, why)
}

// KargError says why one kernel argument is refused.
type KargError struct {
	Karg string
	Why  string
}

func (e *KargError) Error() string {
	return fmt.Sprintf("kernel argument %.80q: %s", e.Karg, e.Why)
}

// NameError says why a file for the initrd is refused.
type NameError struct {
	Name string
	Why  string
}

func (e *NameError) Error() string { return fmt.Sprintf("file %.80q: %s", e.Name, e.Why) }
