package vmstack

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
)

// vmNamespace is where VM networks are offered from. VMs of other namespaces
// name them as "default/NETWORK".
const vmNamespace = "default"

// bridgeConfig is a configuration of the CNI plugin bridge, as far as it is used
// (containernetworking/plugins, plugins/main/bridge).
type bridgeConfig struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	Bridge     string `json:"bridge"`
	VLAN       int    `json:"vlan,omitempty"`
	IPAM       any    `json:"ipam"`
}

// Networks are the VM networks as network attachments.
//
// The plugin makes the bridge where it is not there yet. It never makes a port
// of the node the bridge's member: Ignition does that at installation, and until
// it is so, VMs of one node reach each other and nobody else.
//
// The network of live migrations is offered to KubeVirt's own pods too, which
// need an address each that no other one of the cluster has: the plugin
// whereabouts gives it. VMs get no address from an attachment.
func Networks(s fleet.StackPlan) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, n := range s.Networks {
		out = append(out, attachment(vmNamespace, n, map[string]any{}))
		if n.Name == s.MigrationNetwork {
			out = append(out, attachment(kubevirtNamespace, n, addresses(n)))
		}
	}
	return out
}

// addresses are a configuration of the plugin whereabouts.
func addresses(n fleet.VMNetwork) map[string]any {
	ipam := map[string]any{"type": "whereabouts", "range": n.Subnet}
	if first, last, count := n.MigrationRange(); count > 0 {
		ipam["range_start"], ipam["range_end"] = first.String(), last.String()
	}
	return ipam
}

func attachment(namespace string, n fleet.VMNetwork, ipam any) *unstructured.Unstructured {
	config, err := json.Marshal(bridgeConfig{CNIVersion: "0.4.0", Name: n.Name, Type: "bridge", Bridge: n.Bridge, VLAN: n.VLAN, IPAM: ipam})
	if err != nil { // there is nothing in it that cannot be written
		config = nil
	}
	return object("k8s.cni.cncf.io/v1", "NetworkAttachmentDefinition", namespace, n.Name, map[string]any{
		"spec": map[string]any{"config": string(config)},
	})
}

// OpenStackHelm is what charts of OpenStack-Helm select: labels of nodes and a
// namespace.
func OpenStackHelm(p fleet.Plan) []*unstructured.Unstructured {
	out := []*unstructured.Unstructured{object("v1", "Namespace", "", "openstack", nil)}
	for _, a := range p.Assignments {
		if a.Node == nil || a.Role == fleet.Excluded {
			continue
		}
		labels := map[string]any{"openstack-control-plane": "enabled"}
		if a.Role != fleet.ControlPlane {
			labels["openstack-compute-node"], labels["openvswitch"] = "enabled", "enabled"
		}
		node := object("v1", "Node", "", a.Node.Name, nil)
		node.Object["metadata"].(map[string]any)["labels"] = labels
		out = append(out, node)
	}
	return out
}
