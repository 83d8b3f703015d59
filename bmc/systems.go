package bmc

import (
	"context"
	"fmt"
	"strings"

	"metalrise.dev/fleet"
)

// SystemKind says whether a Redfish system is a server.
type SystemKind string

const (
	IsServer    SystemKind = "server"
	Accelerator SystemKind = "accelerator" // GPU baseboard
	DPU         SystemKind = "dpu"         // a network card with processors of its own
	Switch      SystemKind = "switch"
	OtherSystem SystemKind = "other" // virtual, an operating system, unreadable, …
)

// SystemRef is one system behind a BMC.
type SystemRef struct {
	URI      string         `json:"uri"`
	Name     string         `json:"name,omitempty"`
	Kind     SystemKind     `json:"kind"`
	Why      string         `json:"why"` // why it is of that kind
	Identity fleet.Identity `json:"identity"`
}

// Systems lists what stands behind the BMC. Several hosts are several servers;
// accelerators and other things without power of their own are listed, but are
// no servers. A member that cannot be read is OtherSystem with the cause.
func (s *Session) Systems(ctx context.Context) ([]SystemRef, error) {
	var seen problems
	nodes, err := s.systemNodes(ctx, &seen)
	if err != nil {
		return nil, s.wrap("list systems of", err)
	}
	var out []SystemRef
	for _, n := range nodes {
		kind, why := classify(n)
		out = append(out, SystemRef{URI: n.path, Name: n.str("Name"), Kind: kind, Why: why, Identity: identity(n)})
	}
	for _, p := range seen.list {
		if !strings.Contains(p.Path, "#") {
			out = append(out, SystemRef{URI: p.Path, Kind: OtherSystem, Why: "not readable: " + p.Text})
		}
	}
	return out, nil
}

func (s *Session) systemNodes(ctx context.Context, seen *problems) ([]node, error) {
	path := s.root.link("Systems")
	if path == "" {
		return nil, fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "the service root has no Systems: this is no server's BMC")
	}
	r := s.reader(seen)
	if _, err := r.expanded(ctx, path); err != nil {
		return nil, err
	}
	nodes := r.members(ctx, path)
	for i := range nodes {
		if nodes[i].path == "" || strings.Contains(nodes[i].path, "#") {
			nodes[i].path = nodes[i].self()
		}
	}
	return nodes, nil
}

// classify tells what a system is. Types that are hardware of their own with
// power of their own are servers, also when composed or partitioned. Names are
// looked at because the types of many DPUs, baseboards and switches say Physical.
func classify(n node) (SystemKind, string) {
	kind := strings.ToLower(n.str("SystemType"))
	switch kind {
	case "", "physical", "physicallypartitioned", "composed":
	case "dpu":
		return DPU, "SystemType is DPU"
	default:
		return OtherSystem, "SystemType is " + n.str("SystemType")
	}
	for _, role := range n.texts("HostingRoles") {
		if strings.EqualFold(role, "Switch") {
			return Switch, "HostingRoles has Switch"
		}
	}
	for _, key := range []string{"Id", "Name", "Model"} {
		words := strings.ToLower(n.str(key))
		switch {
		case strings.Contains(words, "bluefield"), strings.HasPrefix(words, "dpu"), strings.HasSuffix(words, " dpu"):
			return DPU, key + " is " + n.str(key)
		case strings.HasPrefix(words, "hgx_"), strings.Contains(words, "baseboard"):
			return Accelerator, key + " is " + n.str(key)
		case strings.Contains(words, "switch"):
			return Switch, key + " is " + n.str(key)
		}
	}
	if n.object("Actions").object("#ComputerSystem.Reset").str("target") == "" {
		return Accelerator, "it has no Reset action, so it has no power of its own"
	}
	if n.state() == "absent" {
		return OtherSystem, "its state is Absent"
	}
	return IsServer, "a physical system with a Reset action"
}

// identity reads what makes a system itself. On Dell machines the service tag,
// which SMBIOS holds as the system's serial number, is the SKU; SerialNumber is
// the board's (Ironic bug 2146585).
func identity(n node) fleet.Identity {
	serial := n.str("SerialNumber")
	if sku := n.str("SKU"); strings.HasPrefix(strings.ToLower(n.str("Manufacturer")), "dell") && len(sku) >= 5 && len(sku) <= 7 {
		serial = sku
	}
	return fleet.NewIdentity(n.str("UUID"), serial)
}

// resolveSystem gives the system to work on: the one named, or the only server.
func (s *Session) resolveSystem(ctx context.Context, uri string) (string, error) {
	if uri != "" {
		return cleanPath(uri)
	}
	all, err := s.Systems(ctx)
	if err != nil {
		return "", err
	}
	var servers []string
	for _, r := range all {
		if r.Kind == IsServer {
			servers = append(servers, r.URI)
		}
	}
	switch len(servers) {
	case 1:
		return servers[0], nil
	case 0:
		return "", fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "no server stands behind this BMC: %s", whys(all))
	}
	return "", fleet.NewFault(fleet.CodeBMCManySystems, fleet.Conflict, nil, "%d servers stand behind this BMC and none is named", len(servers))
}

func whys(all []SystemRef) string {
	var out []string
	for _, r := range all {
		out = append(out, fmt.Sprintf("%s: %s", r.URI, r.Why))
	}
	if out == nil {
		return "it lists no system"
	}
	return strings.Join(out, "; ")
}
