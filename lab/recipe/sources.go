package recipe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hostSources returns the apt sources of the host that serve Debian itself, as
// one-line entries for another release: what is made comes from the mirrors
// that the host's administrator chose. root is "/" but for tests.
//
// Entries of other archives are left out. They are told apart by the suite: an
// archive of Debian calls it by the host's code name, alone or with a suffix.
func hostSources(root string, release Release) ([]string, error) {
	codename, err := hostCodename(root)
	if err != nil {
		return nil, err
	}
	var entries []aptEntry
	paths, _ := filepath.Glob(filepath.Join(root, "etc/apt/sources.list.d/*"))
	for _, path := range append([]string{filepath.Join(root, "etc/apt/sources.list")}, paths...) {
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read apt sources: %w", err)
		}
		switch filepath.Ext(path) {
		case ".sources":
			entries = append(entries, parseDeb822(string(data))...)
		case ".list":
			entries = append(entries, parseOneLine(string(data))...)
		}
	}
	var lines []string
	for _, e := range entries {
		suffix, ok := strings.CutPrefix(e.suite, codename)
		if !ok || (suffix != "" && suffix != "-updates" && suffix != "-security") || !slices.Contains(e.components, "main") {
			continue
		}
		line := "deb " + e.uri + " " + string(release) + suffix + " main"
		if e.signedBy != "" {
			line = "deb [signed-by=" + e.signedBy + "] " + e.uri + " " + string(release) + suffix + " main"
		}
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("apt sources under %s: none serves Debian %s with component main; add one to /etc/apt/sources.list", filepath.Join(root, "etc/apt"), codename)
	}
	return lines, nil
}

// aptEntry is one archive, suite pair of apt's configuration.
type aptEntry struct {
	uri, suite string
	components []string
	signedBy   string // a key file's path, or "" for apt's own trust
}

func hostCodename(root string) (string, error) {
	data, err := os.ReadFile(filepath.Join(root, "etc/os-release"))
	if err != nil {
		return "", fmt.Errorf("read the host's release: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok && v != "" {
			return strings.Trim(v, `"'`), nil
		}
	}
	return "", errors.New("/etc/os-release of the host has no VERSION_CODENAME; this image is built on Debian")
}

// parseOneLine reads the "deb [options] uri suite component..." form of sources.list(5).
func parseOneLine(text string) []aptEntry {
	var entries []aptEntry
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		rest = strings.TrimSpace(rest)
		var e aptEntry
		if strings.HasPrefix(rest, "[") {
			options, after, found := strings.Cut(rest[1:], "]")
			if !found {
				continue
			}
			for _, o := range strings.Fields(options) {
				if v, ok := strings.CutPrefix(o, "signed-by="); ok {
					e.signedBy = v
				}
			}
			rest = after
		}
		fields := strings.Fields(rest)
		if len(fields) < 3 {
			continue
		}
		e.uri, e.suite, e.components = fields[0], fields[1], fields[2:]
		entries = append(entries, e)
	}
	return entries
}

// parseDeb822 reads the stanza form of sources.list(5). A key given in the
// stanza itself, not by a path, is left to apt's own trust.
func parseDeb822(text string) []aptEntry {
	var entries []aptEntry
	for stanza := range strings.SplitSeq(strings.ReplaceAll(text, "\r", ""), "\n\n") {
		fields := map[string]string{}
		for line := range strings.Lines(stanza) {
			if strings.HasPrefix(line, "#") || strings.HasPrefix(line, " ") {
				continue
			}
			name, value, ok := strings.Cut(line, ":")
			if ok {
				fields[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
			}
		}
		if !slices.Contains(strings.Fields(fields["types"]), "deb") || strings.EqualFold(fields["enabled"], "no") {
			continue
		}
		signedBy := fields["signed-by"]
		if !strings.HasPrefix(signedBy, "/") {
			signedBy = ""
		}
		for _, uri := range strings.Fields(fields["uris"]) {
			for _, suite := range strings.Fields(fields["suites"]) {
				entries = append(entries, aptEntry{uri, suite, strings.Fields(fields["components"]), signedBy})
			}
		}
	}
	return entries
}
