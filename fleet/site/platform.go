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
