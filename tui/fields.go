package tui

// fields are the lines of a step that can be filled in, in their order on the
// screen. Together they are every field of the site file that is not about one
// server, but for certificate pins, further logins, and of the VM platform its
// networks, feature gates and the finer points of storage: few type those, and
// not here.
func fields(s step) []*field {
	switch s {
	case stepFind:
		return findFields()
	case stepRoles:
		return rolesFields()
	case stepNetwork:
		return networkFields()
	case stepDisks:
		return disksFields()
	case stepVirt:
		return append(virtFields(), virtFieldsOfVMs()...)
	case stepSoftware:
		return append(softwareFields(), softwareFieldsOfVMs()...)
	}
	return nil
}

func findFields() []*field {
	return []*field{
		{path: "bmcs.addresses", label: say("BMC addresses"), needed: true, kind: list, help: say("Single addresses, ranges (10.0.9.11-15), prefixes (10.0.9.0/28) or names, in rack order, separated by commas. A port may follow: 10.0.9.11:8443.")},
		{path: "bmcs.username", label: say("User"), needed: true, help: say("Login name, the same on all BMCs.")},
		{path: "bmcs.password", label: say("Password"), needed: true, kind: secret, help: say("Typed text is kept in a file beside the site file that only you can read. file:PATH or env:NAME names another place. The site file holds the place, never the password.")},
		{path: "bmcs.import", label: say("List of BMCs"), more: true, help: say("CSV file with more BMCs, each with its own login if it has one. Columns: address, user, password (file:, env: or vault:), mac, role, position.")},
		{path: "bmcs.port", label: say("BMC port"), kind: number, more: true, help: say("Port of BMCs whose address names none. Empty is 443.")},
		{path: "bmcs.legacyTLS", label: say("Outdated TLS"), kind: list, more: true, help: say("Addresses of BMCs that may speak outdated TLS. Passwords are less well guarded on the way to them.")},
		{path: "bmcs.slowLinks", label: say("Slow links"), kind: list, more: true, help: say("Addresses of BMCs on a slow link. Their servers get the minimal medium.")},
	}
}

func rolesFields() []*field {
	return []*field{
		{path: "cluster.controlPlanes", label: say("Control planes"), kind: choice, options: []string{"", "1", "3", "5"}, help: say("How many servers lead the cluster. Left empty, one server becomes a single node and three or more get three; two need a decision: 1 leaves no spare.")},
		{path: "cluster.domain", label: say("Domain"), help: say("Appended to host names. May stay empty.")},
		{path: "cluster.controlPlaneWorkloads", label: say("VMs on them too"), kind: choice, options: []string{"", "true"}, help: say("Whether control planes run virtual machines and other pods too. Without workers they do in any case.")},
	}
}

func networkFields() []*field {
	return []*field{
		{path: "network.firstAddress", label: say("First address"), needed: true, help: say("With the prefix length of the network, as in 10.0.1.21/24. The other servers get the next free ones.")},
		{path: "network.gateway", label: say("Gateway"), help: say("Default gateway of the servers. May stay empty.")},
		{path: "network.dns", label: say("Name servers"), kind: list, help: say("Addresses, separated by commas. May stay empty.")},
		{path: "cluster.vip", label: say("Cluster address"), help: say("Free address in the servers' network, which several control planes hold by themselves and hand over when one fails. A single one needs none.")},
		{path: "network.ntp", label: say("Time servers"), kind: list, help: say("Addresses or names, separated by commas. May stay empty.")},
		{path: "network.vlan", label: say("VLAN"), kind: number, help: say("1 to 4094; empty is untagged.")},
		{path: "network.mtu", label: say("MTU"), kind: number, help: say("Largest packet in bytes. Every switch on the way must carry it. Empty is 1500.")},
		{path: "network.bond", label: say("Bond"), kind: choice, options: []string{"", "active-backup", "802.3ad"}, help: say("Joins all ports with link. 802.3ad needs switches set up for LACP.")},
		{path: "cluster.loadBalancer", label: say("Load balancer"), more: true, help: say("Host and port of a load balancer of yours, instead of a cluster address. It hands connections to port 6443 of all control planes.")},
		{path: "cluster.vrrp", label: say("VRRP id"), kind: number, more: true, help: say("1 to 255, unlike that of any other VRRP speaker in the segment. Empty: the last part of the cluster address.")},
		{path: "cluster.cni", label: say("Pod network"), kind: choice, options: []string{"", "flannel", "flannel-host-gw", "own"}, more: true, help: say("flannel tunnels and works everywhere; flannel-host-gw routes between nodes of one subnet; own applies your manifests and nothing else.")},
		{path: "cluster.cniManifests", label: say("Own manifests"), more: true, help: say("File with the manifests of your own pod network. Only with own.")},
		{path: "cluster.podCIDR", label: say("Pod addresses"), more: true, help: say("In use nowhere else. Empty is 10.244.0.0/16.")},
		{path: "cluster.serviceCIDR", label: say("Services"), more: true, help: say("Addresses of services, in use nowhere else. Empty is 10.96.0.0/16.")},
	}
}

func disksFields() []*field {
	return []*field{
		{path: "disks.minSizeGiB", label: say("Least size GiB"), kind: number, help: say("The smallest disk that fits is taken. This leaves out those that are smaller.")},
		{path: "disks.media", label: say("Kind of disk"), kind: choice, options: []string{"", "ssd", "hdd"}, help: say("Empty takes any; SSD before HDD among equal sizes.")},
		{path: "disks.model", label: say("Model"), more: true, help: say("Part of the disk's model name; upper and lower case are the same. Empty takes any.")},
	}
}

func virtFields() []*field {
	return []*field{
		{path: "virtualization.profile", label: say("Profile"), kind: choice, options: []string{"", "general", "passthrough"}, help: say("general adds nothing to the image's own settings; passthrough switches the IOMMU on, for handing devices to virtual machines.")},
		{path: "virtualization.nested", label: say("Nested"), kind: choice, options: []string{"", "true"}, help: say("Whether virtual machines may be hypervisors themselves.")},
		{path: "virtualization.hugepagesGiB", label: say("Huge pages GiB"), kind: number, help: say("Memory set aside on each host as pages of 1 GiB. Empty is none.")},
		{path: "virtualization.dedicatedCPUs", label: say("Dedicated CPUs"), kind: choice, options: []string{"", "true"}, more: true, help: say("Whether virtual machines may own whole processor cores.")},
		{path: "virtualization.reservedCPUs", label: say("CPUs for host"), kind: number, more: true, help: say("Processor cores kept free for the host. Empty: decided by the size of the server.")},
		{path: "virtualization.reservedMemoryMiB", label: say("Memory for host"), kind: number, more: true, help: say("In MiB, kept free for the host. Empty: decided by the size of the server.")},
		{path: "virtualization.emulation", label: say("Emulation"), kind: choice, options: []string{"", "true"}, more: true, help: say("Whether nodes without KVM may become ready. Their virtual machines are emulated, which is slow: for rehearsal only.")},
	}
}

func softwareFields() []*field {
	return []*field{
		{path: "image", label: say("OS release"), needed: true, help: say("Folder or stream file of the operating system release, on this computer.")},
		{path: "cluster.software", label: say("Cluster software"), help: say("Folder of the nodes' software, with payload.json. Empty: no cluster is made; the servers are installed and that is all.")},
		{path: "access.sshKeys", label: say("SSH keys"), kind: keys, help: say("Public keys of user core, or the path of a file that holds them, as in ~/.ssh/id_ed25519.pub. Empty: nobody can log in.")},
		{path: "serving.address", label: say("Own address"), help: say("Address under which machines reach this computer. Empty: found by the route towards each of them.")},
		{path: "serving.port", label: say("Own port"), kind: number, more: true, help: say("Port under which machines reach this computer. Empty: any free one.")},
		{path: "serving.netboot", label: say("Network boot"), more: true, help: say("Network interface of this computer, as in eno1, on which planned servers may boot from the network where their virtual drives do not carry. Empty: none does.")},
		{path: "serving.medium", label: say("Medium"), kind: choice, options: []string{"", "full", "minimal"}, more: true, help: say("What BMCs fetch: full is the whole live system; minimal is small, for slow links, and the servers fetch the rest over their own network. Empty: full first, minimal where it shows to be too slow.")},
		{path: "access.caCertificates", label: say("Authorities"), kind: keys, more: true, help: say("Path of a file with certificates in PEM form that the installed systems trust.")},
		{path: "cluster.flavour", label: say("Flavour"), kind: choice, options: []string{"", "kubeadm"}, more: true, help: say("How the cluster is brought up.")},
	}
}

// Paths lists every path of the site file that the wizard asks for.
func Paths() []string {
	var out []string
	for s := range stepHandOff {
		for _, f := range fields(s) {
			out = append(out, f.path)
		}
	}
	return out
}
