package ignition

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"metalrise.dev/fleet"
)

// bridges adds the bridges by which VMs leave the node. Each has one port of the
// node, found by its name, and no address: the host itself does not speak there.
// Without a network of VLANs a bridge is plain, as the pod plugin would make it.
func (d *document) bridges(server fleet.ServerID, bridges []fleet.VMBridge) {
	for _, b := range bridges {
		part := "vm-" + b.Name
		filtering, vlans := "", ""
		if len(b.VLANs) > 0 {
			ids := make([]string, len(b.VLANs))
			for i, v := range b.VLANs {
				ids[i] = strconv.Itoa(v)
			}
			filtering, vlans = "true", strings.Join(ids, ", ")
		}
		k := connection(server, part, "bridge", b.Name, "autoconnect-slaves", "1")
		// Spanning tree would keep VMs from the network for half a minute after each
		// boot, and switches often shut a port that speaks it.
		k.section("bridge", "stp", "false", "vlan-filtering", filtering)
		noAddresses(k)
		d.keyfile(part, k)
		port := connection(server, part+"-port", "ethernet", b.Port,
			"master", connectionUUID(server, part), "slave-type", "bridge")
		port.section("ethernet")
		if vlans != "" {
			port.section("bridge-port", "vlans", vlans)
		}
		d.keyfile(part+"-port", port)
	}
}

// interfaceName is what the kernel takes as one (15 bytes), without what has a
// meaning in a keyfile or a path.
var interfaceName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,14}$`)

func checkBridges(p *problems, field string, bridges []fleet.VMBridge, n fleet.Network) {
	seen := map[string]bool{}
	for i, b := range bridges {
		here := fmt.Sprintf("%s[%d]", field, i)
		for _, f := range []struct{ field, name string }{{".name", b.Name}, {".port", b.Port}} {
			switch {
			case !interfaceName.MatchString(f.name):
				p.add(here+f.field, "%s is no name of an interface: a letter, then letters, digits, '-' and '_', 15 characters in all", quote(f.name))
			case seen[f.name] || f.name == bondInterface && n.Bond != nil:
				p.add(here+f.field, "%s is in use for another bridge, port or bond", f.name)
			}
			seen[f.name] = true
		}
		for j, v := range b.VLANs {
			if v < 1 || v > 4094 {
				p.add(fmt.Sprintf("%s.vlans[%d]", here, j), "%d is no VLAN: use 1 to 4094", v)
			}
		}
	}
}
