package site

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"metalrise.dev/fleet"
)

// platformFields are those of the VM platform.
func platformFields() []field {
	var all, byDefault, proofs []string
	for _, e := range fleet.Catalogue() {
		all = append(all, string(e.Name))
		if e.Default {
			byDefault = append(byDefault, string(e.Name))
		}
	}
	for _, p := range fleet.Proofs() {
		proofs = append(proofs, string(p))
	}
	set := strings.Join(byDefault, ", ")
	return []field{
		{path: "platform", text: "The VM platform on the cluster. docs/platform.md tells what each component is for."},
		{path: "platform.components", text: "Components beyond the default set, by their names in the catalogue; what they need comes along. Naming one of the default set insists on it: the plan is then blocked where the nodes' software lacks it.", byDef: "the default set: " + set + ", as far as the nodes' software has them", example: "[descheduler]", max: 64, enum: all},
		{path: "platform.without", text: "Components of the default set that are left out: " + set + ".", byDef: "none", example: "[local-storage]", max: 16, enum: byDefault},
		{path: "platform.none", text: "Whether there is no VM platform at all: the run then ends with ready nodes.", byDef: "false, where the nodes' software has KubeVirt", example: "true"},
		{path: "platform.skipProofs", text: "Proofs that are not run: " + strings.Join(proofs, ", ") + ". Nobody has then seen that it works.", byDef: "all that the site can do are run", example: "[fence]", max: 16, enum: proofs},

		{path: "platform.networks", text: "Networks of VMs besides that of the pods: a Linux bridge on each hypervisor, and a network attachment of that name.", byDef: "none", max: 64},
		{path: "platform.networks[].name", text: "Name of the network attachment.", required: true, example: "tenants", check: checkNetworkName},
		{path: "platform.networks[].bridge", text: "Linux bridge on the nodes.", required: true, example: "br-vm", check: checkBridge},
		{path: "platform.networks[].port", text: "Network interface of the nodes that is a port of the bridge. Never the one that carries the node's own address.", byDef: "none: VMs of one node reach each other, and nobody else", example: "eno2", check: checkPort},
		{path: "platform.networks[].vlan", text: "VLAN of the VMs' frames.", byDef: "untagged", example: "20", min: 1, max: 4094},
		{path: "platform.networks[].subnet", text: "Addresses of which the proofs take two for their VMs while they run.", byDef: "link-local ones", example: "10.0.20.0/24", check: checkSubnet},
		{path: "platform.migrationNetwork", text: "Which of these networks live migrations use.", byDef: "that of the pods", example: "tenants", check: checkNetworkName},

		{path: "platform.memoryOvercommit", text: "Memory promised to VMs in percent of what is set aside for them; more than 100 trusts that not all use theirs at a time.", byDef: "100", example: "120", min: 10, max: 1000},
		{path: "platform.cpuModel", text: "CPU model that VMs get by default, as QEMU calls it; host-model and host-passthrough are allowed too.", byDef: "the best one that all hypervisors have, where their processors are known", example: "Cascadelake-Server-noTSX", check: checkCPUModel},
		{path: "platform.featureGates", text: "Feature gates that are switched on in KubeVirt.", byDef: "none", example: "[Snapshot]", max: 64, check: checkGate},

		{path: "platform.storage", text: "Where disks of VMs lie."},
		{path: "platform.storage.class", text: "Storage class that VMs use by default. With path: the name of the class of local storage. Without path: a class of yours, which metalrise uses and does not make.", byDef: "that of local storage, where it is among the components", example: "ceph-block", check: checkClass},
		{path: "platform.storage.shared", text: "Whether several nodes can attach a volume of this class of yours at a time, without which VMs with disks do not move.", byDef: "false", example: "true"},
		{path: "platform.storage.snapshots", text: "VolumeSnapshotClass of this class of yours.", byDef: "no snapshots", example: "ceph-block", check: checkClass},
		{path: "platform.storage.path", text: "Folder of the nodes for local storage.", byDef: "/var/lib/metalrise/volumes", example: "/var/lib/vms", check: checkVolumePath},
	}
}

func checkNetworkName(s string) error {
	if !fleet.ValidLabel(s) || s != strings.ToLower(s) {
		return fmt.Errorf("%q is not made of 1 to 63 lower-case letters, digits and inner hyphens", s)
	}
	return nil
}

// checkBridge wants a name that the kernel takes for a bridge and that nobody
// else makes on a node: the pod network, Open vSwitch and container runtimes.
func checkBridge(s string) error {
	if err := checkPort(s); err != nil {
		return err
	}
	if slices.Contains([]string{"br-ex", "br-int", "br-local", "docker0", "podman0", "virbr0", "kube-bridge"}, s) {
		return fmt.Errorf("%q is the name of a bridge that other software makes", s)
	}
	return nil
}

// checkPort wants the name of an interface that is not one of the pod network's.
func checkPort(s string) error {
	if checkInterface(s) != nil || !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`).MatchString(s) {
		return fmt.Errorf("%q is no name of a network interface: at most 15 letters, digits, dots, hyphens and underscores", s)
	}
	if slices.Contains([]string{"lo", "cni0", "kube-ipvs0", "nodelocaldns", "tunl0"}, s) || regexp.MustCompile(`^(flannel[.-]|veth|cali|cilium_|vxlan|k6t-|ovn|ovs-)`).MatchString(s) {
		return fmt.Errorf("%q is the name of an interface that Kubernetes or its pod network makes", s)
	}
	return nil
}

// checkSubnet wants a network with room for the two VMs of a proof.
func checkSubnet(s string) error {
	if err := checkCIDR(s); err != nil {
		return err
	}
	if p, err := netip.ParsePrefix(s); err == nil && p.Addr().BitLen()-p.Bits() < 2 {
		return fmt.Errorf("%s has no room for two hosts", s)
	}
	return nil
}

func checkCPUModel(s string) error {
	if len(s) > 64 || !regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`).MatchString(s) {
		return fmt.Errorf("%q is no name of a CPU model", s)
	}
	return nil
}

func checkGate(s string) error {
	if len(s) > 64 || !regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*$`).MatchString(s) {
		return fmt.Errorf("%q is no name of a feature gate", s)
	}
	return nil
}

// checkClass is for names of Kubernetes objects (RFC 1123 subdomains).
func checkClass(s string) error {
	if !fleet.ValidHostname(s) || s != strings.ToLower(s) {
		return fmt.Errorf("%q is no name of a Kubernetes object", s)
	}
	return nil
}

// checkVolumePath wants a folder that is nobody else's and survives a restart.
func checkVolumePath(s string) error {
	switch {
	case len(s) > 256 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }):
		return errors.New("this is no path of at most 256 printable characters without blanks")
	case !path.IsAbs(s):
		return fmt.Errorf("%q does not begin at the root", s)
	case path.Clean(s) != s:
		return fmt.Errorf("%q is another way to write %q", s, path.Clean(s))
	}
	first, rest, _ := strings.Cut(s[1:], "/")
	switch {
	case slices.Contains([]string{"bin", "boot", "dev", "etc", "lib", "lib64", "ostree", "proc", "run", "sbin", "sys", "sysroot", "tmp", "usr"}, first):
		return fmt.Errorf("%q lies in a folder of the operating system", s)
	case first == "" || rest == "" || s == "/var/lib" || s == "/var/log":
		return fmt.Errorf("%q holds more than volumes", s)
	}
	return nil
}

// platform checks what fields of the VM platform mean for each other.
func (d *decoder) platform(p fleet.Platform, n *yaml.Node) {
	if n == nil || n.Kind != yaml.MappingNode {
		return
	}
	at := func(key string) *yaml.Node { return lookup(n, key) }
	for i, c := range p.Without {
		here := fmt.Sprintf("platform.without[%d]", i)
		switch {
		case c == fleet.ComponentKubeVirt:
			d.fault(at("without").Content[i], here, "without KubeVirt there is no VM platform", "Write none: true instead.")
		case c != "" && slices.Contains(p.Components, c):
			d.fault(at("without").Content[i], here, fmt.Sprintf("%s is named under components too", c), "Remove it from one of the two.")
		}
	}
	d.networks(p.Networks, at("networks"))
	named := func(v fleet.VMNetwork) bool { return v.Name == p.MigrationNetwork || v.Name == "" } // a faulty name may be it
	if m := p.MigrationNetwork; m != "" && !slices.ContainsFunc(p.Networks, named) {
		var names []string
		for _, v := range p.Networks {
			names = append(names, v.Name)
		}
		d.fault(at("migrationNetwork"), "platform.migrationNetwork", fmt.Sprintf("%q is not one of platform.networks", m), "Name one of them, or remove this line."+nearest(m, names))
	}
	storage := at("storage")
	if storage == nil || storage.Kind != yaml.MappingNode {
		return
	}
	for _, key := range []string{"shared", "snapshots"} {
		field := lookup(storage, key)
		switch {
		case field == nil:
		case lookup(storage, "class") == nil:
			d.fault(field, "platform.storage."+key, "there is no class that this could be true of", "Add platform.storage.class, or remove this line.")
		case lookup(storage, "path") != nil:
			d.fault(field, "platform.storage."+key, "local storage is neither shared nor takes snapshots", "Remove path if the class is one of yours, else this line.")
		}
	}
}

// networks checks that names are unique, and that a bridge is one thing.
func (d *decoder) networks(all []fleet.VMNetwork, list *yaml.Node) {
	for i, v := range all {
		n, here := list.Content[i], fmt.Sprintf("platform.networks[%d]", i)
		if n.Kind != yaml.MappingNode {
			continue
		}
		if v.Port != "" && v.Port == v.Bridge {
			d.fault(lookup(n, "port"), here+".port", "a bridge is no port of itself", "Name the interface that leads to the switch.")
			continue
		}
		for j, w := range all[:i] {
			if d.clash(n, here, v, w, j) {
				break // one other network is enough to know
			}
		}
	}
}

// clash reports what keeps network v, at here, from being beside network j.
func (d *decoder) clash(n *yaml.Node, here string, v, w fleet.VMNetwork, j int) bool {
	bridged := v.Bridge != "" && v.Bridge == w.Bridge
	switch {
	case v.Name != "" && v.Name == w.Name:
		d.fault(n, here+".name", fmt.Sprintf("%q is also the name of platform.networks[%d]", v.Name, j), "Give each network a name of its own.")
	case bridged && v.Port != w.Port:
		d.fault(n, here+".port", fmt.Sprintf("bridge %s has another port in platform.networks[%d]", v.Bridge, j), "Name the same port in both, or another bridge.")
	case bridged && v.VLAN == w.VLAN:
		d.fault(n, here+".bridge", fmt.Sprintf("platform.networks[%d] is the same bridge and VLAN", j), "Leave one of them out, or give it another VLAN.")
	case !bridged && v.Port != "" && v.Port == w.Port:
		d.fault(n, here+".port", fmt.Sprintf("%s is a port of bridge %s in platform.networks[%d]", v.Port, w.Bridge, j), "An interface is a port of one bridge only: name that bridge, and tell networks apart by VLAN.")
	case v.Bridge != "" && v.Bridge == w.Port:
		d.fault(n, here+".bridge", fmt.Sprintf("%s is a port in platform.networks[%d]", v.Bridge, j), "Give the bridge a name of its own.")
	case v.Port != "" && v.Port == w.Bridge:
		d.fault(n, here+".port", fmt.Sprintf("%s is a bridge in platform.networks[%d]", v.Port, j), "Name the interface that leads to the switch.")
	default:
		return false
	}
	return true
}
