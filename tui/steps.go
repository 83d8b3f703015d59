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

// stepInfo is what is fixed about a step: what it is for, and what can be done
// with the rows of its table, by keys and by lines.
type stepInfo struct{ title, help, keys, lines string }

func steps() []stepInfo {
	return []stepInfo{
		{title: say("Welcome"), help: say("Name the site. The wizard keeps one site file; commands and the wizard read and write the same one.")},
		{title: say("Find servers"), help: say("Say where the BMCs answer and how to log in. Finding sends no password; it only asks who is there and pins the certificates.")},
		{title: say("Look inside"), help: say("Logs in to every BMC found and reads what stands behind it. Nothing is changed. Unknown means that the BMC does not tell."),
			lines: say("The number of a server tells all that was seen of it.")},
		{title: say("Roles"), help: say("What each server becomes. An excluded server is never touched."), keys: say("Space on a server changes its role."), lines: say("The number of a server changes its role.")},
		{title: say("Network"), help: say("Addresses of the installed systems. The first address is the first server's; the others count up.")},
		{title: say("Disks"), help: say("Which disk is erased and which are kept."), keys: say("Space on a kept disk takes that one for the system instead."), lines: say("The number of a kept disk takes that one for the system instead.")},
		{title: say("Virtualization"), help: say("How the hypervisors are tuned. The defaults suit most sites.")},
		{title: say("Software"), help: say("Which operating system is installed and who may log in.")},
		{title: say("Checks"), help: say("Everything that was found wrong, worst first."), keys: say("Enter on a line explains it."), lines: say("The number of a line explains it.")},
		{title: say("Review"), help: say("The last look before disks are erased. Type the number of disks to be erased; that is your consent.")},
		{title: say("Run"), help: say("Every server on its way to a hypervisor.")},
		{title: say("Hand-off"), help: say("What was installed and how to reach it.")},
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
	more        bool           // shown only on demand, or once it has a value
	server      fleet.ServerID // whose entry it is in; "" for the site's own
	host        string         // name of that server
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
	case has("platform"):
		return stepSoftware
	case has("virtualization", "cpu", "hypervisor"):
		return stepVirt
	case has("image", "access", "serving"):
		return stepSoftware
	}
	return stepLook
}
