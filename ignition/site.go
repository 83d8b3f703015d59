package ignition

import (
	"fmt"
	"net/url"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// LiveFile is a file that a live system gets once it knows whose it is.
type LiveFile struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode"`
	Text string `json:"text"`
}

// LiveFiles are the name, the network settings and the time servers of one
// server's live system. They hold no secret. Errors are as those of Live.
func LiveFiles(a fleet.Assignment) ([]LiveFile, error) {
	var p problems
	checkAssignment(&p, a)
	if err := p.err(fleet.CodeSiteInvalid, "files of the live system of %s", quote(a.Hostname)); err != nil {
		return nil, err
	}
	d := newDocument()
	d.file("/etc/hostname", 0o644, hostname(a)+"\n")
	d.network(a.Server, a.Network)
	d.time(a.Network.NTP)
	var out []LiveFile
	for _, f := range d.config.Storage.Files {
		text, err := url.PathUnescape(strings.TrimPrefix(*f.Contents.Source, "data:,"))
		if err != nil { // it was escaped a moment ago
			return nil, fmt.Errorf("file %s of %s: %w", f.Path, a.Hostname, err)
		}
		out = append(out, LiveFile{Path: f.Path, Mode: uint32(*f.Mode), Text: text})
	}
	return out, nil
}

// AnyNetwork lets a live system that nobody planned for take addresses on any
// port that has a cable, as the image itself would.
func AnyNetwork() LiveFile {
	k := &keyfile{}
	k.section("connection", "id", "metalrise-any", "uuid", connectionUUID("", "any"), "type", "ethernet", "multi-connect", "3", "autoconnect-retries", "0")
	k.section("ipv4", "method", "auto", "may-fail", "true")
	k.section("ipv6", "method", "auto", "may-fail", "true")
	return LiveFile{Path: connectionsDir + "metalrise-any.nmconnection", Mode: 0o600, Text: k.b.String()}
}

// SiteLive makes the config of the live system on the medium of a whole site: the
// program from the medium, which finds out whose machine this is, and the agent,
// which it starts. Until then the ports keep the image's own settings. It touches
// no disk. Errors are as those of Live.
func SiteLive(m Medium, access fleet.Access, spec Spec) ([]byte, error) {
	return preparedLive(m, access, spec, siteAgentUnit)
}

// siteAgentUnit is the agent of a machine that the program has found in the plan,
// or that is to ask.
const siteAgentUnit = `[Unit]
Description=metalrise agent
ConditionPathExists=` + callhome.TicketPath + `
StartLimitIntervalSec=0

[Service]
ExecStart=` + callhome.AgentPath + ` agent
Restart=on-failure
RestartSec=5
StandardOutput=journal+console
StandardError=journal+console
`

// Asking makes the config of a live system that booted from the network and does
// not know whose machine it is: the agent, with a ticket to ask with. It takes
// addresses on any port, and touches no disk. Errors are as those of Live.
func Asking(t callhome.Ticket, agent Artefact, access fleet.Access) ([]byte, error) {
	var p problems
	if t.Stage != callhome.Asking || t.Protocol != callhome.Protocol || t.Token == "" || t.Server != "" {
		p.add("ticket", "is none to ask with")
	}
	if why := baseURLProblem(t.URL); why != "" {
		p.add("ticket.url", "%s", why)
	}
	if _, err := certificates(t.CA); err != nil {
		p.add("ticket.ca", "%v", err)
	}
	checkArtefact(&p, "agent", agent)
	for i, key := range access.SSHKeys {
		if why := sshKeyProblem(key); why != "" {
			p.add(fmt.Sprintf("access.sshKeys[%d]", i), "%s", why)
		}
	}
	if err := p.err(fleet.CodeSiteInvalid, "ignition config of a live system that asks"); err != nil {
		return nil, err
	}
	d := newDocument()
	d.logins(access.SSHKeys)
	d.kvm(fleet.Hypervisor{Profile: fleet.ProfileGeneral})
	network := AnyNetwork()
	d.file(network.Path, int(network.Mode), network.Text)
	if err := d.callHome(t, agent); err != nil {
		return nil, err
	}
	d.unit("metalrise-fetch.service", fetchUnit, false)
	d.unit("metalrise-agent.service", agentUnit, true)
	raw, err := d.render("")
	if err != nil {
		return nil, fmt.Errorf("live system that asks: %w", err)
	}
	return raw, nil
}
