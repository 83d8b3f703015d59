package kube

import (
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"metalrise.dev/fleet"
)

// Names of the checks of a cluster as a whole.
const (
	ClusterAPI  = "api"     // it answers and is ready
	ClusterBase = "base"    // Base was applied
	ClusterEtcd = "etcd"    // the planned control planes, and no others, are voting members
	ClusterDNS  = "coredns" // names of services are answered
)

// sight is what is seen of a cluster at one moment. Nothing in it is changed.
type sight struct {
	nodes    map[string]*corev1.Node
	pods     []*corev1.Pod // of the namespaces of the system
	requests []*certificatesv1.CertificateSigningRequest
	warnings map[types.UID]*corev1.Event // the newest of each object
	dns      *appsv1.Deployment
	base     *corev1.ConfigMap
	members  fleet.Maybe[[]Member]
	// noMembers is why etcd did not tell its members when it was asked last.
	noMembers error
	// proven holds, by node name, since when its kubelet was seen to serve with a
	// certificate of the cluster's authority.
	proven map[string]time.Time
	// unproven says, by node name, what came of the last look at its kubelet.
	unproven map[string]string
	kvm      func(fleet.ServerID) fleet.Check // nil: nobody knows
	sorted   *lookup                          // made where many nodes are judged; see lookup
}

// nodeChecks judges one planned node, in the order of fleet's names. Since is
// zero where the objects do not tell.
func nodeChecks(a fleet.Assignment, cni fleet.CNI, s *sight) []fleet.Check {
	n := s.nodes[a.Node.Name]
	control, probed := isControl(a.Role), s.lookup().probed
	out := []fleet.Check{registered(a, n)}
	for _, one := range []struct {
		name string
		look func() fleet.Check
		skip bool
		bare bool // needs no Node object
	}{
		{name: fleet.CheckDressed, look: func() fleet.Check { return dressed(a, n) }},
		{name: fleet.CheckServing, look: func() fleet.Check { return serving(a, s) }},
		{name: fleet.CheckNetwork, look: func() fleet.Check { return network(n, cni, s) }},
		{name: fleet.CheckServices, skip: !probed, look: func() fleet.Check { return services(n, s) }},
		{name: fleet.CheckKubelet, look: func() fleet.Check { return kubelet(n) }},
		{name: fleet.CheckPressure, look: func() fleet.Check { return pressure(n) }},
		{name: fleet.CheckControl, skip: !control, look: func() fleet.Check {
			return allReady(s, fleet.CheckControl, a.Node.Name, "kube-apiserver", "kube-controller-manager", "kube-scheduler")
		}},
		{name: fleet.CheckEtcd, skip: !control, look: func() fleet.Check { return etcd(a, s) }},
		{name: fleet.CheckKVM, bare: true, look: func() fleet.Check { return kvm(a, s) }},
		{name: fleet.CheckSchedulable, look: func() fleet.Check { return schedulable(n) }},
	} {
		switch {
		case one.skip:
		case n == nil && !one.bare:
			out = append(out, not(one.name, "the API has no node %s", a.Node.Name))
		default:
			out = append(out, one.look())
		}
	}
	return out
}

// clusterChecks judges what concerns no single node. unreachable says why the
// API does not answer; "" when it does.
func clusterChecks(p fleet.Plan, s *sight, unreachable string) []fleet.Check {
	api := yes(ClusterAPI, time.Time{})
	if unreachable != "" {
		api = not(ClusterAPI, "%s", unreachable)
	}
	base := not(ClusterBase, "pod network and rules of admission were not applied yet")
	if s.base != nil {
		base = yes(ClusterBase, s.base.CreationTimestamp.Time)
	}
	return []fleet.Check{api, base, memberships(p, s), coreDNS(s)}
}

func yes(name string, since time.Time) fleet.Check {
	return fleet.Check{Name: name, OK: true, Since: since}
}

func not(name, format string, args ...any) fleet.Check {
	return fleet.Check{Name: name, Missing: words(fmt.Sprintf(format, args...))}
}

func isControl(r fleet.Role) bool { return r == fleet.ControlPlane || r == fleet.SingleNode }

// registered compares what the kubelet said of itself with the plan.
func registered(a fleet.Assignment, n *corev1.Node) fleet.Check {
	if n == nil {
		return not(fleet.CheckRegistered, "the API has no node %s", a.Node.Name)
	}
	var addresses []string
	for _, one := range n.Status.Addresses {
		if one.Type == corev1.NodeInternalIP {
			addresses = append(addresses, one.Address)
		}
	}
	planned := plannedAddress(a)
	switch {
	case len(addresses) == 0:
		return not(fleet.CheckRegistered, "the node has not said its address yet")
	case planned.IsValid() && !slices.Contains(addresses, planned.String()):
		return not(fleet.CheckRegistered, "the node's address is %s, the planned one is %s", strings.Join(addresses, ", "), planned)
	}
	if seen := systemUUID(n); seen.UUID != "" && a.Identity.UUID != "" && !(fleet.Identity{UUID: a.Identity.UUID}).Match(seen) {
		return not(fleet.CheckRegistered, "the node runs on a machine with system UUID %s, the planned server has %s", seen.UUID, a.Identity.UUID)
	}
	return yes(fleet.CheckRegistered, n.CreationTimestamp.Time)
}

// systemUUID is empty where the machine has none: the kubelet then says its
// machine id in its place (cAdvisor, machine info).
func systemUUID(n *corev1.Node) fleet.Identity {
	info := n.Status.NodeInfo
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "")) }
	if plain(info.SystemUUID) == plain(info.MachineID) && !strings.Contains(info.SystemUUID, "-") {
		return fleet.Identity{}
	}
	return fleet.NewIdentity(info.SystemUUID, "")
}

func dressed(a fleet.Assignment, n *corev1.Node) fleet.Check {
	var missing []string
	for key, value := range a.Node.Labels {
		if have, ok := n.Labels[key]; !ok || have != value {
			missing = append(missing, "label "+key+"="+value)
		}
	}
	for _, t := range a.Node.Taints {
		if !slices.ContainsFunc(n.Spec.Taints, func(have corev1.Taint) bool {
			return have.Key == t.Key && have.Value == t.Value && string(have.Effect) == t.Effect
		}) {
			missing = append(missing, "taint "+t.Key+":"+t.Effect)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return not(fleet.CheckDressed, "it lacks %s", strings.Join(missing, ", "))
	}
	return yes(fleet.CheckDressed, time.Time{})
}

// serving is true when the kubelet was seen with a certificate of the cluster,
// or one was issued a moment ago.
func serving(a fleet.Assignment, s *sight) fleet.Check {
	if since, ok := s.proven[a.Node.Name]; ok {
		if n := s.nodes[a.Node.Name]; n != nil { // certificates are valid from before they are made
			since = later(since, n.CreationTimestamp.Time)
		}
		return yes(fleet.CheckServing, since)
	}
	last := s.lookup().serving[nodeUserPrefix+a.Node.Name]
	if last == nil {
		text := "the kubelet has not asked for a serving certificate in the last hour"
		if seen := s.unproven[a.Node.Name]; seen != "" {
			text += ", and it is not seen: " + seen
		}
		return not(fleet.CheckServing, "%s", text)
	}
	for _, one := range last.Status.Conditions {
		switch {
		case one.Type == certificatesv1.CertificateDenied, one.Type == certificatesv1.CertificateFailed:
			return not(fleet.CheckServing, "the request %s was refused: %s", last.Name, one.Message)
		case one.Type == certificatesv1.CertificateApproved && len(last.Status.Certificate) > 0:
			return yes(fleet.CheckServing, one.LastUpdateTime.Time)
		case one.Type == certificatesv1.CertificateApproved:
			return not(fleet.CheckServing, "the request %s is approved and not signed yet", last.Name)
		}
	}
	return not(fleet.CheckServing, "the request %s waits to be judged", last.Name)
}

// flannelPrefix begins the name of flannel's DaemonSet.
const flannelPrefix = "kube-flannel"

// network asks flannel's pod on the node, or, where the network is the site's
// own, the node's conditions alone.
func network(n *corev1.Node, cni fleet.CNI, s *sight) fleet.Check {
	if c := condition(n, corev1.NodeNetworkUnavailable); c != nil && c.Status == corev1.ConditionTrue {
		return not(fleet.CheckNetwork, "%s: %s", c.Reason, c.Message)
	}
	if cni == fleet.OwnCNI {
		c := kubelet(n)
		if c.Name = fleet.CheckNetwork; !c.OK {
			c.Missing = words("the node is not ready, so its network is not proven: " + c.Missing)
		}
		return c
	}
	trouble, owner := "", flannelPrefix
	for _, pod := range s.lookup().on[n.Name] {
		by := metav1.GetControllerOf(pod)
		if by == nil || by.Kind != "DaemonSet" || !strings.HasPrefix(by.Name, flannelPrefix) {
			continue
		}
		if ok, since := podReady(pod); ok {
			return yes(fleet.CheckNetwork, since)
		}
		trouble, owner = ": "+podTrouble(pod, s.warnings[pod.UID]), by.Name
	}
	return not(fleet.CheckNetwork, "DaemonSet %s has no ready pod on it%s", owner, trouble)
}

func condition(n *corev1.Node, t corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range n.Status.Conditions {
		if n.Status.Conditions[i].Type == t {
			return &n.Status.Conditions[i]
		}
	}
	return nil
}

func kubelet(n *corev1.Node) fleet.Check {
	c := condition(n, corev1.NodeReady)
	switch {
	case c == nil:
		return not(fleet.CheckKubelet, "the kubelet has not said yet how it is")
	case c.Status == corev1.ConditionTrue:
		return yes(fleet.CheckKubelet, c.LastTransitionTime.Time)
	}
	out := not(fleet.CheckKubelet, "%s: %s", c.Reason, c.Message)
	if c.Status == corev1.ConditionUnknown {
		out = not(fleet.CheckKubelet, "the kubelet was last heard from at %s: %s", c.LastHeartbeatTime.UTC().Format(time.RFC3339), c.Message)
	}
	out.Since = c.LastTransitionTime.Time
	return out
}

func pressure(n *corev1.Node) fleet.Check {
	out := yes(fleet.CheckPressure, time.Time{})
	for _, t := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		c := condition(n, t)
		switch {
		case c == nil:
			return not(fleet.CheckPressure, "the kubelet has not said yet whether there is %s", t)
		case c.Status == corev1.ConditionTrue:
			out = not(fleet.CheckPressure, "%s: %s", t, c.Message)
			out.Since = c.LastTransitionTime.Time
			return out
		case c.Status == corev1.ConditionUnknown:
			return not(fleet.CheckPressure, "%s is not known: %s", t, c.Message)
		case c.LastTransitionTime.After(out.Since):
			out.Since = c.LastTransitionTime.Time
		}
	}
	return out
}

// allReady asks for the static pods of a control plane.
func allReady(s *sight, check, node string, components ...string) fleet.Check {
	out := yes(check, time.Time{})
	var missing []string
	for _, one := range components {
		pod := s.lookup().system[one+"-"+node]
		if pod == nil {
			missing = append(missing, one+" has no pod")
			continue
		}
		ok, since := podReady(pod)
		if !ok {
			missing = append(missing, one+": "+podTrouble(pod, s.warnings[pod.UID]))
		}
		if since.After(out.Since) {
			out.Since = since
		}
	}
	if len(missing) > 0 {
		return not(check, "%s", strings.Join(missing, "; "))
	}
	return out
}

func etcd(a fleet.Assignment, s *sight) fleet.Check {
	out := allReady(s, fleet.CheckEtcd, a.Node.Name, "etcd")
	members, known := s.members.Get()
	if !out.OK || !known {
		return out
	}
	i := slices.IndexFunc(members, func(m Member) bool { return m.is(a) })
	switch {
	case i < 0:
		return not(fleet.CheckEtcd, "etcd has no member of this node")
	case members[i].Learner:
		return not(fleet.CheckEtcd, "its member of etcd still learns and does not vote")
	case !members[i].Healthy:
		return not(fleet.CheckEtcd, "its member of etcd is not healthy: %s", members[i].Trouble)
	}
	return out
}

func kvm(a fleet.Assignment, s *sight) fleet.Check {
	if s.kvm == nil {
		return not(fleet.CheckKVM, "nobody has looked")
	}
	c := s.kvm(a.Server)
	c.Name = fleet.CheckKVM
	return c
}

func schedulable(n *corev1.Node) fleet.Check {
	if n.Spec.Unschedulable {
		return not(fleet.CheckSchedulable, "it is cordoned")
	}
	return yes(fleet.CheckSchedulable, time.Time{})
}

// memberships compares etcd with the planned control planes.
func memberships(p fleet.Plan, s *sight) fleet.Check {
	members, known := s.members.Get()
	switch {
	case !known && s.noMembers != nil:
		return not(ClusterEtcd, "etcd does not tell its members: %v", s.noMembers)
	case !known:
		return not(ClusterEtcd, "etcd has not been asked for its members yet")
	}
	var absent, strange []string
	for _, a := range p.Assignments {
		if isNode(a) && isControl(a.Role) && !slices.ContainsFunc(members, func(m Member) bool { return m.is(a) && m.Healthy && !m.Learner }) {
			absent = append(absent, a.Node.Name)
		}
	}
	for _, m := range members {
		if !slices.ContainsFunc(p.Assignments, func(a fleet.Assignment) bool { return isNode(a) && isControl(a.Role) && m.is(a) }) {
			strange = append(strange, m.label())
		}
	}
	var missing []string
	if len(absent) > 0 {
		missing = append(missing, "not voting and healthy: "+strings.Join(absent, ", "))
	}
	if len(strange) > 0 {
		missing = append(missing, "members that are in no plan: "+strings.Join(strange, ", "))
	}
	if len(missing) > 0 {
		return not(ClusterEtcd, "%s", strings.Join(missing, "; "))
	}
	return yes(ClusterEtcd, time.Time{})
}

func coreDNS(s *sight) fleet.Check {
	if s.dns == nil {
		return not(ClusterDNS, "there is no Deployment coredns in kube-system")
	}
	for _, one := range s.dns.Status.Conditions {
		if one.Type == appsv1.DeploymentAvailable && one.Status == corev1.ConditionTrue {
			return yes(ClusterDNS, one.LastTransitionTime.Time)
		}
	}
	for _, pod := range s.pods {
		if pod.Labels["k8s-app"] == "kube-dns" {
			if ok, _ := podReady(pod); !ok {
				return not(ClusterDNS, "pod %s: %s", pod.Name, podTrouble(pod, s.warnings[pod.UID]))
			}
		}
	}
	return not(ClusterDNS, "%d of its pods are available", s.dns.Status.AvailableReplicas)
}

// lookup finds what belongs to one node without going through everything: at a
// thousand nodes that would be millions of steps for each change that is seen.
type lookup struct {
	on      map[string][]*corev1.Pod                             // pods by node
	system  map[string]*corev1.Pod                               // of kube-system, by name
	probed  bool                                                 // some node has a pod of serviceProbe
	serving map[string]*certificatesv1.CertificateSigningRequest // the newest for a serving certificate, by who asks
}

// lookup sorts what is seen, unless that was done.
func (s *sight) lookup() *lookup {
	if s.sorted != nil {
		return s.sorted
	}
	l := &lookup{on: map[string][]*corev1.Pod{}, system: map[string]*corev1.Pod{}, serving: map[string]*certificatesv1.CertificateSigningRequest{}}
	for _, pod := range s.pods {
		l.on[pod.Spec.NodeName] = append(l.on[pod.Spec.NodeName], pod)
		l.probed = l.probed || pod.Labels[nameLabel] == serviceProbe
		if pod.Namespace == metav1.NamespaceSystem {
			l.system[pod.Name] = pod
		}
	}
	for _, r := range s.requests {
		if last := l.serving[r.Spec.Username]; r.Spec.SignerName == certificatesv1.KubeletServingSignerName &&
			(last == nil || last.CreationTimestamp.Before(&r.CreationTimestamp)) {
			l.serving[r.Spec.Username] = r
		}
	}
	return l
}
