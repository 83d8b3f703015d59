package ignition

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_4/types"

	"metalrise.dev/fleet"
)

// host adds what both systems of a server share: name, network, time, logins,
// hypervisor.
func (d *document) host(a fleet.Assignment) {
	d.file("/etc/hostname", 0o644, hostname(a)+"\n")
	d.network(a.Server, a.Network)
	d.time(a.Network.NTP)
	d.logins(a.Access.SSHKeys)
	d.kvm(a.Hypervisor)
}

// hostname is the name of the node where the server becomes one: the kubelet
// registers under it.
func hostname(a fleet.Assignment) string {
	if a.Node != nil {
		return a.Node.Name
	}
	return a.Hostname
}

// time points chrony at the site's servers and at no others. Without any, the
// image's own choice stays.
func (d *document) time(servers []string) {
	if len(servers) == 0 {
		return
	}
	var b strings.Builder
	for _, s := range servers {
		fmt.Fprintf(&b, "server %s iburst\n", s)
	}
	// A machine whose clock battery died must not wait hours for the clock to
	// be slewed: step it during the first three measurements.
	b.WriteString("driftfile /var/lib/chrony/drift\nmakestep 1.0 3\nrtcsync\nlogdir /var/log/chrony\n")
	// The same file twice: Fedora and Debian disagree on the place, and Debian's
	// AppArmor profile does not follow a link out of /etc/chrony.
	d.file("/etc/chrony.conf", 0o644, b.String())
	d.file("/etc/chrony/chrony.conf", 0o644, b.String())
}

// logins gives the site's keys to user core. Images of CoreOS shape bring that
// user in a base config, with which Ignition merges this one.
func (d *document) logins(keys []string) {
	if len(keys) == 0 {
		return
	}
	user := types.PasswdUser{Name: "core", Groups: []types.Group{"sudo"}}
	seen := map[string]bool{}
	for _, key := range keys {
		key = strings.TrimSpace(key)
		if !seen[key] {
			user.SSHAuthorizedKeys = append(user.SSHAuthorizedKeys, types.SSHAuthorizedKey(key))
		}
		seen[key] = true
	}
	d.config.Passwd.Users = append(d.config.Passwd.Users, user)
}

// trustUnit runs the system's own tool for trusted certificates, before
// anything uses the network.
const trustUnit = `[Unit]
Description=Trust the certificate authorities of the metalrise site
Documentation=man:update-ca-trust(8) man:update-ca-certificates(8)
Wants=network-pre.target
Before=network-pre.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'if command -v update-ca-trust >/dev/null; then exec update-ca-trust extract; fi; exec update-ca-certificates'

[Install]
WantedBy=multi-user.target
`

// trust adds the site's authorities, one file each, where Fedora's and Debian's
// tools look for them. The texts were checked before.
func (d *document) trust(texts []string) {
	n := 0
	for _, text := range texts {
		each, _ := certificates(text)
		for _, certificate := range each {
			n++
			name := fmt.Sprintf("metalrise-%d.crt", n)
			d.file("/etc/pki/ca-trust/source/anchors/"+name, 0o644, certificate)
			d.file("/usr/local/share/ca-certificates/"+name, 0o644, certificate)
		}
	}
	if n > 0 {
		d.unit("metalrise-trust.service", trustUnit, true)
	}
}

// node is the content of /etc/metalrise/node.json: what a node knows of itself.
type node struct {
	Site     string            `json:"site,omitempty"`
	Plan     string            `json:"plan,omitempty"`
	Server   fleet.ServerID    `json:"server"`
	Node     string            `json:"node,omitempty"` // name in the cluster
	Hostname string            `json:"hostname"`
	Role     fleet.Role        `json:"role"`
	Profile  fleet.Profile     `json:"profile"`
	Labels   map[string]string `json:"labels"` // wanted on the Kubernetes node
	Taints   []fleet.Taint     `json:"taints,omitempty"`
}

func (d *document) nodeFile(a fleet.Assignment, site, plan string) error {
	n := node{Site: site, Plan: plan, Server: a.Server, Hostname: a.Hostname, Role: a.Role, Profile: a.Hypervisor.Profile, Labels: labels(a)}
	if a.Node != nil {
		n.Node, n.Labels, n.Taints = a.Node.Name, a.Node.Labels, a.Node.Taints
	}
	raw, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return fmt.Errorf("write node.json: %w", err)
	}
	d.file("/etc/metalrise/node.json", 0o644, string(raw)+"\n")
	return nil
}

// labels is where roles differ without a cluster's plan: who carries the control
// plane, and who takes virtual machines.
func labels(a fleet.Assignment) map[string]string {
	const controlPlane, worker = "node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/worker"
	out := map[string]string{"metalrise.dev/profile": string(a.Hypervisor.Profile)}
	switch a.Role {
	case fleet.ControlPlane:
		out[controlPlane] = ""
	case fleet.Worker:
		out[worker] = ""
	case fleet.SingleNode:
		out[controlPlane], out[worker] = "", ""
	}
	return out
}
