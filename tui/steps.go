package tui

import (
	"strings"

	"metalrise.dev/fleet"
)

// step is one screen of the wizard.
type step int

const (
	stepWelcome step = iota
	stepFind
	stepLook
	stepRoles
	stepNetwork
	stepDisks
	stepVirt
	stepSoftware
	stepChecks
	stepReview
	stepRun
	stepHandOff
)

// stepInfo is what is fixed about a step.
type stepInfo struct{ title, help string }

func steps() []stepInfo {
	return []stepInfo{
		{say("Welcome"), say("Name the site. The wizard keeps one site file; commands and the wizard read and write the same one.")},
		{say("Find servers"), say("Say where the BMCs answer and how to log in. Finding sends no password; it only asks who is there and pins the certificates.")},
		{say("Look inside"), say("Logs in to every BMC found and reads what stands behind it. Nothing is changed. Unknown means that the BMC does not tell.")},
		{say("Roles"), say("What each server becomes. Space on a server changes its role; an excluded server is never touched.")},
		{say("Network"), say("Addresses of the installed systems. The first address is the first server's; the others count up.")},
		{say("Disks"), say("Which disk is erased and which are kept. Space on a kept disk takes that one for the system instead.")},
		{say("Virtualization"), say("How the hypervisors are tuned. The defaults suit most sites.")},
		{say("Software"), say("Which operating system is installed and who may log in.")},
		{say("Checks"), say("Everything that was found wrong, worst first. Enter on a line explains it.")},
		{say("Review"), say("The last look before disks are erased. Type the number of disks to be erased; that is your consent.")},
		{say("Run"), say("Every server on its way to a hypervisor.")},
		{say("Hand-off"), say("What was installed and how to reach it.")},
	}
}

// kind is what can be entered into a field.
type kind int

const (
	text kind = iota
	list      // separated by commas or blanks
	keys      // SSH keys, or a path of a file with one
	number
	choice // one of options; Space or Enter goes to the next
	secret
)

// field is one line to be filled in, for one path of the site file.
type field struct {
	path        string
	label, help string
	kind        kind
	options     []string
	needed      bool
}

func fields(s step) []*field {
	switch s {
	case stepFind:
		return []*field{
			{path: "bmcs.addresses", label: say("BMC addresses"), needed: true, kind: list, help: say("Single addresses, ranges (10.0.9.11-15), prefixes (10.0.9.0/28) or names, in rack order, separated by commas. A port may follow: 10.0.9.11:8443.")},
			{path: "bmcs.username", label: say("User"), needed: true, help: say("Login name, the same on all BMCs.")},
			{path: "bmcs.password", label: say("Password"), needed: true, kind: secret, help: say("Typed text is kept in a file beside the site file that only you can read. file:PATH or env:NAME names another place. The site file holds the place, never the password.")},
		}
	case stepRoles:
		return []*field{
			{path: "cluster.controlPlanes", label: say("Control planes"), kind: choice, options: []string{"", "1", "3", "5"}, help: say("How many servers lead the cluster. Left empty, one server becomes a single node and three or more get three; two need a decision: 1 leaves no spare.")},
			{path: "cluster.domain", label: say("Domain"), help: say("Appended to host names. May stay empty.")},
		}
	case stepNetwork:
		return []*field{
			{path: "network.firstAddress", label: say("First address"), needed: true, help: say("With the prefix length of the network, as in 10.0.1.21/24. The other servers get the next free ones.")},
			{path: "network.gateway", label: say("Gateway"), help: say("Default gateway of the servers. May stay empty.")},
			{path: "network.dns", label: say("Name servers"), kind: list, help: say("Addresses, separated by commas. May stay empty.")},
			{path: "network.ntp", label: say("Time servers"), kind: list, help: say("Addresses or names, separated by commas. May stay empty.")},
			{path: "network.vlan", label: say("VLAN"), kind: number, help: say("1 to 4094; empty is untagged.")},
			{path: "network.mtu", label: say("MTU"), kind: number, help: say("Largest packet in bytes. Every switch on the way must carry it. Empty is 1500.")},
			{path: "network.bond", label: say("Bond"), kind: choice, options: []string{"", "active-backup", "802.3ad"}, help: say("Joins all ports with link. 802.3ad needs switches set up for LACP.")},
		}
	case stepDisks:
		return []*field{
			{path: "disks.minSizeGiB", label: say("Least size GiB"), kind: number, help: say("The smallest disk that fits is taken. This leaves out those that are smaller.")},
			{path: "disks.media", label: say("Kind of disk"), kind: choice, options: []string{"", "ssd", "hdd"}, help: say("Empty takes any; SSD before HDD among equal sizes.")},
		}
	case stepVirt:
		return []*field{
			{path: "virtualization.profile", label: say("Profile"), kind: choice, options: []string{"", "general", "passthrough"}, help: say("general adds nothing to the image's own settings; passthrough switches the IOMMU on, for handing devices to virtual machines.")},
			{path: "virtualization.nested", label: say("Nested"), kind: choice, options: []string{"", "true"}, help: say("Whether virtual machines may be hypervisors themselves.")},
			{path: "virtualization.hugepagesGiB", label: say("Huge pages GiB"), kind: number, help: say("Memory set aside on each host as pages of 1 GiB. Empty is none.")},
		}
	case stepSoftware:
		return []*field{
			{path: "image", label: say("OS release"), needed: true, help: say("Folder or stream file of the operating system release, on this computer.")},
			{path: "access.sshKeys", label: say("SSH keys"), kind: keys, help: say("Public keys of user core, or the path of a file that holds them, as in ~/.ssh/id_ed25519.pub. Empty: nobody can log in.")},
			{path: "serving.address", label: say("Own address"), help: say("Address under which machines reach this computer. Empty: found by the route towards each of them.")},
		}
	}
	return nil
}

// valueAt gives the value of a field as people type it.
func valueAt(s fleet.Site, path string) string {
	switch path {
	case "name":
		return s.Name
	case "bmcs.addresses":
		return strings.Join(s.BMCs.Addresses, ", ")
	case "bmcs.username":
		return s.BMCs.Username
	case "bmcs.password":
		if s.BMCs.Password.IsZero() {
			return ""
		}
		return s.BMCs.Password.String()
	case "cluster.controlPlanes":
		return orEmpty(s.Cluster.ControlPlanes)
	case "cluster.domain":
		return s.Cluster.Domain
	case "network.firstAddress":
		return s.Network.FirstAddress
	case "network.gateway":
		return s.Network.Gateway
	case "network.dns":
		return strings.Join(s.Network.DNS, ", ")
	case "network.ntp":
		return strings.Join(s.Network.NTP, ", ")
	case "network.vlan":
		return orEmpty(s.Network.VLAN)
	case "network.mtu":
		return orEmpty(s.Network.MTU)
	case "network.bond":
		return s.Network.Bond
	case "disks.minSizeGiB":
		return orEmpty(s.Disks.MinSizeGiB)
	case "disks.media":
		return string(s.Disks.Media)
	case "virtualization.profile":
		return string(s.Virtualization.Profile)
	case "virtualization.nested":
		if s.Virtualization.Nested {
			return "true"
		}
	case "virtualization.hugepagesGiB":
		return orEmpty(s.Virtualization.HugepagesGiB)
	case "image":
		return s.Image
	case "access.sshKeys":
		return strings.Join(s.Access.SSHKeys, ", ")
	case "serving.address":
		return s.Serving.Address
	}
	return ""
}

// isExample tells whether a value is that of a fresh site file, which leads
// nowhere: its addresses are those kept for documentation (RFC 5737).
func isExample(path, value string) bool {
	switch path {
	case "bmcs.addresses":
		return strings.HasPrefix(value, "192.0.2.")
	case "network.firstAddress", "network.gateway", "network.dns":
		return strings.HasPrefix(value, "198.51.100.")
	case "image":
		return value == "image" // it may be there all the same: only the plan knows
	}
	return false
}

// stepOf tells where a finding is solved.
func stepOf(f fleet.Finding) step {
	has := func(prefixes ...string) bool {
		for _, p := range prefixes {
			if strings.HasPrefix(f.Path, p) || strings.Contains(f.Path, "]."+p) {
				return true
			}
		}
		return false
	}
	switch {
	case has("bmcs"):
		return stepFind
	case has("network", "mac", "address", "nics"):
		return stepNetwork
	case has("disks", "disk", "eraseForeign"):
		return stepDisks
	case has("cluster", "role", "hostname"):
		return stepRoles
	case has("virtualization", "cpu", "hypervisor"):
		return stepVirt
	case has("image", "access", "serving"):
		return stepSoftware
	}
	return stepLook
}
