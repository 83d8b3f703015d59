package netboot

import (
	"fmt"
	"strings"
)

// Arg is one kernel argument of a form that no script language between us and
// the kernel takes for something else. The zero Arg is not one.
type Arg struct{ text string }

func (a Arg) String() string { return a.text }

const (
	maxArg = 512
	// maxArgs is the kernel's whole command line on x86 (COMMAND_LINE_SIZE) less
	// its zero.
	maxArgs = 2047
)

// ParseArg reads one argument:
//
//	arg   = name [ "=" value ]
//	name  = letter { letter | digit | "_" | "-" | "." }
//	value = { letter | digit | one of _ - . , : / = @ + % ~ [ ] }
//
// of at most 512 bytes. It leaves out what iPXE expands or splits at: spaces,
// "$", "#", ";", "&", "|", quotes and backslashes.
func ParseArg(s string) (Arg, error) {
	refuse := func(format string, args ...any) (Arg, error) {
		return Arg{}, fmt.Errorf("kernel argument %q %s", clean(s, 80), fmt.Sprintf(format, args...))
	}
	if len(s) > maxArg {
		return refuse("has %d bytes, at most %d are allowed", len(s), maxArg)
	}
	name, value, _ := strings.Cut(s, "=")
	if name == "" || !wordRune(rune(name[0])) || strings.ContainsRune("0123456789-_", rune(name[0])) {
		return refuse("must begin with a letter")
	}
	for _, r := range name {
		if !wordRune(r) && r != '.' {
			return refuse("has %q in its name; letters, digits and _ - . are allowed", r)
		}
	}
	for _, r := range value {
		if !wordRune(r) && !strings.ContainsRune(".,:/=@+%~[]", r) {
			return refuse("has %q in its value; letters, digits and _ - . , : / = @ + %% ~ [ ] are allowed", r)
		}
	}
	return Arg{s}, nil
}

// ParseArgs reads arguments, all of them or none, and refuses a line that the
// kernel would cut.
func ParseArgs(words ...string) ([]Arg, error) {
	var out []Arg
	total := 0
	for _, w := range words {
		a, err := ParseArg(w)
		if err != nil {
			return nil, err
		}
		total += len(w) + 1
		out = append(out, a)
	}
	if total > maxArgs {
		return nil, fmt.Errorf("the kernel arguments have %d bytes, the kernel takes %d", total, maxArgs)
	}
	return out, nil
}

// LiveRootFS is the argument by which a CoreOS live system fetches its root. The
// system compares what it got with a digest in its initial RAM disk, so the root
// is as trustworthy as that.
func LiveRootFS(address string) (Arg, error) {
	if err := checkURL(address); err != nil {
		return Arg{}, err
	}
	return ParseArg("coreos.live.rootfs_url=" + address)
}
