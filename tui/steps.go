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
	more        bool // shown only on demand, or once it has a value
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
	for s := range stepChecks {
		for _, x := range fields(s) {
			if x.path == f.Path {
				return s
			}
		}
	}
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
