package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/redfish"
)

// MostServers is how many servers one lab holds: its network is a /24, and the
// BMCs and servers each get a range of it.
const MostServers = 200

// mostDisks keeps names, sizes and serials of one digit.
const mostDisks = 9

// Config is everything that makes a lab. It is kept in the lab's folder so that
// the lab comes back as it was.
type Config struct {
	Name    string       `json:"name"` // lower-case letters, digits, dashes
	Dir     string       `json:"dir"`
	Servers int          `json:"servers"` // 1 to MostServers
	Machine machine.Kind `json:"machine"`
	// Firmware is "uefi" or "bios".
	Firmware    string `json:"firmware"`
	Disks       int    `json:"disks"`              // of each server, 1 to 9
	Personality string `json:"personality"`        // of the BMCs, as redfish.ParsePersonality reads it
	ImageDir    string `json:"imageDir"`           // folder with stream.json, for the site file
	Ignition    string `json:"ignition"`           // the Ignition program; container machines need it
	Software    string `json:"software,omitempty"` // folder with payload.json, for the site file; "": no cluster
	// VMNetwork plugs the second port of each server into a network of its own,
	// for VMs, and the site file asks for a bridge on it. Container machines only.
	VMNetwork bool `json:"vmNetwork,omitempty"`
	// StorageClass is that of the CSI driver in Software, which takes snapshots by a
	// class of the same name; the site file asks for it. "": local storage.
	StorageClass string `json:"storageClass,omitempty"`
	BMCPort      int    `json:"bmcPort"`   // the same for all; 0 takes any free one
	MemoryMiB    int    `json:"memoryMiB"` // of each server; 0: 2048
	// Network is the bridge's network; its first address is the host's. The zero
	// value has Start take one of a few that the name decides.
	Network netip.Prefix   `json:"network,omitzero"`
	Delays  redfish.Delays `json:"delays"`
	// Clock is how far the machines' clocks are from the host's at each power-on.
	// Only qemu machines have clocks of their own.
	Clock Offset `json:"clock,omitempty"`
	// Swaps counts how often the install disk of a server was swapped, by the
	// server's name.
	Swaps map[string]int `json:"swaps,omitempty"`
}

// Offset is a duration that is kept as people write it: "-2h0m0s".
type Offset time.Duration

func (o Offset) String() string { return time.Duration(o).String() }

// MarshalText implements encoding.TextMarshaler.
func (o Offset) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *Offset) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	*o = Offset(d)
	return err
}

// DefaultDelays are short, yet long enough that clients meet the states in between.
func DefaultDelays() redfish.Delays {
	return redfish.Delays{PowerOn: 500 * time.Millisecond, PowerOff: 500 * time.Millisecond, POST: time.Second}
}

var goodName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,19}$`)

// Check reports what makes a Config unusable, all of it at once.
func (c Config) Check() error {
	var wrong []error
	add := func(bad bool, f string, a ...any) {
		if bad {
			wrong = append(wrong, fmt.Errorf(f, a...))
		}
	}
	add(!goodName.MatchString(c.Name), "name %q: want a lower-case letter, then at most 19 letters, digits or dashes", c.Name)
	add(c.Dir == "", "dir: missing")
	add(c.Servers < 1 || c.Servers > MostServers, "servers %d: want 1 to %d", c.Servers, MostServers)
	add(c.Disks < 1 || c.Disks > mostDisks, "disks %d: want 1 to %d", c.Disks, mostDisks)
	add(c.Firmware != "uefi" && c.Firmware != "bios", "firmware %q: want uefi or bios", c.Firmware)
	add(c.BMCPort < 0 || c.BMCPort > 65535, "BMC port %d: want 1 to 65535", c.BMCPort)
	add(c.MemoryMiB != 0 && c.MemoryMiB < 256, "memory %d MiB: want at least 256", c.MemoryMiB)
	switch c.Machine {
	case machine.QEMU, machine.Fake:
	case machine.Container:
		add(c.Ignition == "", "container machines need the Ignition program")
	default:
		add(true, "machine %q: want %s or %s", c.Machine, machine.Container, machine.QEMU)
	}
	add(c.Clock != 0 && c.Machine != machine.QEMU, "clock %s: machines of kind %s run with the host's clock; only %s ones have their own", c.Clock, c.Machine, machine.QEMU)
	add(c.VMNetwork && c.Machine == machine.QEMU, "VM network: only machines of kind %s have a port for it", machine.Container)
	if _, err := redfish.ParsePersonality(c.Personality); err != nil {
		wrong = append(wrong, err)
	}
	add(c.Network.IsValid() && !(c.Network.Addr().Is4() && c.Network.Bits() == 24), "network %s: want an IPv4 prefix of 24 bits", c.Network)
	if err := errors.Join(wrong...); err != nil {
		return fmt.Errorf("lab %s: %w", c.Name, err)
	}
	return nil
}

// defaultMemoryMiB is what the product asks of a host at least. It is a limit,
// not a reservation: container machines use some 100 MiB of it, qemu ones what
// their system touches.
const defaultMemoryMiB = 2048

func (c Config) memory() int {
	if c.MemoryMiB > 0 {
		return c.MemoryMiB
	}
	return defaultMemoryMiB
}

const configFile = "lab.json"

// ReadConfig reads the configuration of the lab in dir. The error is
// os.ErrNotExist where none is.
func ReadConfig(dir string) (Config, error) {
	var c Config
	b, err := os.ReadFile(filepath.Join(dir, configFile))
	if err != nil {
		return c, fmt.Errorf("read lab: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("read lab: %s: %w", filepath.Join(dir, configFile), err)
	}
	// The folder may have been moved; what counts is where it is now.
	if c.Dir, err = filepath.Abs(dir); err != nil {
		return c, fmt.Errorf("read lab: %w", err)
	}
	return c, c.Check()
}

// Save writes the configuration into the lab's folder, which it makes.
func (c Config) Save() error {
	if err := c.Check(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("lab %s: %w", c.Name, err)
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("lab %s: %w", c.Name, err)
	}
	return c.write(configFile, append(b, '\n'), 0o600)
}

// write replaces one file of the lab's folder as a whole.
func (c Config) write(name string, b []byte, mode os.FileMode) error {
	path := filepath.Join(c.Dir, name)
	temp := path + ".new"
	if err := os.WriteFile(temp, b, mode); err != nil {
		return fmt.Errorf("lab %s: %w", c.Name, err)
	}
	if err := errors.Join(os.Chmod(temp, mode), os.Rename(temp, path)); err != nil {
		return fmt.Errorf("lab %s: %w", c.Name, err)
	}
	return nil
}
