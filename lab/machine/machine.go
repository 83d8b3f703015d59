// Package machine is the hardware of a lab server: what stands behind an
// emulated BMC and really boots what it is given.
//
// Two kinds exist with one behaviour, held by the conformance suite in
// machinetest: lab/machine/qemu (a full virtual machine) and
// lab/machine/container (Linux namespaces with their own disk files).
// lab/machine/fake is a third for benchmarks of many servers; it boots nothing.
//
// A machine never decides what to boot and never keeps a power state: both
// belong to the BMC in front of it (lab/redfish).
package machine

import (
	"context"
	"fmt"
	"io"
)

// Kind names a way to build a machine.
type Kind string

const (
	QEMU      Kind = "qemu"
	Container Kind = "container"
	Fake      Kind = "fake"
)

// Spec is everything that makes one machine: its identity and its parts.
// A machine keeps its files (disks, firmware variables) in Dir.
type Spec struct {
	Name     string `json:"name"`     // short and unique in the lab: "n1"
	UUID     string `json:"uuid"`     // SMBIOS system UUID, lower case, RFC 4122 form
	Serial   string `json:"serial"`   // SMBIOS system serial number
	Vendor   string `json:"vendor"`   // SMBIOS manufacturer
	Model    string `json:"model"`    // SMBIOS product name
	Firmware string `json:"firmware"` // "uefi" or "bios"
	CPUs     int    `json:"cpus"`
	// MemoryMiB is the memory of a qemu machine and the memory limit of a container one.
	MemoryMiB int    `json:"memoryMiB"`
	Disks     []Disk `json:"disks"`
	NICs      []NIC  `json:"nics"`
	Dir       string `json:"dir"`
}

// Disk is one disk: a sparse raw file with a stable identity, as the booted
// system and the BMC both see it.
type Disk struct {
	Name      string `json:"name"`      // file name in Spec.Dir without ".raw": "disk0"
	Serial    string `json:"serial"`    // unit serial number, at most 20 characters
	WWN       string `json:"wwn"`       // NAA identifier, 16 lower-case hexadecimal digits, no prefix
	Model     string `json:"model"`     // at most 16 characters (SCSI product identification)
	SizeBytes int64  `json:"sizeBytes"` // a multiple of 1 MiB
	Rotating  bool   `json:"rotating"`
}

// NIC is one network interface, attached to a Linux bridge of the host.
type NIC struct {
	MAC    string `json:"mac"`    // lower case, colons
	Bridge string `json:"bridge"` // the bridge to join; "" leaves the link down
}

// BootKind says where a machine boots from.
type BootKind string

const (
	FromMedia BootKind = "media" // the ISO file in BootSource.ISO, inserted as an optical drive
	FromDisk  BootKind = "disk"  // the first disk with a boot loader, in Spec.Disks order
	FromNet   BootKind = "net"   // the first NIC, by the firmware's own means; see NetBooter
)

// BootSource is one answer of the BMC to "what do I boot?".
// ISO may be set with FromDisk too: the medium is inserted but not booted.
type BootSource struct {
	Kind BootKind
	ISO  string
}

// Stop says why a machine stopped running.
type Stop string

const (
	Rebooted   Stop = "rebooted"    // the system asked for a reset; ask the BMC again what to boot
	PoweredOff Stop = "powered off" // the system switched itself off
	Killed     Stop = "killed"      // the context ended: power was cut
	NotBooted  Stop = "not booted"  // firmware found nothing bootable; it sits at its prompt until power is cut
)

// Hardware is one machine.
type Hardware interface {
	// Boot powers the machine and runs it from the given source until it stops,
	// and says why. Cutting the context is pulling the plug: nothing is flushed
	// beyond what the machine itself had flushed, and everything of the run
	// (processes, mounts, loop devices, network devices, cgroups) is gone when
	// Boot returns. A NotBooted machine returns at once with that reason.
	// Boot must not be called again before it returned. Console output, as a
	// serial line would carry it, goes to console. An error is a fault of the
	// lab, never of what was booted.
	Boot(ctx context.Context, from BootSource, console io.Writer) (Stop, error)

	// Shutdown asks the running system to power off by itself (ACPI button).
	// It returns once the wish is delivered; Boot returns when it happened.
	Shutdown(ctx context.Context) error

	// Clean removes what earlier runs that were killed from outside (kill -9 of
	// the lab) may have left. It is safe to call at any time while not booted.
	Clean(ctx context.Context) error
}

// NetBooter is hardware whose firmware boots from the network too. What the
// firmware does when nobody answers there is its own business: it may go on with a
// disk or sit at its prompt.
type NetBooter interface{ BootsFromNet() }

// Check reports what makes a Spec unusable, all of it at once.
func (s Spec) Check() error {
	var wrong []string
	add := func(f string, a ...any) { wrong = append(wrong, fmt.Sprintf(f, a...)) }
	if s.Name == "" || len(s.Name) > 8 {
		add("name %q: 1 to 8 characters (it becomes part of interface names)", s.Name)
	}
	if s.Firmware != "uefi" && s.Firmware != "bios" {
		add("firmware %q: want uefi or bios", s.Firmware)
	}
	if s.Dir == "" {
		add("dir: missing")
	}
	if s.CPUs < 1 || s.MemoryMiB < 256 {
		add("cpus %d, memoryMiB %d: want at least 1 and 256", s.CPUs, s.MemoryMiB)
	}
	for i, d := range s.Disks {
		if d.Name == "" || d.Serial == "" || len(d.Serial) > 20 || len(d.WWN) != 16 || d.SizeBytes <= 0 || d.SizeBytes%(1<<20) != 0 {
			add("disks[%d] %+v: want name, serial (1 to 20), wwn (16 digits), size in whole MiB", i, d)
		}
	}
	for i, n := range s.NICs {
		if len(n.MAC) != 17 {
			add("nics[%d].mac %q: want aa:bb:cc:dd:ee:ff", i, n.MAC)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("machine %s: %v", s.Name, wrong)
	}
	return nil
}
