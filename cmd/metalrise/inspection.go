package main

import (
	"metalrise.dev/fleet"
	"metalrise.dev/provision"
)

// inspectionReport is the one JSON object of inspect. Unknown is null.
type inspectionReport struct {
	Servers  []inspectedServer `json:"servers"`
	Others   []provision.Other `json:"others"`
	Findings []fleet.Finding   `json:"findings"`
}

type inspectedServer struct {
	BMC          string                        `json:"bmc"`
	Fingerprint  string                        `json:"fingerprint"`
	SystemURI    string                        `json:"systemURI"`
	Manufacturer fleet.Maybe[string]           `json:"manufacturer"`
	Model        fleet.Maybe[string]           `json:"model"`
	Serial       *string                       `json:"serial"`
	SKU          fleet.Maybe[string]           `json:"sku"`
	UUID         *string                       `json:"uuid"`
	PowerState   fleet.Maybe[fleet.PowerState] `json:"powerState"`
	BIOSVersion  fleet.Maybe[string]           `json:"biosVersion"`
	BMCFirmware  fleet.Maybe[string]           `json:"bmcFirmware"`
	CPU          fleet.CPU                     `json:"cpu"`
	MemoryGiB    *float64                      `json:"memoryGiB"`
	NICs         []fleet.NIC                   `json:"nics"`
	Disks        []inspectedDisk               `json:"disks"`
	BootMode     fleet.Maybe[string]           `json:"bootMode"`
	SecureBoot   fleet.Maybe[bool]             `json:"secureBoot"`
	TPM          fleet.Maybe[string]           `json:"tpm"`
	VirtualMedia []fleet.MediaSlot             `json:"virtualMedia"`
	ResetTypes   []string                      `json:"resetTypes"`
	BootTargets  []string                      `json:"bootTargets"`
	Problems     []fleet.Problem               `json:"problems"`
}

type inspectedDisk struct {
	Serial    *string            `json:"serial"`
	SizeBytes fleet.Maybe[int64] `json:"sizeBytes"`
	WWN       *string            `json:"wwn"`
	Model     string             `json:"model,omitempty"`
	Media     *string            `json:"media"`
	Protocol  *string            `json:"protocol"`
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

func inspected(at fleet.Endpoint, f fleet.Facts) inspectedServer {
	s := inspectedServer{
		BMC: at.Address, Fingerprint: at.Fingerprint, SystemURI: f.SystemURI, Manufacturer: f.Manufacturer, Model: f.Model,
		Serial: orNull(f.Identity.Serial), SKU: f.SKU, UUID: orNull(f.Identity.UUID), PowerState: f.Power, BIOSVersion: f.BIOSVersion,
		BMCFirmware: f.BMCFirmware, CPU: f.CPU, NICs: orEmpty(f.NICs), Disks: []inspectedDisk{}, BootMode: f.BootMode, SecureBoot: f.SecureBoot,
		TPM: f.TPM, VirtualMedia: orEmpty(f.VirtualMedia), ResetTypes: orEmpty(f.ResetTypes), BootTargets: orEmpty(f.BootTargets), Problems: orEmpty(f.Problems),
	}
	if mib, ok := f.MemoryMiB.Get(); ok {
		g := float64(mib) / 1024
		s.MemoryGiB = &g
	}
	for _, d := range f.Disks {
		media := string(d.Media)
		if d.Media == fleet.MediaUnknown {
			media = ""
		}
		s.Disks = append(s.Disks, inspectedDisk{orNull(d.Serial), d.SizeBytes, orNull(d.WWN), d.Model, orNull(media), orNull(d.Protocol), d.Source})
	}
	return s
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
