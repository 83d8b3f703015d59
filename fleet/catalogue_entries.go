package fleet

const mebibyte = 1 << 20

// notInstalled is the plain truth about most opt-in components.
const notInstalled = "no test of metalrise installs it; its manifests are applied and watched as those of any other component, and that is all that is known"

// defaultEntries are what a site gets without asking, and what its migration
// network needs. Networks come before KubeVirt, because its pods stand on that one.
func defaultEntries() []CatalogueEntry {
	return []CatalogueEntry{
		{
			Name: ComponentMultus, Title: "Multus CNI", Versions: []string{"v4.2.2"}, Default: true,
			About: "Gives pods and VMs further networks.",
			Gives: []string{"NetworkAttachmentDefinition"}, Images: 1, Bytes: 60 * mebibyte,
			Asks:   "The CNI plugin bridge on the nodes; the nodes' software of metalrise has it.",
			Ready:  "Its DaemonSet runs on every node and the definition of NetworkAttachmentDefinition is established.",
			Proof:  "The proof of networks: two VMs reach each other over a VM network.",
			Remove: "Its DaemonSet, rules and definition are deleted. VMs on further networks do not start any more, so it is refused while there are network attachments.",
		},
		{
			Name: ComponentWhereabouts, Title: "Whereabouts", Versions: []string{"v0.9.4"},
			About:  "Gives the pods of a network addresses that no other pod of the cluster has.",
			Needs:  []Component{ComponentMultus},
			Gives:  []string{"an address for each hypervisor on platform.migrationNetwork, which asks for it by itself"},
			Images: 1, Bytes: 60 * mebibyte,
			Asks:   "A subnet of the migration network in which nobody else gives out addresses: it takes them from the third on, and leaves the last five alone.",
			Ready:  "Its DaemonSet runs on every node and its definitions are established.",
			Proof:  "The proof of live migration: VMs come by way of an address of the migration network.",
			Remove: "Its DaemonSet, rules and definitions are deleted. Refused while a pod has an address of it: KubeVirt must have been given another network for migrations. The plugin stays on the nodes, without access to the API.",
		},
		{
			Name: ComponentVMNetworks, Title: "VM networks", Default: true, Own: true,
			About:  "The site's bridges, as network attachments.",
			Needs:  []Component{ComponentMultus},
			Gives:  []string{"a NetworkAttachmentDefinition for each of platform.networks"},
			Asks:   "A bridge gets its port when the node is installed; on nodes that were installed before, set it up by NetworkManager or NMState. Without a port the bridge plugin makes the bridge, for VMs of one node.",
			Ready:  "The API has every network attachment as planned.",
			Proof:  "The proof of networks: two VMs reach each other over it, with their latency.",
			Remove: "The network attachments are deleted. Bridges on the nodes stay.",
		},
		{
			Name: ComponentKubeVirt, Title: "KubeVirt", Versions: []string{"v1.6.0"}, Default: true,
			About:  "Runs virtual machines as pods.",
			Gives:  []string{"VirtualMachine and VirtualMachineInstance", "live migration", "the webhooks that check VMs"},
			Images: 6, Bytes: 900 * mebibyte,
			Ready:  "The KubeVirt object has the condition Available and neither Progressing nor Degraded, for the configuration that was applied last; each hypervisor is labelled kubevirt.io/schedulable=true.",
			Proof:  "The ring of proofs: a VM on each hypervisor whose guest reports life, live migration, drain, fencing.",
			Remove: "The KubeVirt object is deleted and waited for, then the operator, its rules and definitions. It is refused while there are VMs.",
		},
		{
			Name: ComponentLocalStorage, Title: "Local storage", Default: true, Own: true,
			About:  "Volumes on the hypervisors' own disks.",
			Gives:  []string{"a StorageClass with WaitForFirstConsumer", "a few volumes on each hypervisor"},
			Asks:   "A folder on the hypervisors, platform.storage.path. Volumes are folders of one file system: their size is not enforced, and a VM with one stays on its hypervisor.",
			Ready:  "The API has the storage class, and as many free or used volumes as planned, and a pod on each hypervisor has had their folders made.",
			Proof:  "The proof of volumes: a VM writes, is restarted, and reads again.",
			Remove: "The storage class and the volumes that nobody uses are deleted. Data on the disks stay.",
		},
		{
			Name: ComponentCDI, Title: "Containerized Data Importer", Versions: []string{"v1.65.0"}, Default: true,
			About: "Fills volumes with disk images.",
			Gives: []string{"DataVolume", "StorageProfile", "uploads by virtctl"}, Images: 7, Bytes: 500 * mebibyte,
			Ready:  "The CDI object has the condition Available and neither Progressing nor Degraded.",
			Proof:  "The proof of volumes: CDI fills a DataVolume from the disk in the guest's image, and the guest of a VM finds it there.",
			Remove: "The CDI object is deleted and waited for, then the operator, its rules and definitions. It is refused while there are DataVolumes.",
		},
		{
			Name: ComponentInstanceTypes, Title: "Instance types and preferences", Default: true, Own: true,
			About:  "Sizes and habits of VMs, by name.",
			Needs:  []Component{ComponentKubeVirt},
			Gives:  []string{"VirtualMachineClusterInstancetype u1.nano to u1.4xlarge", "VirtualMachineClusterPreference linux, linux.efi, windows"},
			Ready:  "The API has all of them as written.",
			Proof:  "The VMs of the proofs use one.",
			Remove: "They are deleted. VMs that were made with one keep their size.",
		},
	}
}

// storageEntries are other places for volumes.
func storageEntries() []CatalogueEntry {
	return []CatalogueEntry{
		{
			Name: ComponentSnapshots, Title: "CSI snapshot controller", Versions: []string{"v8.3.0"},
			About: "Snapshots of volumes, for CSI drivers that make them.",
			Gives: []string{"VolumeSnapshot", "VolumeSnapshotClass"}, Images: 1, Bytes: 30 * mebibyte,
			Ready: "Its Deployment is available and its three definitions are established.",
			Proof: "The proof of snapshots, where a driver and a class are there: a VM's volume is snapshot, overwritten and restored, and its guest reads what was there before.", Remove: "Its objects are deleted; refused while there are snapshots or classes of them.",
		},
		{
			Name: ComponentCSI, Title: "The site's own CSI driver",
			About: "Volumes of any storage whose maker has a CSI driver, from manifests that you put into the software.",
			Gives: []string{"the StorageClass and the VolumeSnapshotClass that platform.storage names"}, Images: 5, Bytes: 150 * mebibyte,
			Asks:  "The maker's manifests and images in the nodes' software (`metalrise bundle component`), with the classes in them; their names under platform.storage. The snapshot controller comes along where platform.storage.snapshots is set and the software has it.",
			Ready: "Its workloads are available, the classes are there, and every hypervisor's CSINode lists the driver.",
			Proof: "The proofs of volumes and snapshots; where the class is shared, that of live migration with a disk.", Remove: "Its objects are deleted; refused while there are volumes of the driver.",
			Unproven: "which driver it is, you decide; the tests of metalrise install the CSI project's own driver for tests (hostpath.csi.k8s.io) and no other",
		},
		{
			Name: ComponentNFS, Title: "NFS CSI driver", Versions: []string{"v4.12.0"},
			About: "Shared volumes on an NFS server.",
			Gives: []string{"a StorageClass whose volumes several nodes can attach"}, Images: 4, Bytes: 120 * mebibyte,
			Asks:  "An NFS server; its address and path are in a StorageClass that you apply.",
			Ready: "Its Deployment and its DaemonSet are available.",
			Proof: "The proofs of volumes and of live migration with a disk.", Remove: "Its objects are deleted; volumes on the server stay.",
			Unproven: notInstalled,
		},
		{
			Name: ComponentRookCeph, Title: "Rook with Ceph", Versions: []string{"v1.18.2"},
			About: "Shared, replicated volumes on the nodes' own spare disks.",
			Needs: []Component{ComponentSnapshots},
			Gives: []string{"StorageClasses for block and file", "a VolumeSnapshotClass"}, Images: 8, Bytes: 1200 * mebibyte,
			Asks:  "A spare disk on three nodes or more, and a CephCluster that you write: which disks are given away is never guessed.",
			Ready: "The operator's Deployment is available; the CephCluster says Ready.",
			Proof: "The proofs of volumes, snapshots and live migration with a disk.", Remove: "The operator is deleted; refused while there is a CephCluster, whose data nobody here erases.",
			Unproven: notInstalled,
		},
		{
			Name: ComponentOpenStackCloud, Title: "OpenStack cloud provider",
			About: "Load balancers and data of nodes, where the servers belong to an OpenStack.",
			Gives: []string{"Services of type LoadBalancer"}, Images: 1, Bytes: 40 * mebibyte,
			Asks:  "The address and the login of the OpenStack, in a Secret cloud-config that you apply; kubelets with an external cloud provider.",
			Ready: "Its DaemonSet is available.", Proof: "None.", Remove: "Its objects are deleted.",
			Unproven: notInstalled,
		},
		{
			Name: ComponentCinder, Title: "Cinder CSI driver",
			About: "Volumes of an OpenStack.",
			Needs: []Component{ComponentOpenStackCloud, ComponentSnapshots},
			Gives: []string{"a StorageClass and a VolumeSnapshotClass"}, Images: 7, Bytes: 250 * mebibyte,
			Asks:  "The same Secret as the cloud provider.",
			Ready: "Its Deployment and its DaemonSet are available.", Proof: "The proofs of volumes and snapshots.", Remove: "Its objects are deleted; volumes in the OpenStack stay.",
			Unproven: notInstalled,
		},
	}
}

// guardEntries keep VMs running.
func guardEntries() []CatalogueEntry {
	return []CatalogueEntry{
		{
			Name: ComponentSelfRemedy, Title: "Self Node Remediation",
			About: "Has a node that lost the cluster restart itself, so that its VMs may run elsewhere.",
			Gives: []string{"SelfNodeRemediationTemplate"}, Images: 1, Bytes: 80 * mebibyte,
			Ready: "Its Deployment and its DaemonSet are available.", Proof: "The proof of fencing.", Remove: "Its objects are deleted.",
			Unproven: notInstalled,
		},
		{
			Name: ComponentFenceAgents, Title: "Fence Agents Remediation",
			About: "Switches a lost node off through its BMC.",
			Gives: []string{"FenceAgentsRemediationTemplate"}, Images: 1, Bytes: 250 * mebibyte,
			Asks:  "The BMCs' logins, in a Secret that a person decides to put into the cluster: metalrise does not copy its vault there.",
			Ready: "Its Deployment is available.", Proof: "The proof of fencing; metalrise's own does without it.", Remove: "Its objects are deleted, the Secret too.",
			Unproven: notInstalled,
		},
		{
			Name: ComponentNodeHealth, Title: "Node Health Check",
			About: "Sees that a node is lost and has it fenced.",
			Needs: []Component{ComponentSelfRemedy},
			Gives: []string{"NodeHealthCheck"}, Images: 1, Bytes: 60 * mebibyte,
			Ready: "Its Deployment is available.", Proof: "The proof of fencing.", Remove: "Its objects are deleted.",
			Unproven: notInstalled,
		},
		{
			Name: ComponentDescheduler, Title: "Descheduler", Versions: []string{"v0.34.0"},
			About: "Moves VMs off crowded nodes by live migration.",
			Needs: []Component{ComponentKubeVirt}, Images: 1, Bytes: 30 * mebibyte,
			Gives: []string{"evictions that KubeVirt turns into live migrations"},
			Asks:  "VMs that can move.",
			Ready: "Its Deployment or CronJob is there and its last run ended well.", Proof: "None.", Remove: "Its objects are deleted.",
			Unproven: notInstalled,
		},
		{
			Name: ComponentVelero, Title: "Velero", Versions: []string{"v1.17.0"},
			About: "Backups of VMs and their volumes to S3.",
			Needs: []Component{ComponentKubeVirt}, Images: 3, Bytes: 150 * mebibyte,
			Gives: []string{"Backup", "Restore", "Schedule"},
			Asks:  "An S3 bucket and its login, in a BackupStorageLocation and a Secret that you apply.",
			Ready: "Its Deployment is available.", Proof: "None.", Remove: "Its objects are deleted; backups in the bucket stay.",
			Unproven: notInstalled,
		},
	}
}

// furtherEntries are networks and neighbours.
func furtherEntries() []CatalogueEntry {
	return []CatalogueEntry{
		{
			Name: ComponentNMState, Title: "Kubernetes NMState", Versions: []string{"v0.84.0"},
			About: "Bridges, bonds and VLANs of the hosts, by Kubernetes objects.",
			Gives: []string{"NodeNetworkConfigurationPolicy"}, Images: 2, Bytes: 350 * mebibyte,
			Asks:  "NetworkManager on the hosts. A wrong policy cuts a node off; it rolls itself back after four minutes.",
			Ready: "The NMState object is Available and its DaemonSet runs on every node.", Proof: "The proof of networks, over a bridge that it made.", Remove: "Its objects are deleted; host networks stay as they are.",
			Unproven: notInstalled,
		},
		{
			Name: ComponentForklift, Title: "Forklift",
			About: "Brings VMs in from VMware, oVirt and OpenStack.",
			Needs: []Component{ComponentKubeVirt, ComponentCDI}, Images: 9, Bytes: 1500 * mebibyte,
			Gives: []string{"Provider", "Plan", "Migration"},
			Asks:  "The source's address and login, in a Secret that you apply.",
			Ready: "The ForkliftController has the condition Successful.", Proof: "None.", Remove: "Its objects are deleted; VMs that came stay.",
			Unproven: notInstalled,
		},
		{
			Name: ComponentCalico, Title: "Calico",
			About: "A pod network with network policies, instead of Flannel.",
			Gives: []string{"NetworkPolicy"}, Images: 3, Bytes: 250 * mebibyte,
			Asks:  "cluster.cni: own. There is one pod network: a cluster that has Flannel does not get a second one.",
			Ready: "Its DaemonSet and its Deployment are available.", Proof: "The nodes' own checks of the pod network.", Remove: "Refused: pods have no network without it.",
			Unproven: notInstalled,
		},
		{
			Name: ComponentNGINX, Title: "Ingress NGINX",
			About: "HTTP from outside to services.",
			Gives: []string{"the IngressClass nginx"}, Images: 2, Bytes: 120 * mebibyte,
			Ready: "Its Deployment or DaemonSet is available and its admission Jobs ended well.", Proof: "None.", Remove: "Its objects are deleted.",
			Unproven: notInstalled,
		},
		{
			Name: ComponentF5, Title: "F5 Container Ingress Services",
			About: "Configures an F5 BIG-IP as load balancer of services.",
			Gives: []string{"VirtualServer and TransportServer of BIG-IP"}, Images: 1, Bytes: 120 * mebibyte,
			Asks:  "A BIG-IP with AS3, its address and its login in a Secret that you apply.",
			Ready: "Its Deployment is available.", Proof: "None: it takes a BIG-IP.", Remove: "Its objects are deleted; what it configured on the BIG-IP stays.",
			Unproven: notInstalled,
		},
		{
			Name: ComponentKata, Title: "Kata Containers",
			About: "Runs pods in small VMs of their own.",
			Gives: []string{"RuntimeClasses kata-*"}, Images: 1, Bytes: 1200 * mebibyte,
			Asks:  "KVM on the nodes; its DaemonSet changes the containerd configuration of the hosts and restarts it.",
			Ready: "Its DaemonSet is available and the RuntimeClass is there.", Proof: "None.", Remove: "Its objects are deleted; what it put onto the nodes stays there.",
			Unproven: notInstalled,
		},
		{
			Name: ComponentOpenStackHelm, Title: "OpenStack-Helm prerequisites",
			About: "What an OpenStack by OpenStack-Helm asks of its cluster: labels of nodes, an ingress, shared volumes.",
			Needs: []Component{ComponentNGINX, ComponentRookCeph}, Own: true,
			Gives: []string{"the namespace openstack", "the labels of nodes that OpenStack-Helm's charts select"},
			Asks:  "The charts themselves are not installed: that is another project of a day or more.",
			Ready: "The namespace and the labels are there.", Proof: "None.", Remove: "Refused while the namespace holds pods or volumes; else the namespace and the labels are deleted.",
			Unproven: notInstalled,
		},
	}
}
