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
