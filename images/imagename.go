package images

import (
	"fmt"
	"strings"
)

// imageName is a container image's name, with nothing left out.
type imageName struct{ host, repository, tag, digest string }

func (n imageName) String() string {
	s := n.host + "/" + n.repository
	if n.tag != "" {
		s += ":" + n.tag
	}
	if n.digest != "" {
		s += "@" + n.digest
	}
	return s
}

// parseImageName reads a name as container runtimes do: what has no registry is
// docker.io's, there what has no folder is in library, and what has neither tag nor
// digest is latest.
func parseImageName(s string) (imageName, error) {
	bad := fmt.Errorf("%.120q is no name of a container image such as registry.k8s.io/etcd:3.6.5-0", s)
	var n imageName
	rest := s
	if i := strings.IndexByte(rest, '@'); i >= 0 {
		rest, n.digest = rest[:i], rest[i+1:]
		if hex, ok := strings.CutPrefix(n.digest, "sha256:"); !ok || !isSHA256(hex) {
			return n, bad
		}
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, n.tag = rest[:i], rest[i+1:]
		if !isWord(n.tag, 128, "") {
			return n, bad
		}
	}
	host, repository, ok := strings.Cut(rest, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		host, repository = "docker.io", rest
		if !strings.Contains(repository, "/") {
			repository = "library/" + repository
		}
	}
	n.host, n.repository = host, repository
	if !isWord(host, 255, ":") || !isRepository(repository) {
		return n, bad
	}
	if n.tag == "" && n.digest == "" {
		n.tag = "latest"
	}
	return n, nil
}

// isRepository follows the OCI distribution specification's <name>.
func isRepository(s string) bool {
	if s == "" || len(s) > 255 || strings.ToLower(s) != s {
		return false
	}
	for _, part := range strings.Split(s, "/") {
		if !isWord(part, 255, "") || strings.HasPrefix(part, "_") || strings.Trim(part[len(part)-1:], "._-") == "" {
			return false
		}
	}
	return true
}
