package site

import (
	"slices"

	"metalrise.dev/fleet"
)

// field is what is known about one field of the site file besides its Go type.
// Reading, the JSON Schema and the documentation are all made from this table.
type field struct {
	path     string // "servers[].role"
	text     string // one or two sentences for people
	required bool
	byDef    string   // what happens when it is left out
	example  string   // as YAML on one line
	enum     []string // the only values
	min, max int      // of whole numbers and of the length of lists; max 0: no bound
	check    func(string) error
}

// fields lists every field in the order of the documentation.
func fields() []field {
	return slices.Concat(bmcFields(), clusterFields(), networkFields(), virtualizationFields(), platformFields(), serverFields(), ruleFields())
}

// bmcFields are those of the head and of bmcs.
func bmcFields() []field {
	return []field{
		{path: "apiVersion", text: "Version of this file's format.", required: true, enum: []string{fleet.APIVersion}},
		{path: "kind", text: "What the file describes.", required: true, enum: []string{"Site"}},
		{path: "name", text: "Name of the site. Part of every host name, and the name of the folder that keeps its state.", required: true, example: "oslo", check: checkName},

		{path: "bmcs", text: "Where the servers' BMCs answer, and how to log in to them.", required: true},
		{path: "bmcs.addresses", text: "Addresses, ranges, prefixes or DNS names of BMCs, each with a port if it has one of its own. Their order is the order of the servers: the first becomes the first control plane and gets the first address. A BMC without TLS needs http:// before its address.", byDef: "only those of import", example: "[10.0.9.11-15, 10.0.9.32/28, \"[fd00::1]:8443\"]", min: 1, max: 4096, check: checkRange},
		{path: "bmcs.port", text: "Port of BMCs whose entry names none.", byDef: "443", example: "8443", min: 1, max: 65535},
		{path: "bmcs.username", text: "Login name, the same on all BMCs.", byDef: "only the logins under credentials or in the imported file", example: "admin", check: checkUsername},
		{path: "bmcs.password", text: "Where the password of that login is. Never the password itself.", byDef: "only the logins under credentials or in the imported file"},
		{path: "bmcs.password.file", text: "File that holds the password and nothing else; it should have mode 0600. Relative to the site file's folder.", example: "bmc-password", check: checkFilePath},
		{path: "bmcs.password.env", text: "Environment variable that holds the password, instead of a file.", example: "BMC_PASSWORD", check: checkEnvName},
		{path: "bmcs.password.vault", text: "Entry of an encrypted file made by `metalrise vault`: a name in vault.age beside the site file, or FILE#NAME.", example: "bmc-admin", check: checkVaultName},
		{path: "bmcs.password.prompt", text: "What to ask the person at the terminal for, once in each run. Not for runs without a terminal.", example: "password of the BMCs", check: checkPrompt},
		{path: "bmcs.pins", text: "Fingerprints of BMC certificates by address (host:port): SHA-256 over the DER form, 64 hexadecimal digits.", byDef: "the certificate seen first is trusted and remembered", example: "{\"10.0.9.11:443\": 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08}", check: checkFingerprint},
		{path: "bmcs.credentials", text: "Further logins, tried in this order on BMCs that refuse the one above. On one BMC a login is tried at most twice, and at most two passwords with the same name, so that no account is locked.", byDef: "none", max: 16},
		{path: "bmcs.credentials[].username", text: "Login name.", required: true, example: "root", check: checkUsername},
		{path: "bmcs.credentials[].password", text: "Where its password is.", required: true},
		{path: "bmcs.credentials[].password.file", text: "File that holds the password and nothing else; it should have mode 0600. Relative to the site file's folder.", example: "bmc-password", check: checkFilePath},
		{path: "bmcs.credentials[].password.env", text: "Environment variable that holds the password, instead of a file.", example: "BMC_PASSWORD", check: checkEnvName},
		{path: "bmcs.credentials[].password.vault", text: "Entry of an encrypted file made by `metalrise vault`: a name in vault.age beside the site file, or FILE#NAME.", example: "bmc-admin", check: checkVaultName},
		{path: "bmcs.credentials[].password.prompt", text: "What to ask the person at the terminal for, once in each run. Not for runs without a terminal.", example: "password of the BMCs", check: checkPrompt},
		{path: "bmcs.import", text: "CSV file with more BMCs. Its first row names its columns: address, user, password (a reference such as file:NAME, env:NAME or vault:NAME), mac, role, position. A login there is used instead of the site's. Relative to the site file's folder.", byDef: "none", example: "rack.csv", check: checkFilePath},
		{path: "bmcs.legacyTLS", text: "Addresses of BMCs that may speak outdated TLS: TLS 1.0 or 1.1, RSA key exchange, or a certificate with a negative serial number. Passwords are less well guarded on the way to them.", byDef: "none: such a BMC is refused", example: "[10.0.9.14]", max: 4096, check: checkRange},
		{path: "bmcs.slowLinks", text: "Addresses of BMCs on a slow link, for example those of another place. Their servers get the minimal medium, unless the entry of a server says something else.", byDef: "none", example: "[10.7.9.11-40]", max: 4096, check: checkRange},
	}
}

func clusterFields() []field {
	return []field{
		{path: "cluster", text: "Shape of the cluster."},
		{path: "cluster.controlPlanes", text: "Number of control planes: 1, 3 or 5.", byDef: "one server becomes a single node, two need this field, from three on 3", example: "3", enum: []string{"1", "3", "5"}},
		{path: "cluster.domain", text: "DNS domain appended to host names.", byDef: "none", example: "oslo.example.org", check: checkDomain},
		{path: "cluster.software", text: "Folder of the nodes' software: payload.json and the files it names by digest. Relative to the site file's folder.", byDef: "no cluster is made: the servers are installed and that is all", example: "software", check: checkFilePath},
		{path: "cluster.flavour", text: "How the cluster is brought up.", byDef: "kubeadm", example: "kubeadm", enum: []string{string(fleet.Kubeadm)}},
		{path: "cluster.vip", text: "Address of the API that the control planes hold by themselves and hand over when one fails. In the servers' network, and free. Several control planes need it or loadBalancer; give it to a single one too if it is to grow.", byDef: "the address of the only control plane, which then cannot grow", example: "10.0.1.20", check: checkHost},
		{path: "cluster.loadBalancer", text: "Host and port of a load balancer of yours that hands the API's connections to port 6443 of all control planes, instead of vip.", byDef: "none", example: "api.oslo.example.org:6443", check: checkHostPort},
		{path: "cluster.vrrp", text: "Virtual router id with which control planes agree on who holds vip. Unlike that of any other VRRP speaker in the same segment.", byDef: "the last octet of vip", example: "20", min: 1, max: 255},
		{path: "cluster.podCIDR", text: "Addresses of pods. Each node takes a /24 of them (IPv6: a /64). No part of it may be in use elsewhere.", byDef: "10.244.0.0/16 (IPv6: fd00:10:244::/48)", example: "10.244.0.0/16", check: checkCIDR},
		{path: "cluster.serviceCIDR", text: "Addresses of services. No part of it may be in use elsewhere.", byDef: "10.96.0.0/16 (IPv6: fd00:10:96::/112)", example: "10.96.0.0/16", check: checkCIDR},
		{path: "cluster.cni", text: "Network of pods: flannel tunnels over VXLAN and works everywhere; flannel-host-gw routes without a tunnel, between nodes of one subnet; own applies the file under cniManifests and nothing else.", byDef: "flannel", example: "flannel-host-gw", enum: []string{string(fleet.Flannel), string(fleet.FlannelHostGW), string(fleet.OwnCNI)}},
		{path: "cluster.cniManifests", text: "Kubernetes manifests of your own pod network, with cni: own and only then. Relative to the site file's folder.", example: "cni.yaml", check: checkFilePath},
		{path: "cluster.controlPlaneWorkloads", text: "Whether control planes run virtual machines and other pods too. Without workers they do in any case.", byDef: "false", example: "true"},
	}
}

// networkFields are those of network and disks.
func networkFields() []field {
	return []field{
		{path: "network", text: "The servers' network in the installed system.", required: true},
		{path: "network.firstAddress", text: "Address of the first server with the prefix length of the network. The other servers count up, passing over addresses that are in use by something named in this file.", required: true, example: "10.0.1.21/24", check: checkPrefix},
		{path: "network.gateway", text: "Default gateway.", byDef: "none", example: "10.0.1.1", check: checkIP},
		{path: "network.dns", text: "Addresses of name servers.", byDef: "none", example: "[10.0.1.2]", max: 8, check: checkIP},
		{path: "network.ntp", text: "Addresses or names of time servers.", byDef: "the image's own", example: "[10.0.1.3]", max: 8, check: checkIPOrName},
		{path: "network.vlan", text: "VLAN of the servers' addresses.", byDef: "untagged", example: "12", min: 1, max: 4094},
		{path: "network.mtu", text: "Largest packet in bytes. Every switch on the way must carry it.", byDef: "the kernel's own, 1500", example: "9000", min: 1280, max: 9216},
		{path: "network.bond", text: "Join all ports with link to one bond of this mode. 802.3ad needs switches set up for LACP.", byDef: "no bond: one port per server", example: "active-backup", enum: []string{"active-backup", "802.3ad"}},

		{path: "disks", text: "Which disk may hold the operating system. The smallest that fits is taken; no other disk is ever written."},
		{path: "disks.minSizeGiB", text: "Least size in GiB.", byDef: "8, or the size of the image where that is more", example: "200", min: 1, max: 1 << 20},
		{path: "disks.media", text: "Kind of disk.", byDef: "any; SSD before HDD among equal sizes", example: "ssd", enum: []string{"ssd", "hdd"}},
		{path: "disks.model", text: "Part of the disk's model name; upper and lower case are the same.", byDef: "any", example: "PM9A3"},
	}
}

func virtualizationFields() []field {
	return []field{
		{path: "virtualization", text: "How the hypervisors are tuned."},
		{path: "virtualization.profile", text: "Kernel settings: general adds nothing to the image's own; passthrough switches the IOMMU on, for handing devices to virtual machines.", byDef: "general", example: "passthrough", enum: []string{"general", "passthrough"}},
		{path: "virtualization.nested", text: "Whether virtual machines may be hypervisors themselves.", byDef: "false", example: "true"},
		{path: "virtualization.hugepagesGiB", text: "Memory in GiB set aside as huge pages of 1 GiB on each host.", byDef: "none", example: "64", min: 1, max: 1 << 16},
		{path: "virtualization.emulation", text: "Whether nodes that cannot run virtual machines with KVM may become ready all the same. Their virtual machines are emulated, which is slow: for rehearsal only.", byDef: "false: such a node is held", example: "true"},
		{path: "virtualization.dedicatedCPUs", text: "Whether virtual machines may own whole processor cores (the kubelet's static CPU manager).", byDef: "false", example: "true"},
		{path: "virtualization.reservedCPUs", text: "Processor cores kept free for the host on each node.", byDef: "decided by the size of the server", example: "2", min: 1, max: 256},
		{path: "virtualization.reservedMemoryMiB", text: "Memory in MiB kept free for the host on each node.", byDef: "decided by the size of the server", example: "4096", min: 256, max: 1 << 20},
	}
}

// serverFields are those of image, access, serving and servers.
func serverFields() []field {
	return []field{
		{path: "image", text: "Folder or stream file of the operating system release. Relative to the site file's folder.", required: true, example: "image", check: checkFilePath},

		{path: "access", text: "Who may log in to the installed servers, and what they trust."},
		{path: "access.sshKeys", text: "Public SSH keys of user core, as in an authorized_keys file.", byDef: "nobody logs in by SSH", example: "[ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmk0pn0CGmkyWPHFWiC5sVVw5BD6wlfQkcyC6WTHcBJ me@example.org]", max: 256, check: checkSSHKey},
		{path: "access.caCertificates", text: "Certificates of authorities that the installed system trusts, each in PEM form.", byDef: "the image's own only", max: 64, check: checkCertificate},

		{path: "serving", text: "Where metalrise itself answers while it installs."},
		{path: "serving.address", text: "Address under which machines and BMCs reach this computer.", byDef: "found by the route towards each of them", example: "10.0.9.2", check: checkIP},
		{path: "serving.port", text: "Port to serve on.", byDef: "any free one", example: "8443", min: 1, max: 65535},
		{path: "serving.netboot", text: "Network interface of this computer on which planned servers may boot from the network, where their virtual drives do not carry. It answers DHCP to them alone, beside another DHCP server if there is one.", byDef: "no server boots from the network", example: "eno1", check: checkInterface},
		{path: "serving.medium", text: "What BMCs get into their virtual drives: full is the whole live system; minimal only kernel and initial RAM disk, and the server fetches the rest from this computer over its own network; auto begins with full and goes on with minimal where the medium is read too slowly.", byDef: "auto", example: "minimal", enum: []string{string(fleet.AutoMedium), string(fleet.FullMedium), string(fleet.MinimalMedium)}},

		{path: "servers", text: "What you insist on for single servers. Leave it out as long as the plan's own choices suit you.", max: 4096},
		{path: "servers[].serial", text: "Serial number of the server that the entry is about. Give this, uuid or both.", example: "CZ3210ABCD"},
		{path: "servers[].uuid", text: "System UUID of the server that the entry is about.", example: "9c5e1c4e-0a7a-4d8e-b7a3-1f2e3d4c5b6a", check: checkUUID},
		{path: "servers[].role", text: "What the server becomes. An excluded server is never touched.", byDef: "decided by the plan", example: "control-plane", enum: []string{"control-plane", "worker", "single-node", "excluded"}},
		{path: "servers[].hostname", text: "Host name. Without a dot the domain is appended.", byDef: "<name>-cp1, <name>-w1 and so on", example: "db1", check: checkHostname},
		{path: "servers[].address", text: "Address with prefix length, in the network of firstAddress.", byDef: "the next free one", example: "10.0.1.30/24", check: checkPrefix},
		{path: "servers[].mac", text: "MAC of the network port that carries the address.", byDef: "the lowest MAC among ports with link", example: "52:54:00:12:34:56", check: checkMAC},
		{path: "servers[].disk", text: "The disk to install on, which will be erased."},
		{path: "servers[].disk.wwn", text: "World Wide Name of the disk.", example: "5000c500a1b2c3d4", check: checkWWN},
		{path: "servers[].disk.serial", text: "Serial number of the disk.", example: "S4EVNX0M1"},
		{path: "servers[].eraseForeign", text: "Serial number of a disk that carries another owner's data and may be erased all the same.", byDef: "such a disk is refused", example: "S4EVNX0M1"},
		{path: "servers[].medium", text: "What the server's BMC gets into its virtual drive: see serving.medium.", byDef: "minimal for BMCs under bmcs.slowLinks, else what serving.medium says", example: "full", enum: []string{string(fleet.AutoMedium), string(fleet.FullMedium), string(fleet.MinimalMedium)}},
	}
}

// hidden names fields of the Go types that the file does not have, and why.
func hidden() map[string]string {
	return map[string]string{
		"servers[].disk.sizeBytes": "seen on the machine, never typed",
		"servers[].disk.model":     "seen on the machine, never typed",
	}
}

func fieldTable() map[string]field {
	out := map[string]field{}
	for _, f := range fields() {
		out[f.path] = f
	}
	return out
}
