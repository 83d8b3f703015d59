package iso

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// maxKarg bounds one argument. The kernel's whole command line is 2048 bytes on
// x86 (COMMAND_LINE_SIZE), and the areas of CoreOS ISOs are about 1100.
const maxKarg = 512

// CheckKarg says whether a word may stand on the kernel command line:
//
//	karg  = name [ "=" value ]
//	name  = letter { letter | digit | "_" | "-" | "." }
//	value = { letter | digit | one of _ - . , : / = @ + % [ ] }
//
// of at most 512 bytes. It leaves out all that a shell, GRUB's script language
// ($ ; { } | & < > quotes, backslash, * and ?) or the area itself (#, space, line
// ends) would take for something else. The error is a *KargError.
func CheckKarg(s string) error {
	refuse := func(why string, args ...any) error {
		return &KargError{Karg: s, Why: fmt.Sprintf(why, args...)}
	}
	if s == "" {
		return refuse("is empty")
	}
	if len(s) > maxKarg {
		return refuse("has %d bytes, at most %d are allowed", len(s), maxKarg)
	}
	name, value, _ := strings.Cut(s, "=")
	if name == "" || !letter(name[0]) {
		return refuse("must begin with a letter")
	}
	for i := range len(name) {
		if !word(name[i]) && name[i] != '.' {
			return refuse("%q is not allowed in a name; letters, digits, _ - . are", name[i])
		}
	}
	for i := range len(value) {
		if !word(value[i]) && !strings.ContainsRune(".,:/=@+%[]", rune(value[i])) {
			return refuse("%q is not allowed in a value; letters, digits and _ - . , : / = @ + %% [ ] are", value[i])
		}
	}
	return nil
}

func letter(c byte) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
func word(c byte) bool   { return letter(c) || '0' <= c && c <= '9' || c == '_' || c == '-' }

// kargArea is one place that holds the kernel arguments: the text, the end
// character, padding up to size.
type kargArea struct {
	off      int64
	size     int
	pad, end byte
	current  string // what it holds in the base
}

// read parses what the area holds.
func (a kargArea) read(r io.ReaderAt) (string, error) {
	b := make([]byte, a.size)
	if err := readFull(r, b, a.off); err != nil {
		return "", fmt.Errorf("read kernel argument area: %w", err)
	}
	for _, c := range b {
		if (c < 0x20 || c > 0x7e) && c != '\n' && c != '\t' && c != a.end && c != a.pad {
			return "", malformed("kernel argument area", "byte 0x%02x at %d to %d", c, a.off, a.off+int64(a.size))
		}
	}
	b = bytes.TrimRight(b, string(a.pad))
	b = bytes.TrimRight(b, string(a.end))
	return strings.TrimSpace(string(b)), nil
}

// of renders the area's whole content for the given arguments.
func (a kargArea) of(args []string) ([]byte, error) {
	text := strings.Join(args, " ")
	if len(text) >= a.size {
		need := int64(len(text) + 1)
		return nil, &TooLargeError{Part: PartKargs, Raw: need, Need: need, Have: int64(a.size)}
	}
	b := bytes.Repeat([]byte{a.pad}, a.size)
	b[copy(b, text)] = a.end
	return b, nil
}

const (
	marker          = " COREOS_KARG_EMBED_AREA"
	maxLoaderConfig = 256 << 10
	maxLoaderDirs   = 32
)

// kargsFromMarkers finds areas in boot loader configurations that nothing but
// the marker announces: the line that loads the kernel, then a line of # that
// ends in the marker. The area begins at the first argument.
func kargsFromMarkers(v *volume) ([]kargArea, error) {
	paths := []string{"isolinux/isolinux.cfg", "boot/grub/grub.cfg", "boot/grub2/grub.cfg"}
	if efi, err := v.lookup("EFI"); err == nil && efi.dir {
		entries, err := v.readDir(efi)
		if err != nil {
			return nil, err
		}
		for _, e := range entries[:min(len(entries), maxLoaderDirs)] {
			if e.flags&flagDir != 0 {
				paths = append(paths, "EFI/"+e.iso+"/grub.cfg")
			}
		}
	}
	var out []kargArea
	seen := map[int64]bool{} // hard links share their extent
	for _, p := range paths {
		b, e, err := v.readFile(p, maxLoaderConfig)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if seen[e.off] {
			continue
		}
		seen[e.off] = true
		areas, err := markedAreas(b)
		if err != nil {
			return nil, malformed("/"+printable(p), "%v", err)
		}
		for _, a := range areas {
			a.off += e.off
			out = append(out, a)
		}
		if len(out) > maxKargsAreas {
			return nil, malformed("/"+printable(p), "more than %d kernel argument areas", maxKargsAreas)
		}
	}
	return out, nil
}

// markedAreas finds the areas of one boot loader configuration, with offsets
// from its start.
func markedAreas(b []byte) ([]kargArea, error) {
	var out []kargArea
	for from := 0; ; {
		i := bytes.Index(b[from:], []byte(marker))
		if i < 0 {
			return out, nil
		}
		stop := from + i // just after the last #
		from = stop + len(marker)
		hashes := len(bytes.TrimRight(b[:stop], "#"))
		if stop-hashes < 2 || hashes == 0 || b[hashes-1] != '\n' {
			continue // a mention in a comment
		}
		line := bytes.LastIndexByte(b[:hashes-1], '\n') + 1
		args, ok := argsOf(string(b[line : hashes-1]))
		if !ok {
			return nil, fmt.Errorf("the line before the marker at byte %d is neither linux nor append", stop)
		}
		// One # stays in front of the marker: its line must remain a comment.
		a := kargArea{off: int64(line + args), size: stop - 1 - (line + args), pad: '#', end: '\n'}
		if a.size > maxLoaderConfig {
			return nil, fmt.Errorf("area of %d bytes", a.size)
		}
		current, err := kargArea{size: a.size, pad: '#', end: '\n'}.read(bytes.NewReader(b[a.off:]))
		if err != nil {
			return nil, err
		}
		a.current = current
		out = append(out, a)
	}
}

// argsOf gives where the kernel arguments begin in "linux PATH args" (GRUB) or
// "append args" (isolinux).
func argsOf(line string) (int, bool) {
	at := len(line) - len(strings.TrimLeft(line, " \t"))
	word := func() string {
		rest := line[at:]
		n := strings.IndexAny(rest, " \t")
		if n < 0 {
			n = len(rest)
		}
		at += n
		at += len(line[at:]) - len(strings.TrimLeft(line[at:], " \t"))
		return rest[:n]
	}
	switch strings.ToLower(word()) {
	case "append":
	case "linux", "linuxefi", "linux16":
		if word() == "" {
			return 0, false
		}
	default:
		return 0, false
	}
	return at, true
}

// commandLine is what an area says, without the initrd= word that isolinux
// keeps among the kernel arguments.
func commandLine(current string) []string {
	var out []string
	for _, w := range strings.Fields(current) {
		if !strings.HasPrefix(w, "initrd=") {
			out = append(out, w)
		}
	}
	return out
}
