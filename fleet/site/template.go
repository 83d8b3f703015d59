package site

import (
	"fmt"
	"strings"

	"metalrise.dev/fleet"
)

// New writes a first site file for people to fill in. It is valid as it is, but
// its addresses are those kept for documentation (RFC 5737), which lead nowhere.
func New(name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, invalid(err, "new site file")
	}
	return []byte(strings.NewReplacer("NAME", name, "VERSION", fleet.APIVersion).Replace(template)), nil
}

// Typed values of the template: name, addresses, username, password file,
// firstAddress, gateway, dns, image, sshKeys.
const template = `# What you want of one cluster in one place. Correct the values below; lines that
# begin with # show what else there is. docs/site.md explains every field, and
# ` + "`metalrise plan`" + ` tells everything that is wrong at once.
apiVersion: VERSION
kind: Site

# Part of every host name: NAME-cp1, NAME-w1 ...
name: NAME

# Where the servers' BMCs answer. Single addresses, ranges (192.0.2.11-15),
# prefixes (192.0.2.0/28) and DNS names; their order is the order of the servers.
bmcs:
  addresses:
    - 192.0.2.11-15
  username: admin
  # A file that holds the password and nothing else (mode 0600), or env: VARIABLE.
  password:
    file: bmc-password

# The servers' network in the installed system.
network:
  # The first server's address; the others count up.
  firstAddress: 198.51.100.21/24
  gateway: 198.51.100.1
  dns:
    - 198.51.100.2
  # ntp: [198.51.100.3]
  # vlan: 12
  # mtu: 9000
  # bond: active-backup

# Folder or stream file of the operating system release.
image: image

# Who may log in to the servers as user core: lines of an authorized_keys file.
access:
  sshKeys: []

# Kubernetes on the servers. Without software they are installed and that is all;
# several control planes need a vip or loadBalancer.
# cluster:
#   software: software
#   vip: 198.51.100.20
#   controlPlanes: 3
#   domain: example.org

# disks:
#   minSizeGiB: 200
#   media: ssd

# virtualization:
#   profile: passthrough
#   hugepagesGiB: 64
#   dedicatedCPUs: true

# The VM platform comes with software that has KubeVirt. Left out, all of it is
# installed and proven.
# platform:
#   networks:
#     - {name: tenants, bridge: br-vm, port: eno2, vlan: 20}
#   storage: {class: ceph-block, shared: true}
#   none: true

# What you insist on for single servers, named by serial or uuid.
# servers:
#   - serial: CZ3210ABCD
#     role: excluded
`

// Describe gives the sentence of the documentation about a field, for prompts
// and help: "network.vlan", "servers[].role". It is "" for unknown fields.
func Describe(path string) string {
	f, ok := fieldTable()[path]
	if !ok {
		return ""
	}
	if f.byDef != "" {
		return fmt.Sprintf("%s Default: %s.", f.text, f.byDef)
	}
	return f.text
}
