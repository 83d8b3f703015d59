package kube

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"metalrise.dev/fleet"
)

// programs are the files that every payload must bring, by name.
func programs() []string {
	return []string{"kubelet", "kubeadm", "containerd", "containerd-shim-runc-v2", "ctr", "runc"}
}

// plugins are the CNI plugins that a payload must bring for a pod network. Any
// other brings its own.
func plugins(c fleet.CNI) []string {
	if c == fleet.OwnCNI {
		return []string{"cni/loopback"}
	}
	return []string{"cni/bridge", "cni/flannel", "cni/host-local", "cni/loopback", "cni/portmap"}
}

// requirement is an image that must be there, and on which nodes.
type requirement struct {
	name  string
	roles []fleet.Role
}

// required lists the images for a plan.
func required(p fleet.Plan) []requirement {
	var all, control []fleet.Role
	for _, a := range p.Assignments {
		if a.Role == fleet.Excluded || a.Node == nil || slices.Contains(all, a.Role) {
			continue
		}
		all = append(all, a.Role)
		if a.Role != fleet.Worker {
			control = append(control, a.Role)
		}
	}
	out := []requirement{
		{"pause", all}, {"kube-proxy", all}, {"coredns", all},
		{"kube-apiserver", control}, {"kube-controller-manager", control}, {"kube-scheduler", control}, {"etcd", control},
	}
	switch p.Cluster.CNI {
	case fleet.Flannel, fleet.FlannelHostGW:
		out = append(out, requirement{"flannel", all})
	}
	if p.Cluster.Endpoint.Kind == fleet.VirtualIP {
		out = append(out, requirement{"keepalived", control})
	}
	return out
}

// leastMinor is the first release (1.31) whose kubeadm reads the configuration
// written here (v1beta4), and whose kubelet knows failCgroupV1.
const leastMinor = 31

var versionShape = regexp.MustCompile(`^v1\.([0-9]{1,3})\.[0-9]{1,3}(-[0-9A-Za-z.-]+)?$`)

// Validate tells whether a payload suits a plan, all faults at once. A plan
// without a cluster needs none.
func Validate(p fleet.Plan, payload fleet.Payload) []fleet.Finding {
	c := p.Cluster
	if c == nil {
		return nil
	}
	v := &validation{}
	if c.Flavour != fleet.Kubeadm {
		v.add(fleet.CodeFlavourUnknown, "cluster.flavour", "Use cluster.flavour: "+string(fleet.Kubeadm)+".",
			"flavour %q cannot be brought up", c.Flavour)
		return v.findings // what another flavour needs is not known
	}
	switch c.CNI {
	case fleet.Flannel, fleet.FlannelHostGW, fleet.OwnCNI:
	default:
		v.add(fleet.CodePayloadInvalid, "cluster.cni", "Use flannel, flannel-host-gw or own.", "pod network %q is not known", c.CNI)
	}
	v.header(*c, payload)
	v.files(*c, payload)
	v.images(p, payload)
	return v.findings
}

type validation struct{ findings []fleet.Finding }

func (v *validation) add(code fleet.Code, where, remedy, format string, args ...any) {
	v.findings = append(v.findings, fleet.Finding{Code: code, Severity: fleet.Blocker, Path: where, Text: fmt.Sprintf(format, args...), Remedy: remedy})
}

func (v *validation) fault(format string, args ...any) {
	v.add(fleet.CodePayloadInvalid, "cluster.software", "Name the folder of a payload that suits this site.", format, args...)
}

func (v *validation) header(c fleet.ClusterPlan, p fleet.Payload) {
	if p.APIVersion != fleet.PayloadVersion {
		v.fault("the payload is of version %q, want %q", p.APIVersion, fleet.PayloadVersion)
	}
	if p.Flavour != c.Flavour {
		v.fault("the payload is for flavour %q, the plan wants %q", p.Flavour, c.Flavour)
	}
	if p.Architecture != "x86_64" && p.Architecture != "aarch64" {
		v.fault("the payload is for processors %q, want x86_64 or aarch64", p.Architecture)
	}
	m := versionShape.FindStringSubmatch(p.Version)
	if m == nil {
		v.fault("the payload's version %q is no release of Kubernetes like v1.34.4", p.Version)
	} else if minor, _ := strconv.Atoi(m[1]); minor < leastMinor {
		v.fault("the payload's version %s is too old, v1.%d is the first that can be brought up", p.Version, leastMinor)
	}
	if p.Version != c.Version {
		v.fault("the payload is of version %s, the plan wants %s", p.Version, c.Version)
	}
	if digest, err := fleet.Digest(p); c.PayloadDigest != "" && (err != nil || digest != c.PayloadDigest) {
		v.fault("the payload is not the one the plan was made with: its digest is %.12s, not %.12s", digest, c.PayloadDigest)
	}
}

// Paths of files end up in scripts and units without quotes.
var (
	pathShape   = regexp.MustCompile(`^(/[A-Za-z0-9][A-Za-z0-9._-]*)+$`)
	digestShape = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func (v *validation) files(c fleet.ClusterPlan, p fleet.Payload) {
	names, paths := map[string]bool{}, map[string]bool{}
	for _, f := range p.Files {
		if names[f.Name] || paths[f.Path] {
			v.fault("file %q (%s) is there twice", f.Name, f.Path)
		}
		names[f.Name], paths[f.Path] = true, true
		v.file(f)
	}
	for _, name := range slices.Concat(programs(), plugins(c.CNI)) {
		if !names[name] {
			v.fault("file %q is missing", name)
		}
	}
	for _, f := range p.Files {
		if f.Target != "" && !paths[f.Target] {
			v.fault("file %q is a link to %s, which the payload does not bring", f.Name, f.Target)
		}
		if strings.HasPrefix(f.Name, "cni/") && path.Dir(f.Path) != cniBinDir {
			v.fault("CNI plugin %q is to lie at %s, but they are looked for in %s", f.Name, f.Path, cniBinDir)
		}
	}
}

func (v *validation) file(f fleet.PayloadFile) {
	if !pathShape.MatchString(f.Path) {
		v.fault("file %q is to lie at %q, which is no plain absolute path", f.Name, f.Path)
	} else if strings.HasPrefix(f.Path, "/usr/") && !strings.HasPrefix(f.Path, "/usr/local/") {
		// CoreOS mounts /usr read-only; /usr/local and /opt are elsewhere.
		v.fault("file %q is to lie at %s, but /usr cannot be written to: use /opt or /usr/local", f.Name, f.Path)
	}
	if f.Target != "" {
		if !pathShape.MatchString(f.Target) {
			v.fault("file %q is a link to %q, which is no plain absolute path", f.Name, f.Target)
		}
		return
	}
	if f.Mode == 0 || f.Mode&^0o777 != 0 {
		v.fault("file %q has mode %o, want permission bits only", f.Name, f.Mode)
	}
	if !digestShape.MatchString(f.Digest) || f.Bytes <= 0 {
		v.fault("file %q has digest %q and %d bytes, want a SHA-256 in hexadecimal and a size", f.Name, f.Digest, f.Bytes)
	}
}

func (v *validation) images(p fleet.Plan, payload fleet.Payload) {
	needed, seen := map[string]bool{}, map[string]string{}
	for _, q := range required(p) {
		needed[q.name] = true
	}
	for _, archive := range payload.Images {
		if !digestShape.MatchString(archive.Digest) || archive.Bytes <= 0 {
			v.fault("image archive %q has digest %q and %d bytes, want a SHA-256 in hexadecimal and a size", archive.Name, archive.Digest, archive.Bytes)
		}
		for _, r := range archive.References {
			if len(r) <= 500 && pinnedShape.MatchString(r) {
				continue
			}
			i, ok := parseReference(r)
			if !ok {
				v.fault("image archive %q has reference %q, want one like registry.k8s.io/etcd:3.6.5-0", archive.Name, r)
				continue
			}
			if old, ok := seen[i.name]; ok && needed[i.name] {
				v.fault("image %q is there twice, as %s and as %s: which one to use is not known", i.name, old, r)
			}
			seen[i.name] = r
		}
	}
	for _, q := range required(p) {
		i, archive, ok := reference(payload, q.name)
		if !ok {
			v.fault("image %q is missing", q.name)
			continue
		}
		for _, role := range q.roles {
			if !archive.For(role) {
				v.fault("image %s is in archive %q, which is not for nodes of role %s", i, archive.Name, role)
			}
		}
	}
	v.oneRepository(p.Cluster.Version, payload)
}

// oneRepository holds what kubeadm takes for granted: its images differ in
// their names only.
func (v *validation) oneRepository(version string, payload fleet.Payload) {
	server, _, ok := reference(payload, "kube-apiserver")
	if !ok {
		return
	}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"} {
		want := image{server.repository, name, version}
		if i, _, ok := reference(payload, name); ok && i != want {
			v.fault("image %s should be called %s", i, want)
		}
	}
	if dns, _, ok := reference(payload, "coredns"); ok && dns.repository == officialRepository {
		v.fault("image %s should be in %s/coredns, where kubeadm looks for it", dns, officialRepository)
	}
}

// officialRepository is the one name that kubeadm treats in its own way.
const officialRepository = "registry.k8s.io"
