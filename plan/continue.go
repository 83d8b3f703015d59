package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"

	"metalrise.dev/fleet"
)

// continueCluster keeps the settings of a cluster that was begun. Every node of
// it was told them, so they cannot change; what the site says otherwise is
// reported. Only the permission to emulate follows the site: it is not built
// into anything.
func (m *maker) continueCluster(old fleet.ClusterPlan) {
	c := m.in.Site.Cluster
	now := old
	now.Emulation = m.in.Site.Virtualization.Emulation
	if now.Since == "" && !m.in.Unbegun {
		now.Since = m.before.ID
	}
	m.cluster, m.continued = &now, !m.in.Unbegun
	now.Gates = maps.Clone(old.Gates)
	m.continuePayload(old)
	fixed := func(code fleet.Code, path string, differs bool, is any) {
		if differs {
			m.add(code, fleet.Warning, "", path, fmt.Sprintf("the cluster has %v, and keeps it; what the site says is not applied", is), "Write what the cluster has; another value needs a new cluster.")
		}
	}
	fixed(fleet.CodeFlavourUnknown, "cluster.flavour", c.Flavour != "" && c.Flavour != old.Flavour, old.Flavour)
	fixed(fleet.CodeClusterNetwork, "cluster.podCIDR", c.PodCIDR != "" && !samePrefix(c.PodCIDR, old.PodCIDR), old.PodCIDR)
	fixed(fleet.CodeClusterNetwork, "cluster.serviceCIDR", c.ServiceCIDR != "" && !samePrefix(c.ServiceCIDR, old.ServiceCIDR), old.ServiceCIDR)
	fixed(fleet.CodeClusterNetwork, "cluster.cni", c.CNI != "" && c.CNI != old.CNI || c.CNI == "" && old.CNI != fleet.Flannel && c.Software != "", old.CNI)
	fixed(fleet.CodeClusterNetwork, "cluster.cniManifests", old.CNI == fleet.OwnCNI && c.CNI == fleet.OwnCNI && m.in.Manifests != old.Manifests, "the manifests with which it was begun")
	m.continueEndpoint(old.Endpoint)
}

// continuePayload holds the nodes' software of a cluster against that of the
// site. New nodes get what the site names, if it is the same version.
func (m *maker) continuePayload(old fleet.ClusterPlan) {
	severity, more := fleet.Warning, ""
	if n := len(m.fresh()); n > 0 {
		severity, more = fleet.Blocker, fmt.Sprintf("; %d servers are to become nodes", n)
	}
	bad := func(text, remedy string) {
		m.add(fleet.CodePayloadInvalid, severity, "", "cluster.software", text+more, remedy)
	}
	p := m.in.Payload
	switch {
	case m.in.Site.Cluster.Software == "":
		bad("the servers are nodes of a cluster, but the site names no software for nodes", "Set cluster.software as it was.")
		return
	case p == nil:
		why := m.in.PayloadProblem
		if why == "" {
			why = "the folder of the nodes' software was not read"
		}
		bad(why, "Point cluster.software at the folder that it named before.")
		return
	case p.Version != old.Version || p.Flavour != old.Flavour || p.Architecture != releaseArchitecture:
		bad(fmt.Sprintf("the cluster runs %s %s, the nodes' software is %s %s for %s", old.Flavour, old.Version, p.Flavour, p.Version, p.Architecture),
			"Point cluster.software at software of the cluster's version; a node never changes the version of its cluster.")
		return
	}
	digest, err := fleet.Digest(*p)
	if err != nil || digest == old.PayloadDigest {
		return
	}
	m.cluster.PayloadDigest = digest
	m.add(fleet.CodePayloadInvalid, fleet.Info, "", "cluster.software", fmt.Sprintf("the nodes' software is another build of %s than the one the cluster was begun with; nodes to come get it", old.Version),
		"Nothing to do if this is meant.")
}

// continueEndpoint compares the API's address, and refuses further control
// planes where it belongs to one of them.
func (m *maker) continueEndpoint(old fleet.APIEndpoint) {
	c := m.in.Site.Cluster
	fixed := func(path string) {
		m.add(fleet.CodeClusterAddress, fleet.Warning, "", path, fmt.Sprintf("the cluster's API is at %s port %d (%s), and stays there; what the site says is not applied", old.Address, old.Port, old.Kind),
			"Write what the cluster has; another address needs a new cluster.")
	}
	vip, err := netip.ParseAddr(c.VIP)
	host, port := fleet.SplitAddress(strings.ToLower(c.LoadBalancer))
	switch old.Kind {
	case fleet.VirtualIP:
		if err != nil || vip.String() != old.Address || c.LoadBalancer != "" {
			fixed("cluster.vip")
		}
		if c.VRRP != 0 && c.VRRP != old.VRRP {
			fixed("cluster.vrrp")
		}
	case fleet.LoadBalancer:
		if host != old.Address || port != fmt.Sprint(old.Port) || c.VIP != "" {
			fixed("cluster.loadBalancer")
		}
	case fleet.NodeAddress:
		if c.VIP != "" {
			fixed("cluster.vip")
		}
		if c.LoadBalancer != "" {
			fixed("cluster.loadBalancer")
		}
		m.checkOnlyPlane(old)
	}
}

// checkOnlyPlane: all nodes and certificates of such a cluster name the address
// of its only control plane. A second one would not be reached by anybody, and
// the cluster would stop with the first all the same.
func (m *maker) checkOnlyPlane(old fleet.APIEndpoint) {
	for _, d := range m.controlPlanes() {
		if d.kept {
			continue
		}
		m.add(fleet.CodeClusterAddress, fleet.Blocker, d.Server, "cluster.controlPlanes",
			fmt.Sprintf("the cluster was begun with the address of its only control plane (%s) as that of the API, so it cannot get further control planes", old.Address),
			"Give the server the role worker. A cluster that is to grow needs cluster.vip or cluster.loadBalancer from its beginning.")
	}
}
