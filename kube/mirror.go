package kube

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Mirror is a registry that serves the payload's images to nodes, besides the
// archives that are imported: a node gets an image back there that was removed
// from it. The zero value is none.
type Mirror struct {
	URL string // "https://10.0.1.5:8443", without a path
	CA  string // PEM of the only authority to trust for it
	// Authorization is the header that the node shows there; secret.
	Authorization string
}

const (
	registriesDir = "/etc/containerd/certs.d"
	mirrorCA      = ownDir + "/mirror.pem"
)

// mirrorSteps tell containerd to ask the mirror first for each registry whose
// images the payload has. Others are left alone: the mirror has nothing of them,
// and a mirror that is away must cost their pulls no time. containerd goes on to
// the registry itself where the mirror does not answer.
func (n Node) mirrorSteps() []callhome.Step {
	m := n.Mirror
	if m.URL == "" {
		return nil
	}
	content := fmt.Sprintf(`# written by metalrise
[host.%q]
  capabilities = ["pull", "resolve"]
  ca = %q
`, m.URL, mirrorCA)
	if m.Authorization != "" {
		content += fmt.Sprintf("  [host.%q.header]\n    Authorization = [%q]\n", m.URL, m.Authorization)
	}
	steps := []callhome.Step{fileStep("write the authority of the mirror", mirrorCA, 0o644, m.CA)}
	for _, host := range registryHosts(n.Payload) {
		steps = append(steps, fileStep("write where images of "+host+" are", registriesDir+"/"+host+"/hosts.toml", 0o600, content))
	}
	return steps
}

// wrong tells why a mirror cannot be written into containerd's configuration.
func (m Mirror) wrong() []string {
	if m == (Mirror{}) {
		return nil
	}
	var out []string
	u, err := url.Parse(m.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || m.URL != "https://"+u.Host || strings.ContainsFunc(m.URL, unprintable) {
		out = append(out, fmt.Sprintf("mirror %.80q is no https address without a path", m.URL))
	}
	if !strings.HasPrefix(m.CA, "-----BEGIN CERTIFICATE-----\n") {
		out = append(out, "the mirror has no certificate to be known by")
	}
	if strings.ContainsFunc(m.Authorization, unprintable) {
		out = append(out, "what nodes are to show to the mirror is no header")
	}
	return out
}

// unprintable finds what could end a quoted string or a line of the file.
func unprintable(r rune) bool { return r < 0x20 || r > 0x7e || r == '"' || r == '\\' }

// hostName is a registry's name, which becomes the name of a folder.
var hostName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?(:[0-9]{1,5})?$`)

// registryHosts lists the registries that the payload's images are named by,
// sorted. A name without one is docker.io's, as container runtimes see it.
func registryHosts(p fleet.Payload) []string {
	var out []string
	for _, i := range p.Images {
		for _, r := range i.References {
			host, _, ok := strings.Cut(r, "/")
			if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
				host = "docker.io"
			}
			if hostName.MatchString(host) && !slices.Contains(out, host) {
				out = append(out, host)
			}
		}
	}
	slices.Sort(out)
	return out
}
