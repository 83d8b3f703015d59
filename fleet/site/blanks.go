package site

import (
	"bytes"
	"strings"
)

// The YAML encoder keeps comments but drops the empty lines between sections,
// which people use to find their way. These two functions carry them over.

// blankBefore lists the top-level keys that have an empty line before them, or
// before the comment that belongs to them.
func blankBefore(text []byte) map[string]bool {
	out := map[string]bool{}
	blank := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		switch key, ok := topKey(line); {
		case strings.TrimSpace(line) == "":
			blank = true
		case ok:
			out[key] = blank
			blank = false
		case !strings.HasPrefix(line, "#"):
			blank = false
		}
	}
	return out
}

// restoreBlanks puts the empty lines back.
func restoreBlanks(text []byte, blanks map[string]bool) []byte {
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	var out bytes.Buffer
	var comment []string // lines that may belong to the next key
	flush := func() {
		for _, c := range comment {
			out.WriteString(c + "\n")
		}
		comment = nil
	}
	for i, line := range lines {
		if strings.HasPrefix(line, "#") {
			comment = append(comment, line)
			continue
		}
		if key, ok := topKey(line); ok && blanks[key] && i > len(comment) {
			for strings.HasSuffix(out.String(), "\n\n") {
				out.Truncate(out.Len() - 1)
			}
			out.WriteByte('\n')
		}
		flush()
		out.WriteString(line + "\n")
	}
	flush()
	return out.Bytes()
}

// topKey finds the key of a line that begins a top-level field.
func topKey(line string) (string, bool) {
	key, _, ok := strings.Cut(line, ":")
	if !ok || key == "" || strings.ContainsAny(key[:1], " \t#-\"'{[") {
		return "", false
	}
	return key, true
}
