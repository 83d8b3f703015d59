package lab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	siteFile     = "site.yaml"
	passwordFile = "bmc-password"
	username     = "admin"
	vmPort       = "ens4" // what a container machine calls its second port
)

// SiteName is the name of the site that a lab's site file describes. Labs never
// take the name, and with it the state, of a site that is not one.
func (c Config) SiteName() string {
	if c.Name == "lab" || strings.HasPrefix(c.Name, "lab-") {
		return c.Name
	}
	return "lab-" + c.Name
}

// SitePath is the site file of the lab in this folder.
func (c Config) SitePath() string { return filepath.Join(c.Dir, siteFile) }

// password reads the BMCs' password or makes one.
func (c Config) password() (string, error) {
	path := filepath.Join(c.Dir, passwordFile)
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("lab %s: BMC password: %w", c.Name, err)
	}
	p := rand.Text()
	return p, c.write(passwordFile, []byte(p+"\n"), 0o600)
}

// site is the text of the site file. addresses are those of the BMCs with their
// ports, in the order of the servers.
func (c Config) site(addresses []string) string {
	var b strings.Builder
	line := func(f string, a ...any) { fmt.Fprintf(&b, f+"\n", a...) }
	line("# The site of the lab %s. metalrise lab up writes it anew each time.", c.Name)
	line("apiVersion: metalrise.dev/v1alpha1")
	line("kind: Site")
	line("name: %s", c.SiteName())
	line("")
	line("bmcs:")
	line("  addresses:")
	for _, a := range c.ranges(addresses) {
		line("    - %s", strconv.Quote(a))
	}
	if c.BMCPort != 0 && c.BMCPort != 443 {
		line("  port: %d", c.BMCPort)
	}
	line("  username: %s", username)
	line("  password:")
	line("    file: %s", passwordFile)
	line("")
	line("network:")
	line("  firstAddress: %s/%d", c.host(firstServer), c.Network.Bits())
	line("  gateway: %s", c.host(1))
	line("")
	line("image: %s", strconv.Quote(c.ImageDir))
	c.cluster(line)
	return b.String()
}

// cluster writes what the site wants of a cluster, if anything.
func (c Config) cluster(line func(f string, a ...any)) {
	if c.Servers != 2 && c.Software == "" {
		return
	}
	line("\ncluster:")
	if c.Servers == 2 {
		line("  controlPlanes: 1")
	}
	if c.Software == "" {
		return
	}
	line("  software: %s", strconv.Quote(c.Software))
	if c.Servers > 2 {
		line("  vip: %s", c.host(virtualIP))
	}
	line("\n# Machines of a lab often have no KVM of their own; their VMs are then emulated.")
	line("virtualization:")
	line("  emulation: true")
	c.platform(line)
}

// platform writes what the site wants of a VM platform beyond its defaults.
func (c Config) platform(line func(f string, a ...any)) {
	if c.StorageClass == "" && !c.VMNetwork {
		return
	}
	line("\nplatform:")
	if c.StorageClass != "" {
		line("  # As a site would name its storage's own CSI driver; this one is for tests.")
		line("  components: [csi-driver]")
		line("  storage: {class: %s, snapshots: %s}", c.StorageClass, c.StorageClass)
	}
	if c.VMNetwork {
		line("  # The second port of each server is for VMs.")
		line("  networks:")
		line("    - {name: vms, bridge: br-vm, port: %s, subnet: 198.19.%d.0/24}", vmPort, c.block())
		if c.Servers > 2 {
			line("  migrationNetwork: vms")
		}
	}
}

// ranges is the shortest way to write the addresses: one range where they share
// a port, else each with its own.
func (c Config) ranges(addresses []string) []string {
	switch {
	case c.BMCPort == 0:
		return addresses
	case c.Servers == 1:
		return []string{c.bmcAddress(1).String()}
	}
	return []string{fmt.Sprintf("%s-%d", c.bmcAddress(1), firstBMC+c.Servers-1)}
}
