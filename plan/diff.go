package plan

import (
	"fmt"
	"reflect"
	"strings"

	"metalrise.dev/fleet"
)

// Diff tells people what changed from one plan to the next, one short line per
// change: the cluster, its VM platform, servers in the order of the new plan, those that left at
// the end. Equal plans give nothing. Endpoints, reasons and findings are not compared.
func Diff(before, after fleet.Plan) []string {
	var out []string
	if before.Image != after.Image {
		out = append(out, fmt.Sprintf("image: %s %s → %s %s", before.Image.Stream, before.Image.Version, after.Image.Stream, after.Image.Version))
	}
	out = append(out, diffCluster(before.Cluster, after.Cluster)...)
	out = append(out, diffStack(before.Stack, after.Stack)...)
	for _, b := range after.Assignments {
		a, ok := before.Assignment(b.Server)
		if !ok {
			out = append(out, fmt.Sprintf("%s: new, %s %s", b.Server, b.Role, b.Hostname))
			continue
		}
		out = append(out, diffAssignment(a, b)...)
	}
	for _, a := range before.Assignments {
		if _, ok := after.Assignment(a.Server); !ok {
			out = append(out, fmt.Sprintf("%s: gone, was %s %s", a.Server, a.Role, a.Hostname))
		}
	}
	return out
}

func diffCluster(a, b *fleet.ClusterPlan) []string {
	switch {
	case a == nil && b == nil:
		return nil
	case a == nil:
		return []string{fmt.Sprintf("cluster: new, %s %s", b.Flavour, b.Version)}
	case b == nil:
		return []string{fmt.Sprintf("cluster: gone, was %s %s", a.Flavour, a.Version)}
	}
	var out []string
	line := func(what string, old, now any) {
		if old != now {
			out = append(out, fmt.Sprintf("cluster: %s %v → %v", what, old, now))
		}
	}
	line("flavour", a.Flavour, b.Flavour)
	line("version", a.Version, b.Version)
	line("API", describeAddress(a.Endpoint), describeAddress(b.Endpoint))
	line("virtual router id", a.Endpoint.VRRP, b.Endpoint.VRRP)
	line("pod network", a.CNI, b.CNI)
	line("pods", a.PodCIDR, b.PodCIDR)
	line("services", a.ServiceCIDR, b.ServiceCIDR)
	line("emulation", a.Emulation, b.Emulation)
	if a.Manifests != b.Manifests {
		out = append(out, "cluster: manifests of the pod network")
	}
	if len(out) == 0 && a.PayloadDigest != b.PayloadDigest {
		out = append(out, "cluster: software of the nodes")
	}
	return out
}

func diffStack(a, b *fleet.StackPlan) []string {
	switch {
	case a == nil && b == nil:
		return nil
	case a == nil:
		return []string{fmt.Sprintf("VM platform: new, %d components", len(b.Components))}
	case b == nil:
		return []string{"VM platform: gone from the plan; what is installed stays"}
	}
	var out []string
	line := func(what string, old, now any) {
		if !reflect.DeepEqual(old, now) {
			out = append(out, fmt.Sprintf("VM platform: %s %v → %v", what, old, now))
		}
	}
	versions := func(s *fleet.StackPlan) (out []string) {
		for _, c := range s.Components {
			out = append(out, strings.TrimSpace(string(c.Name)+" "+c.Version))
		}
		return out
	}
	line("components", versions(a), versions(b))
	line("CPU model", a.CPUModel, b.CPUModel)
	line("memory promised in percent", a.MemoryOvercommit, b.MemoryOvercommit)
	line("emulation", a.Emulation, b.Emulation)
	line("networks", a.Networks, b.Networks)
	line("migration network", a.MigrationNetwork, b.MigrationNetwork)
	line("storage", a.Storage, b.Storage)
	line("feature gates of KubeVirt", a.FeatureGates, b.FeatureGates)
	line("proofs", a.Proofs, b.Proofs)
	if len(out) == 0 && !reflect.DeepEqual(a.Components, b.Components) {
		out = append(out, "VM platform: manifests")
	}
	return out
}

func diffAssignment(a, b fleet.Assignment) []string {
	var out []string
	line := func(what string, old, now any) {
		if !reflect.DeepEqual(old, now) {
			out = append(out, fmt.Sprintf("%s: %s %v → %v", b.Server, what, old, now))
		}
	}
	line("role", a.Role, b.Role)
	line("host name", a.Hostname, b.Hostname)
	line("address", a.Network.Address, b.Network.Address)
	line("network port", a.Network.MAC, b.Network.MAC)
	line("install disk", a.InstallDisk, b.InstallDisk)
	if a.Node != nil && b.Node != nil {
		line("taints", a.Node.Taints, b.Node.Taints)
		line("kept free for the host", a.Node.SystemReserved, b.Node.SystemReserved)
		line("dedicated CPUs", a.Node.StaticCPUs, b.Node.StaticCPUs)
	}
	if len(out) == 0 && a.Ignition != b.Ignition {
		out = append(out, fmt.Sprintf("%s: configuration", b.Server))
	}
	return out
}
