package fleet

import (
	"strconv"
	"time"
)

// Source says who saw a set of facts.
type Source string

const (
	SeenByBMC   Source = "bmc"   // out-of-band inspection
	SeenByAgent Source = "agent" // in-band inspection by the agent on the machine
)

// Facts is what was seen of one server. Fields nobody could read are unknown.
// Bad fields cost that field only: Problems says which and why.
type Facts struct {
	Source   Source    `json:"source"`
	At       time.Time `json:"at"`
	Identity Identity  `json:"identity"`

	Manufacturer Maybe[string]     `json:"manufacturer"`
	Model        Maybe[string]     `json:"model"`
	SKU          Maybe[string]     `json:"sku"`
	BIOSVersion  Maybe[string]     `json:"biosVersion"`
	BMCFirmware  Maybe[string]     `json:"bmcFirmware"`
	Power        Maybe[PowerState] `json:"powerState"`
	BootMode     Maybe[string]     `json:"bootMode"` // "uefi" or "bios"
	SecureBoot   Maybe[bool]       `json:"secureBoot"`
	TPM          Maybe[string]     `json:"tpm"` // for example "TPM2_0"
	CPU          CPU               `json:"cpu"`
	MemoryMiB    Maybe[int64]      `json:"memoryMiB"`
	NICs         []NIC             `json:"nics"`  // nil: nobody could read them
	Disks        []Disk            `json:"disks"` // nil: nobody could read them

	// Known to the BMC only.
	SystemURI     string         `json:"systemURI,omitempty"`
	TPMEnabled    Maybe[bool]    `json:"tpmEnabled,omitzero"`
	MemoryModules []MemoryModule `json:"memoryModules,omitempty"` // filled sockets only
	Volumes       []Volume       `json:"volumes,omitempty"`
	VirtualMedia  []MediaSlot    `json:"virtualMedia,omitempty"`
	ResetTypes    []string       `json:"resetTypes,omitempty"`
	BootTargets   []string       `json:"bootTargets,omitempty"`
	BIOSSettings  []BIOSSetting  `json:"biosSettings,omitempty"`
	// Sources says from which URI a fact came that has no source of its own, by
	// the name of its field in JSON.
	Sources map[string]string `json:"sources,omitempty"`

	// Known to the agent only.
	Clock Maybe[time.Time] `json:"clock,omitzero"`
	KVM   Maybe[KVM]       `json:"kvm,omitzero"`
	OS    Maybe[string]    `json:"os,omitzero"` // pretty name of the running system

	// Known to the agent of an installed system only.
	Runtime Maybe[NodeRuntime] `json:"runtime,omitzero"`

	Problems []Problem `json:"problems,omitempty"`
}

// Problem is one thing that could not be read, and where.
type Problem struct {
	Path string `json:"path"` // URI and field, or file
	Text string `json:"text"`
}

// PowerState is the power of a server as its BMC reports it.
type PowerState string

const (
	PowerOn     PowerState = "on"
	PowerOff    PowerState = "off"
	PoweringOn  PowerState = "powering on"
	PoweringOff PowerState = "powering off"
	PowerPaused PowerState = "paused"
	PowerOther  PowerState = "other" // the BMC said a word nobody knows
)

// CPU sums up the processors of a server.
type CPU struct {
	Sockets Maybe[int]    `json:"sockets"`
	Cores   Maybe[int]    `json:"cores"`   // all sockets
	Threads Maybe[int]    `json:"threads"` // all sockets
	Model   Maybe[string] `json:"model"`
	// Virtualization tells whether the processor offers it: flags vmx or svm,
	// seen by the agent, or a BIOS attribute, seen by the BMC.
	Virtualization Maybe[bool] `json:"virtualization"`
	Flags          []string    `json:"flags,omitempty"` // of those that matter to hypervisors, sorted
}

// NIC is one network port.
type NIC struct {
	MAC       string      `json:"mac"`                    // in use; lower case, colons
	Permanent string      `json:"permanentMAC,omitempty"` // burnt in, where it is another one
	Name      string      `json:"name,omitempty"`         // as the source calls it
	Link      Maybe[bool] `json:"link"`
	SpeedMbps Maybe[int]  `json:"speedMbps"`
	Driver    string      `json:"driver,omitempty"`
	Source    string      `json:"source"` // URI or path it was read from
}

// Disk is one disk that could hold an operating system.
type Disk struct {
	Serial    string       `json:"serial"` // "" when unknown
	WWN       string       `json:"wwn"`    // lower-case hexadecimal without prefix; "" when unknown
	Model     string       `json:"model,omitempty"`
	SizeBytes Maybe[int64] `json:"sizeBytes"`
	Media     MediaKind    `json:"media"`
	Protocol  string       `json:"protocol,omitempty"` // "SAS", "SATA", "NVMe", …
	Removable bool         `json:"removable,omitempty"`
	Hidden    string       `json:"hidden,omitempty"` // why the system does not see it; "" when nothing says so
	Source    string       `json:"source"`           // URI or device path it was read from

	// Contents names what the agent found on the disk ("partition table gpt",
	// "ext4 label boot", "LVM physical volume"). Nil means nobody looked.
	Contents []string `json:"contents,omitempty"`
	// Members are those of the contents that belong to something larger: a pool,
	// an array, a cluster's store.
	Members []string `json:"members,omitempty"`
	// Owner is the site that installed this disk before, as its marker says.
	Owner string `json:"owner,omitempty"`
}

// Foreign lists what on a disk belongs to somebody who would miss it: a member
// of something larger than the disk, or a system that another site installed.
// Plain partitions and file systems are not foreign: the consent to erase was
// given for them.
func Foreign(site string, d Disk) []string {
	out := append([]string(nil), d.Members...)
	if d.Owner != "" {
		if d.Owner == site {
			return nil
		}
		out = append(out, "a system installed for site "+d.Owner)
	}
	return out
}

// GivenUp tells whether a person named this disk as one whose foreign data may
// go: by serial, or by WWN where it has no serial.
func GivenUp(named string, d Disk) bool {
	if d.Serial != "" {
		return named == d.Serial
	}
	return named != "" && named == d.WWN
}

// Volume is what a storage controller shows to the system in place of drives.
type Volume struct {
	URI       string       `json:"uri"`
	Name      string       `json:"name,omitempty"`
	RAID      string       `json:"raid"` // "RAID1", "Mirrored", … as told; "" when it stands for one drive as it is
	WWN       string       `json:"wwn,omitempty"`
	SizeBytes Maybe[int64] `json:"sizeBytes"`
	Disks     []string     `json:"disks"` // URIs of its drives
}

// MemoryModule is one module that is plugged in.
type MemoryModule struct {
	Name    string       `json:"name"`
	SizeMiB Maybe[int64] `json:"sizeMiB"`
	Source  string       `json:"source"`
}

// BIOSFeature is something the firmware must switch on for virtual machines.
type BIOSFeature string

const (
	FeatureVTx   BIOSFeature = "vt-x"
	FeatureAMDV  BIOSFeature = "amd-v"
	FeatureIOMMU BIOSFeature = "vt-d" // or AMD-Vi, or an Arm SMMU
	FeatureSRIOV BIOSFeature = "sr-iov"
)

// BIOSSetting is one firmware attribute that governs such a feature.
type BIOSSetting struct {
	Feature BIOSFeature `json:"feature"`
	Name    string      `json:"name"`            // the vendor's, as it must be written
	Label   string      `json:"label,omitempty"` // what the vendor's registry calls it, where the name is a code
	Value   string      `json:"value"`           // as told
	On      Maybe[bool] `json:"on"`              // unknown for "Auto" and the like
	Source  string      `json:"source"`
}

// MediaKind is what a disk is made of.
type MediaKind string

const (
	MediaUnknown MediaKind = "unknown"
	MediaHDD     MediaKind = "hdd"
	MediaSSD     MediaKind = "ssd"
)

// MediaSlot is one virtual drive of a BMC.
type MediaSlot struct {
	URI        string   `json:"uri"`
	MediaTypes []string `json:"mediaTypes"`
	How        string   `json:"how"` // "action", "patch" or why it cannot be used
}

// KVM is what the agent saw of the kernel's hypervisor, and whether it works.
type KVM struct {
	Modules []string `json:"modules"` // of kvm, kvm_intel, kvm_amd, vhost_net, tun: those present in the kernel
	Device  bool     `json:"device"`  // /dev/kvm can be opened
	Usable  bool     `json:"usable"`  // a virtual machine could be created through it
	Why     string   `json:"why"`     // why it is not usable; "" when it is

	// What VMs need besides, as the installed system shows it.
	VhostNet Maybe[bool] `json:"vhostNet,omitzero"` // /dev/vhost-net can be opened
	Tun      Maybe[bool] `json:"tun,omitzero"`      // /dev/net/tun can be opened
	Flag     string      `json:"flag,omitempty"`    // "vmx" or "svm", where the processor shows it
}

// DiskRef names one disk without doubt: by WWN, serial or both, with its size
// as a cross-check. Device names and paths never appear here.
type DiskRef struct {
	WWN       string `json:"wwn,omitempty"`
	Serial    string `json:"serial,omitempty"`
	SizeBytes int64  `json:"sizeBytes"` // 0 when it was unknown at planning
	Model     string `json:"model,omitempty"`
}

// Match tells whether d is the disk that r names: every part known to both is
// equal and WWN or serial was among them.
func (r DiskRef) Match(d Disk) bool {
	stable := false
	if r.WWN != "" && d.WWN != "" {
		switch {
		case r.WWN == d.WWN:
			stable = true
		case !mayBeOne(r.WWN, d.WWN) || r.Serial == "" || r.Serial != d.Serial:
			return false
		}
	}
	if r.Serial != "" && d.Serial != "" {
		if r.Serial != d.Serial {
			return false
		}
		stable = true
	}
	if size, ok := d.SizeBytes.Get(); ok && r.SizeBytes != 0 && size != r.SizeBytes {
		return false
	}
	return stable
}

// mayBeOne tells whether two different world-wide names can be names of one
// disk, so that the serial decides. A BMC and the system do not always speak of
// the same name: an NVMe namespace may have an EUI of 8 bytes and an NGUID of 16;
// and for a SAS drive a BMC may tell the address of one of its ports, which
// differs from the name of the drive in the lowest two bits only (SAS drives
// have an NAA type 5 name for the drive and one for each of two ports).
func mayBeOne(a, b string) bool {
	if len(a) != len(b) {
		return true
	}
	if len(a) != 16 || a[0] != '5' || a[:15] != b[:15] {
		return false
	}
	x, errX := strconv.ParseUint(a[15:], 16, 8)
	y, errY := strconv.ParseUint(b[15:], 16, 8)
	return errX == nil && errY == nil && x>>2 == y>>2
}

// String is how people are shown the disk.
func (r DiskRef) String() string {
	switch {
	case r.Serial != "" && r.WWN != "":
		return "serial " + r.Serial + " (wwn " + r.WWN + ")"
	case r.Serial != "":
		return "serial " + r.Serial
	case r.WWN != "":
		return "wwn " + r.WWN
	}
	return "no disk"
}
