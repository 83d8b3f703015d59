package main

import (
	"errors"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision"
)

// inspectionReport is the one JSON object of inspect. Unknown is null; its
// schema is made from these types, with the texts of the about tags.
type inspectionReport struct {
	Servers  []inspectedServer `json:"servers" about:"One for each host; several may stand behind one BMC."`
	Others   []provision.Other `json:"others" about:"Things that are no server: at an address, or behind a BMC."`
	Findings []fleet.Finding   `json:"findings" about:"What went wrong, each with a code that metalrise explain knows."`
}

type inspectedServer struct {
	BMC           string                        `json:"bmc" about:"Address (host:port) of the BMC."`
	Fingerprint   string                        `json:"fingerprint" about:"SHA-256 of the BMC's certificate in DER form, in hexadecimal."`
	At            time.Time                     `json:"at" about:"When the facts were read."`
	SystemURI     string                        `json:"systemURI" about:"Redfish path of the server."`
	Manufacturer  fleet.Maybe[string]           `json:"manufacturer"`
	Model         fleet.Maybe[string]           `json:"model"`
	Serial        *string                       `json:"serial" about:"Serial number as SMBIOS has it: the service tag on Dell machines."`
	SKU           fleet.Maybe[string]           `json:"sku"`
	UUID          *string                       `json:"uuid" about:"System UUID, lower case."`
	PowerState    fleet.Maybe[fleet.PowerState] `json:"powerState" about:"on, off, powering on, powering off, paused, other."`
	BIOSVersion   fleet.Maybe[string]           `json:"biosVersion"`
	BMCFirmware   fleet.Maybe[string]           `json:"bmcFirmware"`
	CPU           fleet.CPU                     `json:"cpu" about:"Cores and threads are of all sockets together; accelerators and empty sockets do not count."`
	MemoryGiB     *float64                      `json:"memoryGiB"`
	MemoryModules []fleet.MemoryModule          `json:"memoryModules" null:"yes" about:"Those plugged in."`
	NICs          []fleet.NIC                   `json:"nics" null:"yes" about:"Ethernet ports, without Fibre Channel, InfiniBand and the cable to the BMC; null when no place that names ports could be read."`
	Disks         []inspectedDisk               `json:"disks" null:"yes" about:"Without virtual media and empty bays; null when no place that names drives could be read."`
	Volumes       []fleet.Volume                `json:"volumes" null:"yes" about:"What storage controllers show in place of drives; raid is empty where a volume stands for one drive as it is."`
	BootMode      fleet.Maybe[string]           `json:"bootMode" about:"uefi or bios."`
	SecureBoot    fleet.Maybe[bool]             `json:"secureBoot" about:"Whether the last start was verified."`
	TPM           fleet.Maybe[string]           `json:"tpm" about:"Kind of the trusted module, such as TPM2_0."`
	TPMEnabled    fleet.Maybe[bool]             `json:"tpmEnabled"`
	VirtualMedia  []fleet.MediaSlot             `json:"virtualMedia" null:"yes" about:"how is action, patch, or why the drive cannot take an ISO."`
	ResetTypes    []string                      `json:"resetTypes" null:"yes"`
	BootTargets   []string                      `json:"bootTargets" null:"yes"`
	BIOSSettings  []fleet.BIOSSetting           `json:"biosSettings" null:"yes" about:"Firmware attributes that govern virtualization, with the vendor's names."`
	Sources       map[string]string             `json:"sources" about:"URI of the facts that name none themselves; what is missing came from system."`
	Problems      []fleet.Problem               `json:"problems" about:"What could not be read, where and why."`
}

type inspectedDisk struct {
	Serial    *string            `json:"serial"`
	SizeBytes fleet.Maybe[int64] `json:"sizeBytes"`
	WWN       *string            `json:"wwn" about:"NAA, EUI or NGUID in lower-case hexadecimal; null too where two disks claim the same."`
	Model     *string            `json:"model"`
	Media     *string            `json:"media" about:"ssd or hdd."`
	Protocol  *string            `json:"protocol" about:"As the BMC says it: SAS, SATA, NVMe, PCIe, USB, …"`
	Hidden    *string            `json:"hidden" about:"Why the system does not see the drive as it is; null when nothing says so."`
	Source    string             `json:"source"`
}

func inspection(all []provision.Inspected, findings []fleet.Finding) inspectionReport {
	out := inspectionReport{Servers: []inspectedServer{}, Others: []provision.Other{}, Findings: orEmpty(findings)}
	for _, r := range all {
		for _, f := range r.Behind.Servers {
			out.Servers = append(out.Servers, inspected(r.Endpoint, f))
		}
		out.Others = append(out.Others, r.Behind.Others...)
	}
	return out
}

// sortOut makes results of the addresses where no server's BMC is: a web server
// or an enclosure's controller in a range of addresses is no failure. An address
// that does not answer stays one, because a BMC may be behind it, and is listed
// with the others as well.
func sortOut(all []provision.Inspected) []provision.Inspected {
	out := make([]provision.Inspected, 0, len(all))
	for _, r := range all {
		kind := ""
		settled := true
		switch fleet.CodeOf(r.Err) {
		case fleet.CodeBMCNotRedfish:
			kind = "not a redfish bmc"
		case fleet.CodeBMCUnsupported:
			kind = "no server"
		case fleet.CodeBMCUnreachable:
			kind, settled = "no answer", false
		}
		if kind != "" && len(r.Behind.Servers) == 0 {
			why := r.Err.Error()
			var f *fleet.Fault
			if errors.As(r.Err, &f) {
				why = f.Error()
			}
			r.Behind.Others = append(r.Behind.Others, provision.Other{Address: r.Endpoint.Address, Kind: kind, Why: firstLine(why)})
			if settled {
				r.Err = nil
			}
		}
		out = append(out, r)
	}
	return out
}

func inspected(at fleet.Endpoint, f fleet.Facts) inspectedServer {
	s := inspectedServer{
		BMC: at.Address, Fingerprint: at.Fingerprint, At: f.At, SystemURI: f.SystemURI, Manufacturer: f.Manufacturer, Model: f.Model,
		Serial: orNull(f.Identity.Serial), SKU: f.SKU, UUID: orNull(f.Identity.UUID), PowerState: f.Power, BIOSVersion: f.BIOSVersion,
		BMCFirmware: f.BMCFirmware, CPU: f.CPU, MemoryModules: f.MemoryModules, NICs: f.NICs, Volumes: f.Volumes, BootMode: f.BootMode,
		SecureBoot: f.SecureBoot, TPM: f.TPM, TPMEnabled: f.TPMEnabled, VirtualMedia: f.VirtualMedia, ResetTypes: f.ResetTypes,
		BootTargets: f.BootTargets, BIOSSettings: f.BIOSSettings, Sources: f.Sources, Problems: orEmpty(f.Problems),
	}
	if s.Sources == nil {
		s.Sources = map[string]string{}
	}
	if mib, ok := f.MemoryMiB.Get(); ok {
		g := float64(mib) / 1024
		s.MemoryGiB = &g
	}
	if f.Disks != nil {
		s.Disks = []inspectedDisk{}
	}
	for _, d := range f.Disks {
		media := string(d.Media)
		if d.Media == fleet.MediaUnknown {
			media = ""
		}
		s.Disks = append(s.Disks, inspectedDisk{Serial: orNull(d.Serial), SizeBytes: d.SizeBytes, WWN: orNull(d.WWN), Model: orNull(d.Model),
			Media: orNull(media), Protocol: orNull(d.Protocol), Hidden: orNull(d.Hidden), Source: d.Source})
	}
	return s
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
