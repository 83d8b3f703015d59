package plan_test

import (
	"slices"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/plan"
)

// TestClusterBlockers changes one thing of a good site at a time; exactly one
// blocker must say so, at its place.
func TestClusterBlockers(t *testing.T) {
	for name, c := range map[string]struct {
		code   fleet.Code
		path   string
		change func(*plan.Input)
	}{
		"vip outside":         {fleet.CodeClusterAddress, "cluster.vip", func(in *plan.Input) { in.Site.Cluster.VIP = "10.0.2.20" }},
		"vip of a BMC":        {fleet.CodeClusterAddress, "cluster.vip", func(in *plan.Input) { in.Servers[0].BMC.Address = "10.0.1.20:443" }},
		"vip of DNS":          {fleet.CodeClusterAddress, "cluster.vip", func(in *plan.Input) { in.Site.Cluster.VIP = "10.0.1.2" }},
		"vip of serving":      {fleet.CodeClusterAddress, "cluster.vip", func(in *plan.Input) { in.Site.Serving.Address = "10.0.1.20" }},
		"vip is broadcast":    {fleet.CodeClusterAddress, "cluster.vip", func(in *plan.Input) { in.Site.Cluster.VIP = "10.0.1.255" }},
		"vip is loopback":     {fleet.CodeClusterAddress, "cluster.vip", func(in *plan.Input) { in.Site.Cluster.VIP = "127.0.0.1" }},
		"vip in another form": {fleet.CodeClusterAddress, "cluster.vip", func(in *plan.Input) { in.Site.Cluster.VIP = "::ffff:10.0.1.20" }},
		"vip given to a server": {fleet.CodeAddressConflict, "servers[0].address", func(in *plan.Input) {
			in.Site.Servers = []fleet.Override{{Serial: "SN02", Address: "10.0.1.20/24"}}
		}},
		"no vip": {fleet.CodeClusterAddress, "cluster.vip", func(in *plan.Input) { in.Site.Cluster.VIP = "" }},
		"port of load balancer": {fleet.CodeClusterAddress, "cluster.loadBalancer", func(in *plan.Input) {
			in.Site.Cluster.VIP, in.Site.Cluster.LoadBalancer = "", "api.example.org:70000"
		}},
		"name of load balancer": {fleet.CodeClusterAddress, "cluster.loadBalancer", func(in *plan.Input) {
			in.Site.Cluster.VIP, in.Site.Cluster.LoadBalancer = "", "api_:6443"
		}},
		"pods over servers": {fleet.CodeClusterNetwork, "cluster.podCIDR", func(in *plan.Input) {
			in.Site.Cluster.PodCIDR = "10.0.0.0/21"
		}},
		"pods over BMCs": {fleet.CodeClusterNetwork, "cluster.podCIDR", func(in *plan.Input) {
			in.Site.Cluster.PodCIDR = "10.0.8.0/21"
		}},
		"services over a load balancer": {fleet.CodeClusterNetwork, "cluster.serviceCIDR", func(in *plan.Input) {
			in.Site.Cluster.VIP, in.Site.Cluster.LoadBalancer = "", "10.96.3.4:6443"
		}},
		"services over pods": {fleet.CodeClusterNetwork, "cluster.serviceCIDR", func(in *plan.Input) {
			in.Site.Cluster.ServiceCIDR = "10.244.128.0/24"
		}},
		"pods too few":   {fleet.CodeClusterNetwork, "cluster.podCIDR", func(in *plan.Input) { in.Site.Cluster.PodCIDR = "10.244.0.0/22" }},
		"pods too many":  {fleet.CodeClusterNetwork, "cluster.podCIDR", func(in *plan.Input) { in.Site.Cluster.PodCIDR = "48.0.0.0/7" }},
		"no software":    {fleet.CodePayloadInvalid, "cluster.software", func(in *plan.Input) { in.Payload = nil }},
		"other software": {fleet.CodePayloadInvalid, "cluster.software", func(in *plan.Input) { in.Payload.Architecture = "aarch64" }},
		"manifests too large": {fleet.CodeSiteInvalid, "cluster.cniManifests", func(in *plan.Input) {
			in.Site.Cluster.CNI, in.Site.Cluster.CNIManifests, in.Manifests = fleet.OwnCNI, "cni.yaml", strings.Repeat("#", 1<<20+1)
		}},
		"long name": {fleet.CodeNodeShape, "servers[0].hostname", func(in *plan.Input) {
			in.Site.Servers = []fleet.Override{{Serial: "SN02", Hostname: strings.Repeat("a", 48) + ".oslo.example.or"}}
		}},
		"too much kept free": {fleet.CodeNodeShape, "virtualization.reservedCPUs", func(in *plan.Input) {
			f := in.Facts["SN05"]
			f.CPU.Threads = fleet.Known(2)
			in.Facts["SN05"], in.Site.Virtualization.ReservedCPUs = f, 2
		}},
	} {
		t.Run(name, func(t *testing.T) {
			in := readScenario(t, "testdata/cluster-five/input.yaml")
			c.change(&in)
			p := plan.Make(in)
			blockers := slices.DeleteFunc(slices.Clone(p.Findings), func(f fleet.Finding) bool { return f.Severity != fleet.Blocker })
			if len(blockers) != 1 || blockers[0].Code != c.code || blockers[0].Path != c.path {
				t.Errorf("want one blocker %s at %s: %+v", c.code, c.path, blockers)
			}
		})
	}
}

// TestRouterID holds the rule of the virtual router id.
func TestRouterID(t *testing.T) {
	for vip, want := range map[string]int{"10.0.1.20": 20, "10.0.1.250": 250, "10.0.2.0": 1, "10.0.3.1": 1} {
		in := readScenario(t, "testdata/cluster-five/input.yaml")
		in.Site.Network.FirstAddress, in.Site.Cluster.VIP = "10.0.1.21/22", vip
		if p := plan.Make(in); p.Blocked() || p.Cluster.Endpoint.VRRP != want {
			t.Errorf("%s: id %d, want %d\n%s", vip, p.Cluster.Endpoint.VRRP, want, transcript(p))
		}
	}
}

// TestBegin: who begins is the first as people count, not as bytes compare.
func TestBegin(t *testing.T) {
	in := readScenario(t, "testdata/cluster-three/input.yaml")
	in.Site.Servers = []fleet.Override{{Serial: "SN01", Hostname: "n10"}, {Serial: "SN02", Hostname: "n9"}, {Serial: "SN03", Hostname: "n11"}}
	p := plan.Make(in)
	if a := p.Assignments[0]; p.Blocked() || a.Server != "SN02" || !a.Node.Initial {
		t.Errorf("got\n%s", transcript(p))
	}
}
