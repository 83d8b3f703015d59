package images

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// Mirror rewrites URLs: what begins with From is asked for at To. A rewritten
// URL changes where bytes come from, never what they must be.
type Mirror struct {
	From string `yaml:"from"` // "https://builds.coreos.fedoraproject.org/"
	To   string `yaml:"to"`   // a URL, or an absolute path of a folder
}

// ParseMirror reads FROM=TO. Both are prefixes that end at an element of the
// path; TO may be a folder of this computer.
func ParseMirror(s string) (Mirror, error) {
	from, to, ok := strings.Cut(s, "=")
	if !ok {
		return Mirror{}, fmt.Errorf("mirror %.200q: want FROM=TO", s)
	}
	m := Mirror{From: from, To: to}
	return m.Checked()
}

// Checked gives the rule in the form that is used, or says what is wrong.
func (m Mirror) Checked() (Mirror, error) {
	u, err := url.Parse(m.From)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" {
		return Mirror{}, fmt.Errorf("mirror of %.200q: want the beginning of an http or https URL", m.From)
	}
	if strings.HasPrefix(m.To, "~") {
		return Mirror{}, fmt.Errorf("mirror %.200q: want an absolute path", m.To)
	}
	if filepath.IsAbs(m.To) {
		m.To = (&url.URL{Scheme: "file", Path: m.To}).String()
	}
	t, err := url.Parse(m.To)
	if err != nil || t.User != nil || t.Scheme != "file" && (t.Scheme != "https" && t.Scheme != "http" || t.Host == "") {
		return Mirror{}, fmt.Errorf("mirror %.200q: want an http or https URL without a login, or an absolute path", m.To)
	}
	m.From, m.To = strings.TrimSuffix(m.From, "/"), strings.TrimSuffix(m.To, "/")
	return m, nil
}

// Mirrors are rules; the longest From that fits is used, so a rule for one
// folder goes before one for its host.
type Mirrors []Mirror

func (m Mirrors) rewrite(at string) string {
	best, to := -1, ""
	for _, r := range m {
		rest, ok := strings.CutPrefix(at, r.From)
		if ok && (rest == "" || rest[0] == '/') && len(r.From) > best {
			best, to = len(r.From), r.To+rest
		}
	}
	if best < 0 {
		return at
	}
	return to
}
