package kube

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Node is all that decides what one server is given to become a node.
type Node struct {
	Plan       fleet.Plan
	Assignment fleet.Assignment
	Runtime    fleet.NodeRuntime // as the agent of the installed system saw it
	Payload    fleet.Payload
	Attempt    int // from 1, of this kind of task: it makes the task's ID
	// Path gives the path below the ticket's URL from which a content is fetched.
	Path func(sha256 string) string
	// Gates are feature gates of the API server, its companions and the kubelet.
	// None is needed today but by KubeVirt before 1.7 on Kubernetes 1.34
	// (PodObservedGenerationTracking=false).
	Gates map[string]bool
	// Mirror serves the payload's images; zero where nobody does.
	Mirror Mirror
}

// defaultAPIPort is where an API server answers behind a load balancer.
const defaultAPIPort = 6443

// criSocket is where containerd answers.
const criSocket = "unix:///run/containerd/containerd.sock"

// check tells why no task can be made, all reasons at once.
func (n Node) check() error {
	a := n.Assignment
	if n.Plan.Cluster == nil || a.Node == nil {
		return fleet.NewFault(fleet.CodePlanStale, fleet.Invalid, nil, "the plan of %s has no cluster", a.Hostname)
	}
	var wrong []string
	code := fleet.CodePayloadInvalid
	for _, f := range Validate(n.Plan, n.Payload) {
		if f.Severity == fleet.Blocker {
			wrong = append(wrong, f.Text)
			if f.Code == fleet.CodeFlavourUnknown {
				code = f.Code
			}
		}
	}
	if len(wrong) == 0 {
		code = fleet.CodePlanStale
		wrong = append(n.wrongNode(), wrongEndpoint(*n.Plan.Cluster)...)
	}
	if len(wrong) > 0 {
		return fleet.NewFault(code, fleet.Invalid, nil, "make %s a node: %s", a.Hostname, strings.Join(wrong, "; "))
	}
	return nil
}

// Everything below ends up in files of other programs, some of them without
// quotes. The plan was checked; who made it is not known here.
var nodeName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

func (n Node) wrongNode() []string {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	a := n.Assignment
	switch a.Role {
	case fleet.ControlPlane, fleet.SingleNode, fleet.Worker:
	default:
		say("role %q takes no part in a cluster", a.Role)
	}
	if !nodeName.MatchString(a.Node.Name) || len(a.Node.Name) > 253 {
		say("node name %q is no DNS name in lower case", a.Node.Name)
	}
	if a.Node.Initial && !n.controlPlane() {
		say("a %s cannot begin the cluster", a.Role)
	}
	if p, err := netip.ParsePrefix(a.Network.Address); err != nil || p.Addr().IsUnspecified() {
		say("address %q is none with a prefix length", a.Network.Address)
	}
	if n.Runtime.CgroupVersion != 1 && n.Runtime.CgroupVersion != 2 {
		say("cgroup version %d is not known: the agent has not looked", n.Runtime.CgroupVersion)
	}
	if n.Path == nil {
		say("nobody says where contents are fetched from")
	}
	if n.Attempt < 1 {
		say("attempt %d is none", n.Attempt)
	}
	return append(wrong, n.Mirror.wrong()...)
}

func wrongEndpoint(c fleet.ClusterPlan) []string {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	e := c.Endpoint
	if e.Port < 1 || e.Port > 65535 {
		say("port %d of the API is none", e.Port)
	}
	addr, err := netip.ParseAddr(e.Address)
	switch e.Kind {
	case fleet.VirtualIP:
		if err != nil || addr.Zone() != "" {
			say("virtual address %q is no IP address", e.Address)
		}
		if e.VRRP < 1 || e.VRRP > 255 {
			say("virtual router id %d is not between 1 and 255", e.VRRP)
		}
	case fleet.LoadBalancer, fleet.NodeAddress:
		if err != nil && !nodeName.MatchString(e.Address) {
			say("address %q of the API is neither an IP address nor a name", e.Address)
		}
	default:
		say("kind %q of the API's address is not known", e.Kind)
	}
	return wrong
}

func (n Node) controlPlane() bool {
	return n.Assignment.Role == fleet.ControlPlane || n.Assignment.Role == fleet.SingleNode
}

// holdsVIP tells whether the node takes part in holding the API's address.
func (n Node) holdsVIP() bool {
	return n.controlPlane() && n.Plan.Cluster.Endpoint.Kind == fleet.VirtualIP
}

// address is the node's own, without prefix length. check has parsed it.
func (n Node) address() netip.Addr {
	p, _ := netip.ParsePrefix(n.Assignment.Network.Address)
	return p.Addr()
}

// inContainer: the node is a system container. It shares its kernel and its
// disk with others and may not change what is not its own.
func (n Node) inContainer() bool { return n.Runtime.Container != "" }

// bindPort is where the API servers listen: a load balancer may answer elsewhere.
func bindPort(e fleet.APIEndpoint) int {
	if e.Kind == fleet.LoadBalancer {
		return defaultAPIPort
	}
	return e.Port
}

func hostPort(e fleet.APIEndpoint) string { return net.JoinHostPort(e.Address, strconv.Itoa(e.Port)) }

// program is where a program of the payload lies on the node. Validate has seen it.
func (n Node) program(name string) string {
	f, _ := file(n.Payload, name)
	return f.Path
}

func file(p fleet.Payload, name string) (fleet.PayloadFile, bool) {
	i := slices.IndexFunc(p.Files, func(f fleet.PayloadFile) bool { return f.Name == name })
	if i < 0 {
		return fleet.PayloadFile{}, false
	}
	return p.Files[i], true
}

// searchPath is PATH for everything that the payload's programs start: their own
// folders first, those of the system after them.
func (n Node) searchPath() string {
	var dirs []string
	for _, name := range programs() {
		if dir := path.Dir(n.program(name)); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return strings.Join(append(dirs, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"), ":")
}

// image is a reference to a container image, taken apart.
type image struct{ repository, name, tag string }

func (i image) String() string { return i.repository + "/" + i.name + ":" + i.tag }

// reference finds the image of a component by the last part of its name, and the
// archive it is in: what a vendor calls its archives is the vendor's business.
func reference(p fleet.Payload, name string) (image, fleet.PayloadImage, bool) {
	for _, archive := range p.Images {
		for _, r := range archive.References {
			if i, ok := parseReference(r); ok && i.name == name {
				return i, archive, true
			}
		}
	}
	return image{}, fleet.PayloadImage{}, false
}

// referenceShape is the usual form with a tag, which is all that kubeadm can
// make out of a repository and a tag: no digests, no bare names.
var referenceShape = regexp.MustCompile(`^([a-zA-Z0-9][a-zA-Z0-9.:_-]*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)/([a-z0-9]+(?:[._-]+[a-z0-9]+)*):([A-Za-z0-9_][A-Za-z0-9._-]{0,127})$`)

// pinnedShape is a name with the digest of what it stands for. An archive may hold
// an image under one besides its tag: KubeVirt asks for it when a VM moves.
var pinnedShape = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9.:_-]*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)+@sha256:[0-9a-f]{64}$`)

func parseReference(s string) (image, bool) {
	m := referenceShape.FindStringSubmatch(s)
	if m == nil || len(s) > 500 {
		return image{}, false
	}
	return image{repository: m[1], name: m[2], tag: m[3]}, true
}

// image finds an image that Validate has seen.
func (n Node) image(name string) image {
	i, _, _ := reference(n.Payload, name)
	return i
}

// taskID names a task of this attempt: "prepare-1".
func (n Node) taskID(verb string) string { return fmt.Sprintf("%s-%d", verb, n.Attempt) }

// The steps that are used here.

func fileStep(name, to string, mode uint32, data string) callhome.Step {
	return callhome.Step{Name: name, File: &callhome.FileStep{To: to, Mode: mode, Data: []byte(data)}}
}

func unitStep(verb, unit string) callhome.Step {
	return callhome.Step{Name: strings.TrimSpace(verb + " " + unit), Unit: &callhome.UnitStep{Verb: verb, Name: unit}}
}

func goneStep(p string) callhome.Step {
	return callhome.Step{Name: "remove " + p, Gone: &callhome.RemoveStep{Path: p}}
}
