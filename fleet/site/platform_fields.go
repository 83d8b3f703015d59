package site

import (
	"strings"

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
		{path: "platform.networks[].subnet", text: "Addresses of which the proofs take two for their VMs while they run, and, where live migrations use the network, each hypervisor one.", byDef: "link-local ones", example: "10.0.20.0/24", check: checkSubnet},
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
