package tui

import (
	"io"
	"strings"
)

// Look is how a terminal can show things.
type Look struct {
	Colour     bool // the eight colours of ECMA-48
	Attributes bool // bold, underline, reverse
	Unicode    bool // UTF-8; else ASCII only
	Old        bool // understands only what a VT100 does: everything else is kept from it
}

// Detect finds the look from the environment: TERM, NO_COLOR, LC_ALL, LC_CTYPE,
// LANG. It asks the terminal nothing, because old ones answer nothing, or
// garbage.
func Detect(env func(string) string) Look {
	term := env("TERM")
	k := Look{Colour: true, Attributes: true, Unicode: isUTF8(env)}
	name, _, _ := strings.Cut(term, "-")
	switch name {
	case "", "dumb", "unknown":
		k = Look{Old: true}
	case "vt100", "vt102", "vt220", "vt320", "vt420":
		k = Look{Attributes: true, Old: true}
	case "ansi", "linux", "cons25":
		k.Old = true
		if name != "linux" {
			k.Unicode = false
		}
	}
	if env("NO_COLOR") != "" {
		k.Colour = false
	}
	return k
}

// DetectLines is Detect for questions and answers: any terminal has letters, and
// none is asked for more.
func DetectLines(env func(string) string) Look { return Look{Unicode: isUTF8(env)} }

func locale(env func(string) string) string {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := env(name); v != "" {
			return v
		}
	}
	return ""
}

func isUTF8(env func(string) string) bool {
	v := strings.ToLower(locale(env))
	return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
}

// DetectLanguage finds the language from LC_ALL, LC_MESSAGES and LANG. A
// terminal that has no letters of it gets English; the Linux console has none
// for Japanese.
func DetectLanguage(env func(string) string, k Look) Language {
	v := env("LC_ALL")
	if v == "" {
		v = env("LC_MESSAGES")
	}
	if v == "" {
		v = env("LANG")
	}
	if strings.HasPrefix(v, "ja") && k.Unicode && !k.Old {
		return Japanese
	}
	return English
}

// sieve passes only what a VT100 understands: Bubble Tea asks every terminal
// for modern modes, which old ones print as garbage or answer wrongly. What it
// lets through: text, C0 controls and CSI sequences without private parameters
// but for cursor visibility, which VT100s ignore and others need.
type sieve struct {
	out  io.Writer
	held []byte // a sequence that is not complete yet
}

func (s *sieve) Write(p []byte) (int, error) {
	in := append(s.held, p...)
	s.held = nil
	var pass []byte
	for len(in) > 0 {
		if in[0] != 0x1b {
			pass, in = append(pass, in[0]), in[1:]
			continue
		}
		n, keep := sequence(in)
		if n == 0 {
			s.held = append([]byte(nil), in...)
			break
		}
		if keep {
			pass = append(pass, in[:n]...)
		}
		in = in[n:]
	}
	if len(pass) > 0 {
		if _, err := s.out.Write(pass); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// sequence measures the escape sequence at the start of b and judges it. A
// length of 0 means that the rest is missing.
func sequence(b []byte) (n int, keep bool) {
	if len(b) < 2 {
		return 0, false
	}
	switch b[1] {
	case '[':
		for i := 2; i < len(b); i++ {
			if b[i] >= 0x40 && b[i] <= 0x7e {
				return i + 1, oldCSI(b[2:i], b[i])
			}
		}
		return 0, false
	case ']', 'P', '_', '^', 'X': // strings, ended by ST or BEL
		for i := 2; i < len(b); i++ {
			if b[i] == 0x07 {
				return i + 1, false
			}
			if b[i] == 0x1b && i+1 < len(b) && b[i+1] == '\\' {
				return i + 2, false
			}
		}
		return 0, false
	case '(', ')':
		if len(b) < 3 {
			return 0, false
		}
		return 3, true
	}
	return 2, strings.IndexByte("78DEM=>", b[1]) >= 0
}

// oldCSI tells whether a VT100 knows the sequence.
func oldCSI(params []byte, final byte) bool {
	p := string(params)
	if p == "?25" && (final == 'h' || final == 'l') {
		return true
	}
	return strings.Trim(p, "0123456789;") == "" && strings.IndexByte("ABCDHJKfmr", final) >= 0
}
