package bmc

import (
	"errors"
	"fmt"
	"strings"
)

// link reads the address of another resource, "" when there is none.
func (n node) link(key string) string {
	switch v := n.m[key].(type) {
	case nil:
		return ""
	case string:
		return n.checkedLink(key, v)
	}
	return n.object(key).self()
}

// links reads a list of addresses.
func (n node) links(key string) []string {
	var out []string
	for _, o := range n.objects(key) {
		if l := o.self(); l != "" {
			out = append(out, l)
		}
	}
	return out
}

// self is the resource's own address, "" when it does not tell.
func (n node) self() string {
	s, ok := n.m["@odata.id"].(string)
	if !ok {
		return ""
	}
	return n.checkedLink("@odata.id", s)
}

func (n node) checkedLink(key, s string) string {
	p, err := cleanPath(s)
	if err != nil {
		n.seen.add(fieldPath(n.path, key), "%v", err)
		return ""
	}
	return p
}

var errForeignLink = errors.New("link leaves the BMC")

// cleanPath checks that a link stays on the BMC and gives its path with query,
// without fragment. Case and trailing slash stay as given: some BMCs care.
func cleanPath(s string) (string, error) {
	s = strings.TrimSpace(s)
	if i := strings.IndexByte(s, '#'); i >= 0 {
		s = s[:i]
	}
	if s == "" {
		return "", nil
	}
	if len(s) > 2048 {
		return "", fmt.Errorf("link of %d bytes", len(s))
	}
	if strings.HasPrefix(s, "//") || strings.Contains(s, "://") || hasScheme(s) {
		return "", fmt.Errorf("%w: %s", errForeignLink, show(s))
	}
	if !strings.HasPrefix(s, "/") {
		// Some BMCs leave the beginning out. It can only be the service root.
		if s = "/" + s; !strings.HasPrefix(strings.ToLower(s), "/redfish/") {
			s = rootPath + s
		}
	}
	if strings.Contains(s, "/../") || strings.HasSuffix(s, "/..") {
		return "", fmt.Errorf("link with ..: %s", show(s))
	}
	for _, r := range s {
		if r <= 0x20 || r == 0x7f || r == '\\' {
			return "", fmt.Errorf("link with a bad character: %q", s)
		}
	}
	return s, nil
}

// hasScheme tells whether a link begins as a URL of another kind ("mailto:").
func hasScheme(s string) bool {
	i := strings.IndexAny(s, ":/")
	return i > 0 && s[i] == ':'
}

// same is the form in which two spellings of one path are equal.
func same(path string) string { return strings.ToLower(strings.TrimRight(path, "/")) }
