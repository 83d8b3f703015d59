package ignition

import (
	"encoding/json"
	"fmt"
	"strings"

	"metalrise.dev/fleet/callhome"
)

const fetchPath = "/usr/local/bin/metalrise-fetch"

// The units hold no value from outside: what differs lies in files. They do not
// wait for network-online.target: NetworkManager lets that wait six seconds for
// each port without a cable, while the planned port is up at once. Fetching
// tries until it succeeds.

const fetchUnit = `[Unit]
Description=Fetch the metalrise agent
After=network.target
ConditionPathExists=` + callhome.TicketPath + `

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=` + fetchPath + `
TimeoutStartSec=infinity
Restart=on-failure
RestartSec=5
StandardOutput=journal+console
StandardError=journal+console
`

const agentUnit = `[Unit]
Description=metalrise agent
Requires=metalrise-fetch.service
After=metalrise-fetch.service
StartLimitIntervalSec=0

[Service]
ExecStart=` + callhome.AgentPath + ` agent
Restart=on-failure
RestartSec=5
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
`

// reportUnit comes after multi-user.target, because "installed" is said of a
// system that came up. It counts as started once it runs: becoming a node of a
// cluster takes as long as the others of its rack take, and all the while the
// boot must be over for whoever waits for it (systemctl is-system-running). For
// that reason fetching is part of it. The agent removes the ticket when nothing
// is left to be said; then later boots neither fetch nor report.
const reportUnit = `[Unit]
Description=Report this installed system to metalrise and do what it says
After=network.target multi-user.target
ConditionPathExists=` + callhome.TicketPath + `
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=/bin/sh -c '` + fetchPath + ` && exec ` + callhome.AgentPath + ` agent'
Restart=on-failure
RestartSec=10
StandardOutput=journal+console
StandardError=journal+console

[Install]
WantedBy=multi-user.target
`

// callHome adds ticket, authority and the way to get the agent. Both were
// checked before.
func (d *document) callHome(t callhome.Ticket, agent Artefact) error {
	raw, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return fmt.Errorf("write ticket: %w", err)
	}
	authorities, err := certificates(t.CA)
	if err != nil {
		return fmt.Errorf("ticket.ca: %w", err)
	}
	d.file(callhome.TicketPath, 0o600, string(raw)+"\n")
	d.file(callhome.CAPath, 0o644, strings.Join(authorities, ""))
	d.file(fetchPath, 0o755, fetchScript(fetch{
		url: t.URL + agent.Path, sha256: agent.SHA256, bytes: agent.Bytes, ca: callhome.CAPath, target: callhome.AgentPath, pause: 1, longest: 30,
	}))
	return nil
}

// fetch is what differs from one fetch script to the next. The texts hold no
// quote and no control character.
type fetch struct {
	url, sha256, ca, target string
	bytes                   int64
	pause, longest          int // seconds between tries, first and last
}

// fetchScript is a program for /bin/sh that ends when the target has the digest.
// Each try is bounded, their number is not: whoever serves the agent may be away
// for a while. The target is always whole or absent, and checked again at the
// next start, so a power cut does no harm. curl reads no configuration, follows
// no redirect and asks no proxy.
func fetchScript(f fetch) string {
	return fmt.Sprintf(`#!/bin/sh
# Fetches the metalrise agent and puts it in its place once its digest is right.
set -u
umask 077

url='%s'
sum='%s'
size=%d
ca='%s'
target='%s'
part="$target.part"
pause=%d
longest=%d

right() {
	[ -f "$1" ] && printf '%%s  %%s\n' "$sum" "$1" | sha256sum -c --status -
}

fetch() {
	rm -f "$part" &&
		curl --disable --cacert "$ca" --proto '=https' --noproxy '*' --globoff \
			--fail --silent --show-error --max-filesize "$size" \
			--connect-timeout 10 --speed-limit 1024 --speed-time 30 --max-time 1800 \
			--output "$part" "$url"
}

until right "$target"; do
	if fetch; then
		if right "$part"; then
			chmod 0755 "$part" && mv -f "$part" "$target" && continue
		else
			echo "metalrise: what $url gave does not have the digest $sum" >&2
		fi
	fi
	echo "metalrise: fetching the agent again in $pause s" >&2
	sleep "$pause"
	pause=$((pause * 2))
	[ "$pause" -le "$longest" ] || pause=$longest
done
chmod 0755 "$target"
`, f.url, f.sha256, f.bytes, f.ca, f.target, f.pause, f.longest)
}
