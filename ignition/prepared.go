package ignition

import (
	"fmt"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Names on a machine that is installed from a prepared medium: one that carries
// all that an install needs, the engine among it.
const (
	// MediumPath describes the medium to the program that lies on it.
	MediumPath = "/etc/metalrise/medium.json"
	// CarriedDir is what the installed system was given by the live one: the state
	// of the install, and a copy of the medium where there was room for it.
	CarriedDir = "/var/lib/metalrise/prepared"
	// CarriedCopy is that copy: what was appended to the ISO, from its start on.
	CarriedCopy = CarriedDir + "/medium"
	// PendingPath is there as long as the installed system has to be finished.
	PendingPath = CarriedDir + "/pending"
	// AgentService is started in the live system once the engine made a ticket.
	AgentService = "metalrise-agent.service"

	preparedPath = "/usr/local/bin/metalrise-prepared"
	preparedUnit = "metalrise-prepared.service"
)

// Medium is a prepared medium, as what boots from it must know it.
type Medium struct {
	// Build names the medium: 32 hexadecimal digits. The line "metalrise BUILD" is
	// what was appended to the ISO begins with.
	Build     string
	Offset    int64    // of what was appended, from the start of the medium
	ProgramAt int64    // of the program, from Offset
	Program   Artefact // Path is not used
	// Description is the content of MediumPath.
	Description string
}

// PreparedLive makes the config of the live system on a prepared medium: the
// program from the medium itself, run as the engine of this one machine, and the
// agent, which that starts. The ports keep the image's own settings, because
// nobody knows the machine yet. It touches no disk. Errors are as those of Live.
func PreparedLive(m Medium, access fleet.Access, spec Spec) ([]byte, error) {
	return preparedLive(m, access, spec, carryUnit)
}

func preparedLive(m Medium, access fleet.Access, spec Spec, agent string) ([]byte, error) {
	var p problems
	checkMedium(&p, m)
	for i, key := range access.SSHKeys {
		if why := sshKeyProblem(key); why != "" {
			p.add(fmt.Sprintf("access.sshKeys[%d]", i), "%s", why)
		}
	}
	checkSpec(&p, spec)
	if err := p.err(fleet.CodeSiteInvalid, "ignition config of the live system of a prepared medium"); err != nil {
		return nil, err
	}
	d := newDocument()
	d.logins(access.SSHKeys)
	d.kvm(fleet.Hypervisor{Profile: fleet.ProfileGeneral})
	d.prepared(m, livePreparedUnit)
	d.unit(AgentService, agent, false)
	raw, err := d.render(spec)
	if err != nil {
		return nil, fmt.Errorf("live system of a prepared medium: %w", err)
	}
	return raw, nil
}

const hexDigits = "0123456789abcdef"

func checkMedium(p *problems, m Medium) {
	if len(m.Build) != 32 || strings.Trim(m.Build, hexDigits) != "" {
		p.add("medium.build", "%s is not 32 hexadecimal digits", quote(m.Build))
	}
	if m.Offset <= 0 || m.Offset%512 != 0 || m.ProgramAt < 512 {
		p.add("medium.offset", "%d and %d: want a multiple of 512, and the program behind the first line", m.Offset, m.ProgramAt)
	}
	a := m.Program
	a.Path = "/program" // it is on the medium, not served
	checkArtefact(p, "medium.program", a)
	if m.Description == "" {
		p.add("medium.description", "is empty")
	}
}

// prepared adds description, script and unit.
func (d *document) prepared(m Medium, unit string) {
	d.file(MediumPath, 0o600, m.Description)
	d.file(preparedPath, 0o755, preparedScript(m))
	d.unit(preparedUnit, unit, true)
}

const livePreparedUnit = `[Unit]
Description=Install this machine from its prepared medium
StartLimitIntervalSec=0

[Service]
ExecStart=` + preparedPath + `
Restart=on-failure
RestartSec=5
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
`

// carryUnit is the agent of a prepared medium. The engine beside it starts it
// when there is a ticket.
const carryUnit = `[Unit]
Description=metalrise agent
ConditionPathExists=` + callhome.TicketPath + `
StartLimitIntervalSec=0

[Service]
ExecStart=` + callhome.AgentPath + ` agent --carry
Restart=on-failure
RestartSec=5
StandardOutput=journal+console
StandardError=journal+console
`

const installedPreparedUnit = `[Unit]
Description=Finish the install that began from the prepared medium
After=network.target
ConditionPathExists=` + PendingPath + `
StartLimitIntervalSec=0

[Service]
ExecStart=` + preparedPath + `
Restart=on-failure
RestartSec=5
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
`

// preparedScript is a program for /bin/sh that finds the medium, takes the program
// from it, checks its digest and becomes it. The texts hold no quote and no
// control character. Partitions are not looked at: what was appended is counted
// from the start of the whole device.
func preparedScript(m Medium) string {
	return fmt.Sprintf(`#!/bin/sh
# Takes the metalrise program from the prepared medium and runs it.
set -u
umask 077

build='%s'
offset=%d
at=%d
size=%d
sum='%s'
copy='%s'
target='%s'
part="$target.medium"

right() {
	[ -f "$1" ] && printf '%%s  %%s\n' "$sum" "$1" | sha256sum -c --status -
}

piece() {
	dd if="$1" bs=1M iflag=skip_bytes,count_bytes skip="$2" count="$3" 2>/dev/null
}

# take DEVICE OFFSET
take() {
	[ -r "$1" ] && [ "$(piece "$1" "$2" 42 | tr -d '\000')" = "metalrise $build" ] &&
		piece "$1" $(($2 + at)) "$size" >"$part" && right "$part" &&
		chmod 0755 "$part" && mv -f "$part" "$target" &&
		{ ! command -v restorecon >/dev/null || restorecon "$target"; }
}

while ! right "$target"; do
	take "$copy" 0 && continue
	for d in /dev/sr[0-9]* /dev/sd[a-z] /dev/sd[a-z][a-z] /dev/vd[a-z] /dev/nvme[0-9]*n[0-9] /dev/mmcblk[0-9]; do
		[ -b "$d" ] && take "$d" "$offset" && break
	done
	right "$target" && break
	echo "metalrise: medium $build is not here, or cannot be read; looking again in 5 s" >&2
	sleep 5
done
exec "$target" prepared
`, m.Build, m.Offset, m.ProgramAt, m.Program.Bytes, m.Program.SHA256, CarriedCopy, callhome.AgentPath)
}
