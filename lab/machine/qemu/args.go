package qemu

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"metalrise.dev/lab/machine"
)

// Firmware files of Debian's ovmf package.
const (
	ovmfCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	ovmfVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// Slots of the PCI root bus. They are fixed, so that the booted system names a
// link the same whatever else is plugged in.
const (
	slotSCSI     = 0x04
	slotRNG      = 0x05
	slotFirstNIC = 0x10
)

// arguments are QEMU's for one run. The monitor and the taps are file
// descriptors: tapFDs has one for each NIC, or -1 for one without a bridge.
// order lists the disks to boot, by their index.
func (m *Machine) arguments(from machine.BootSource, order []int, monitorFD int, tapFDs []int) []string {
	s := m.spec
	args := []string{
		"-name", s.Name, "-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none",
		// a reset ends the run: the BMC decides what boots next
		"-no-reboot", "-S",
		"-smp", strconv.Itoa(s.CPUs), "-m", strconv.Itoa(s.MemoryMiB), "-rtc", "base=" + m.clock(time.Now()),
		"-uuid", s.UUID,
		"-smbios", "type=1," + options("manufacturer", s.Vendor, "product", s.Model, "serial", s.Serial, "uuid", s.UUID),
		"-chardev", "socket,id=monitor,fd=" + strconv.Itoa(monitorFD), "-mon", "chardev=monitor,mode=control",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-device", fmt.Sprintf("virtio-rng-pci,addr=%#x", slotRNG),
		"-device", fmt.Sprintf("virtio-scsi-pci,id=scsi,addr=%#x", slotSCSI),
		// nothing without a boot index is ever booted
		"-boot", "strict=on",
	}
	if m.KVM {
		args = append(args, "-accel", "kvm", "-cpu", "host")
	} else {
		// an AMD processor, because software emulation has SVM and not VMX: with it
		// the booted system has a /dev/kvm of its own
		args = append(args, "-accel", "tcg,thread=multi", "-cpu", emulatedCPU)
	}
	if s.Firmware == "uefi" {
		args = append(args,
			"-drive", "if=pflash,unit=0,readonly=on,"+options("format", "raw", "file", ovmfCode),
			"-drive", "if=pflash,unit=1,"+options("format", "raw", "file", m.varsPath()))
	}
	return append(append(args, m.driveArguments(from, order)...), m.nicArguments(from, tapFDs)...)
}

// clock is the time of the machine's clock at power-on, as QEMU wants it: a date
// is taken for UTC.
func (m *Machine) clock(now time.Time) string {
	if m.Clock == 0 {
		return "utc"
	}
	return now.Add(m.Clock).UTC().Format("2006-01-02T15:04:05")
}

// emulatedCPU is the processor of a software-emulated machine.
const emulatedCPU = "EPYC"

func (m *Machine) driveArguments(from machine.BootSource, order []int) []string {
	var args []string
	if from.ISO != "" {
		device := "scsi-cd,bus=scsi.0,scsi-id=0,drive=medium"
		if from.Kind == machine.FromMedia {
			device += ",bootindex=1"
		}
		args = append(args, "-drive", "if=none,id=medium,media=cdrom,readonly=on,"+options("format", "raw", "file", from.ISO), "-device", device)
	}
	for i, d := range m.spec.Disks {
		id := "disk" + strconv.Itoa(i)
		rate := "1" // SBC-4 6.6.5 (block device characteristics): not a rotating medium
		if d.Rotating {
			rate = "7200"
		}
		index := ""
		if place := slices.Index(order, i); from.Kind != machine.FromMedia && place >= 0 {
			first := 1
			if from.Kind == machine.FromNet {
				first = 2
			}
			index = strconv.Itoa(first + place)
		}
		// cache=unsafe leaves the host's page cache to keep what the machine wrote:
		// killing QEMU loses what was in the machine's memory and nothing else, as
		// pulling its plug would, and no flush waits for the host's disk
		args = append(args,
			"-drive", "if=none,cache=unsafe,discard=unmap,detect-zeroes=unmap,"+options("id", id, "format", "raw", "file", m.diskPath(d)),
			"-device", "scsi-hd,bus=scsi.0,scsi-id="+strconv.Itoa(i+1)+","+options("drive", id, "serial", d.Serial, "product", d.Model,
				"wwn", "0x"+d.WWN, "rotation_rate", rate, "bootindex", index))
	}
	return args
}

func (m *Machine) nicArguments(from machine.BootSource, tapFDs []int) []string {
	var args []string
	for i, n := range m.spec.NICs {
		id := netdev(i)
		if tapFDs[i] >= 0 {
			args = append(args, "-netdev", fmt.Sprintf("tap,id=%s,fd=%d", id, tapFDs[i]))
		} else {
			args = append(args, "-netdev", fmt.Sprintf("hubport,id=%s,hubid=%d", id, i))
		}
		rom, boots := "romfile=,", from.Kind == machine.FromNet && i == 0
		if boots && m.spec.Firmware == "bios" { // UEFI has a network stack of its own; a BIOS needs the card's boot ROM
			rom = ""
		}
		if boots {
			rom += "bootindex=1,"
		}
		args = append(args, "-device", fmt.Sprintf("virtio-net-pci,id=%s,netdev=%s,mac=%s,%saddr=%#x", nicID(i), id, n.MAC, rom, slotFirstNIC+i))
	}
	return args
}

func netdev(i int) string { return "net" + strconv.Itoa(i) }
func nicID(i int) string  { return "nic" + strconv.Itoa(i) }

// options joins names and values as QEMU's option syntax wants them: a comma in
// a value is written twice. Empty values are left out.
func options(pairs ...string) string {
	var out []string
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, pairs[i]+"="+strings.ReplaceAll(pairs[i+1], ",", ",,"))
		}
	}
	return strings.Join(out, ",")
}

func (m *Machine) varsPath() string { return filepath.Join(m.spec.Dir, "firmware-vars.fd") }
func (m *Machine) pidPath() string  { return filepath.Join(m.spec.Dir, "qemu.pid") }
func (m *Machine) diskPath(d machine.Disk) string {
	return filepath.Join(m.spec.Dir, d.Name+".raw")
}
