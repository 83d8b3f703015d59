package ignition

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Live makes the config of the live system on a server's medium: the planned
// name, network and logins, the KVM modules, so that the agent can see whether
// KVM works, and the agent. It touches no disk.
//
// The error is a fleet.Fault of kind invalid around an *Invalid that lists every
// problem.
func Live(in LiveInput) ([]byte, error) {
	a := in.Assignment
	var p problems
	checkAssignment(&p, a)
	checkTicket(&p, in.Ticket, a, callhome.Live)
	checkArtefact(&p, "agent", in.Agent)
	checkSpec(&p, in.Spec)
	if err := p.err(fleet.CodeSiteInvalid, "ignition config of the live system of %s", quote(a.Hostname)); err != nil {
		return nil, err
	}
	d := newDocument()
	d.host(a)
	if err := d.callHome(in.Ticket, in.Agent); err != nil {
		return nil, err
	}
	d.unit("metalrise-fetch.service", fetchUnit, false)
	d.unit("metalrise-agent.service", agentUnit, true)
	raw, err := d.render(in.Spec)
	if err != nil {
		return nil, fmt.Errorf("live system of %s: %w", a.Hostname, err)
	}
	return raw, nil
}

// Installed makes the config of the installed system of a server, by its role.
// Errors are as those of Live.
func Installed(in InstalledInput) ([]byte, error) {
	a := in.Assignment
	var p problems
	checkAssignment(&p, a)
	if in.Ticket != nil {
		checkTicket(&p, *in.Ticket, a, callhome.Installed)
		checkArtefact(&p, "agent", in.Agent)
	}
	if in.Site != "" && (!isDNSName(in.Site) || strings.Contains(in.Site, ".")) {
		p.add("site", "%s is no name of a site: use a DNS label", quote(in.Site))
	}
	if in.Medium != nil {
		checkMedium(&p, *in.Medium)
	}
	checkSpec(&p, in.Spec)
	if err := p.err(fleet.CodeSiteInvalid, "ignition config of the installed system of %s", quote(a.Hostname)); err != nil {
		return nil, err
	}
	d := newDocument()
	d.host(a)
	d.bridges(a.Server, a.Bridges)
	d.kernelArguments(KernelArguments(a))
	d.trust(a.Access.CACertificates)
	if a.Node != nil {
		d.file("/etc/NetworkManager/conf.d/91-metalrise-cluster.conf", 0o644, clusterInterfaces)
	}
	plan := ""
	if in.Ticket != nil {
		plan = in.Ticket.Plan
		if err := d.callHome(*in.Ticket, in.Agent); err != nil {
			return nil, err
		}
		d.unit("metalrise-report.service", reportUnit, true)
	}
	if in.Medium != nil {
		d.prepared(*in.Medium, installedPreparedUnit)
	}
	if err := d.nodeFile(a, in.Site, plan); err != nil {
		return nil, err
	}
	raw, err := d.render(in.Spec)
	if err != nil {
		return nil, fmt.Errorf("installed system of %s: %w", a.Hostname, err)
	}
	return raw, nil
}

// Digest is the SHA-256, lower-case hexadecimal, of the installed system's
// config without what belongs to a run: addresses, tokens, the plan's id. It is
// what a plan carries as Assignment.Ignition.
func Digest(a fleet.Assignment) (string, error) {
	a.Ignition = ""
	raw, err := Installed(InstalledInput{Assignment: a})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}
