package images

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"metalrise.dev/fleet"
)

// LockVersion is the version of a payload lock this code writes and reads.
const LockVersion = "metalrise.dev/payload-lock/v1"

// PayloadLock pins the upstream releases that software of nodes is made of: each
// download and each container image by digest. A person reads it, keeps it beside the
// site file, and by that vouches for it: nothing else is fetched.
type PayloadLock struct {
	APIVersion   string       `json:"apiVersion"`
	Version      string       `json:"version"`      // of Kubernetes
	Architecture string       `json:"architecture"` // "x86_64"
	Sources      []LockSource `json:"sources"`
	Images       []LockImage  `json:"images"`
}

// LockSource is one download.
type LockSource struct {
	URL    string     `json:"url"`
	SHA256 string     `json:"sha256"`
	Files  []LockFile `json:"files"`
}

// LockFile is one program of a download.
type LockFile struct {
	Member string `json:"member,omitempty"` // path in a tar.gz; "" is the download itself
	Name   string `json:"name"`             // as kube asks for it: "kubelet", "cni/bridge"
	Path   string `json:"path"`             // on the node
}

// LockImage is one container image.
type LockImage struct {
	Name      string       `json:"name"`      // "etcd"
	Reference string       `json:"reference"` // "registry.k8s.io/etcd:3.6.5-0"
	Digest    string       `json:"digest"`    // of the architecture's manifest
	Roles     []fleet.Role `json:"roles,omitempty"`
}

// ParseLock reads a lock: at most 1 MiB, no unknown fields. The error is an
// *InvalidError with all faults at once.
func ParseLock(text []byte) (PayloadLock, error) {
	bad := func(why string) error {
		return &InvalidError{Faults: []Fault{{Path: "lock", Why: why, Remedy: "have it made again by `metalrise bundle payload --kubernetes`"}}}
	}
	if len(text) > maxPayload {
		return PayloadLock{}, bad(fmt.Sprintf("has more than %d bytes", maxPayload))
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var l PayloadLock
	if err := d.Decode(&l); err != nil {
		return l, bad("cannot be read: " + err.Error())
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return l, bad("goes on behind its end")
	}
	return l, l.check()
}

func (l PayloadLock) check() error {
	c := &offering{}
	remedy := "correct it, or have it made again"
	if l.APIVersion != LockVersion {
		c.fault("apiVersion", l.APIVersion, "is not "+LockVersion, "use a metalrise that knows it")
	}
	if !isRelease(l.Version) {
		c.fault("version", l.Version, "is no version of Kubernetes", remedy)
	}
	if _, ok := platforms()[l.Architecture]; !ok {
		c.fault("architecture", l.Architecture, "is not known", "use x86_64 or aarch64")
	}
	if len(l.Sources) > maxEntries || len(l.Images) > maxEntries {
		c.fault("sources", "", "or images are too many", remedy)
		return c.err()
	}
	for i, s := range l.Sources {
		at := fmt.Sprintf("sources[%d]", i)
		if why := badURL(s.URL); why != "" {
			c.fault(at+".url", s.URL, why, remedy)
		}
		if !isSHA256(s.SHA256) {
			c.fault(at+".sha256", s.SHA256, "is no SHA-256", remedy)
		}
		for j, f := range s.Files {
			if why := badPath(f.Path); why != "" {
				c.fault(fmt.Sprintf("%s.files[%d].path", at, j), f.Path, why, remedy)
			}
			if len(f.Member) > maxPathLength || f.Member != "" && path.Clean(f.Member) != f.Member || !isWord(f.Name, 64, "/") {
				c.fault(fmt.Sprintf("%s.files[%d]", at, j), f.Name, "has no plain name, or its member is no clean path", remedy)
			}
		}
	}
	for i, m := range l.Images {
		at := fmt.Sprintf("images[%d]", i)
		if n, err := parseImageName(m.Reference); err != nil || n.digest != "" {
			c.fault(at+".reference", m.Reference, "is no name with a tag", remedy)
		}
		if hex, ok := strings.CutPrefix(m.Digest, "sha256:"); !ok || !isSHA256(hex) {
			c.fault(at+".digest", m.Digest, "is no sha256:…", remedy)
		}
		if !isWord(m.Name, 64, "") {
			c.fault(at+".name", m.Name, "is no plain name", remedy)
		}
	}
	return c.err()
}

// platforms gives what upstream calls an architecture.
func platforms() map[string]string { return map[string]string{"x86_64": "amd64", "aarch64": "arm64"} }

// Upstream says which releases software of nodes is made of. Versions are as
// their projects tag them.
type Upstream struct {
	Kubernetes   string // "v1.34.4"
	Architecture string // "x86_64"
	Containerd   string // "v2.1.4"
	Runc         string // "v1.3.0"
	CNIPlugins   string // "v1.7.1"
	Etcd         string // image's tag
	CoreDNS      string
	Pause        string
	Flannel      string   // "" leaves flannel out, for a site with a pod network of its own
	FlannelCNI   string   // flannel's CNI plugin
	Images       []string // further references, such as one of keepalived; for control planes only with the prefix "control-plane="
}

// sources lists downloads without digests, and where each one's checksum is published.
func (u Upstream) sources() []struct {
	LockSource
	checksum string
} {
	arch := platforms()[u.Architecture]
	type source = struct {
		LockSource
		checksum string
	}
	bin := func(name string) LockFile {
		return LockFile{Member: "bin/" + name, Name: name, Path: "/opt/metalrise/bin/" + name}
	}
	cni := func(names ...string) (out []LockFile) {
		for _, n := range names {
			out = append(out, LockFile{Member: n, Name: "cni/" + n, Path: "/opt/cni/bin/" + n})
		}
		return out
	}
	var out []source
	for _, n := range []string{"kubelet", "kubeadm", "kubectl"} {
		at := "https://dl.k8s.io/release/" + u.Kubernetes + "/bin/linux/" + arch + "/" + n
		out = append(out, source{LockSource{URL: at, Files: []LockFile{{Name: n, Path: "/opt/metalrise/bin/" + n}}}, at + ".sha256"})
	}
	at := "https://github.com/containerd/containerd/releases/download/" + u.Containerd + "/containerd-" + strings.TrimPrefix(u.Containerd, "v") + "-linux-" + arch + ".tar.gz"
	out = append(out, source{LockSource{URL: at, Files: []LockFile{bin("containerd"), bin("containerd-shim-runc-v2"), bin("ctr")}}, at + ".sha256sum"})
	at = "https://github.com/opencontainers/runc/releases/download/" + u.Runc + "/"
	out = append(out, source{LockSource{URL: at + "runc." + arch, Files: []LockFile{{Name: "runc", Path: "/opt/metalrise/bin/runc"}}}, at + "runc.sha256sum"})
	at = "https://github.com/containernetworking/plugins/releases/download/" + u.CNIPlugins + "/cni-plugins-linux-" + arch + "-" + u.CNIPlugins + ".tgz"
	out = append(out, source{LockSource{URL: at, Files: cni("bridge", "firewall", "host-local", "loopback", "portmap", "ptp", "tuning")}, at + ".sha256"})
	if u.Flannel != "" {
		at = "https://github.com/flannel-io/cni-plugin/releases/download/" + u.FlannelCNI + "/cni-plugin-flannel-linux-" + arch + "-" + u.FlannelCNI + ".tgz"
		file := LockFile{Member: "flannel-" + arch, Name: "cni/flannel", Path: "/opt/cni/bin/flannel"}
		out = append(out, source{LockSource{URL: at, Files: []LockFile{file}}, at + ".sha256"})
	}
	return out
}

// images lists container images without digests.
func (u Upstream) images() ([]LockImage, error) {
	control := []fleet.Role{fleet.ControlPlane, fleet.SingleNode}
	var out []LockImage
	for _, n := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		out = append(out, LockImage{Name: n, Reference: "registry.k8s.io/" + n + ":" + u.Kubernetes, Roles: control})
	}
	out = append(out,
		LockImage{Name: "etcd", Reference: "registry.k8s.io/etcd:" + u.Etcd, Roles: control},
		LockImage{Name: "kube-proxy", Reference: "registry.k8s.io/kube-proxy:" + u.Kubernetes},
		LockImage{Name: "coredns", Reference: "registry.k8s.io/coredns/coredns:" + u.CoreDNS},
		LockImage{Name: "pause", Reference: "registry.k8s.io/pause:" + u.Pause})
	if u.Flannel != "" {
		out = append(out, LockImage{Name: "flannel", Reference: "ghcr.io/flannel-io/flannel:" + u.Flannel})
	}
	for _, r := range u.Images {
		r, only := strings.CutPrefix(r, "control-plane=")
		n, err := parseImageName(r)
		if err != nil {
			return nil, err
		}
		m := LockImage{Name: path.Base(n.repository), Reference: n.String()}
		if only {
			m.Roles = control
		}
		out = append(out, m)
	}
	return out, nil
}

// parseChecksum reads a published checksum of one file: the bare digest, or lines
// as sha256sum writes them.
func parseChecksum(text []byte, name string) (string, error) {
	for _, line := range strings.Split(string(text), "\n") {
		f := strings.Fields(line)
		if len(f) == 1 && isSHA256(f[0]) || len(f) == 2 && isSHA256(f[0]) && path.Base(strings.TrimPrefix(f[1], "*")) == name {
			return f[0], nil
		}
	}
	return "", fmt.Errorf("no SHA-256 of %s is in its checksum file", name)
}
