package main

import (
	"maps"
	"testing"
	"time"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/fake"
	"metalrise.dev/lab/redfish"
	"metalrise.dev/provision"
)

// TestRemedyOfEveryMaker inspects BMCs whose BIOS calls the switch of
// virtualization as their makers do, and has what is off named. The names are
// those of recorded trees (Dell, HPE, Cisco) and of makers' manuals.
func TestRemedyOfEveryMaker(t *testing.T) {
	for name, c := range map[string]struct {
		person redfish.Personality
		cpu    string // attribute that switches it, for the lab's BMC to start with
		bios   map[string]any
		want   string
	}{
		"Dell": {redfish.IDRAC9(), "ProcVirtualization", map[string]any{"ProcVirtualization": "Disabled"},
			"BIOS attribute ProcVirtualization is Disabled at this server; switch it on"},
		"HPE": {redfish.ILO5(), "ProcVirtualization", map[string]any{"ProcVirtualization": "Disabled", "IntelProcVtd": "Disabled", "Sriov": "Disabled"},
			"BIOS attribute ProcVirtualization is Disabled at this server; switch it on"},
		"HPE, only VT-d is off": {redfish.ILO5(), "ProcVirtualization", map[string]any{"IntelProcVtd": "Disabled"},
			"BIOS attribute ProcVirtualization was Enabled when this server was inspected, so that is not the reason unless it was changed since"},
		"Supermicro": {redfish.X11(), "IntelVirtualizationTechnology#00C5", map[string]any{"IntelVirtualizationTechnology#00C5": "Disable", "VMXLock#0001": "Enabled"},
			"BIOS attribute IntelVirtualizationTechnology#00C5 is Disable at this server; switch it on"},
		"Lenovo": {redfish.XCC(), "Processors_IntelVirtualizationTechnology", map[string]any{"Processors_IntelVirtualizationTechnology": "Disabled"},
			"BIOS attribute Processors_IntelVirtualizationTechnology is Disabled at this server; switch it on"},
		"Cisco": {redfish.CIMC(), "IntelVT", map[string]any{"IntelVT": "Disabled", "IntelVTD": "Disabled"},
			"BIOS attribute IntelVT is Disabled at this server; switch it on"},
		"Huawei": {redfish.IBMC(), "VMXEnable", map[string]any{"VMXEnable": "Disabled"},
			"BIOS attribute VMXEnable is Disabled at this server; switch it on"},
	} {
		t.Run(name, func(t *testing.T) {
			p := c.person
			p.Virtualization = c.cpu
			p.BIOS = maps.Clone(p.BIOS)
			if p.BIOS == nil {
				p.BIOS = map[string]any{}
			}
			maps.Copy(p.BIOS, c.bios)
			if got := provision.KVMRemedy(inspectedFacts(t, p)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// inspectedFacts is what an inspection reads from a lab BMC.
func inspectedFacts(t *testing.T, p redfish.Personality) fleet.Facts {
	t.Helper()
	spec := machine.Spec{Name: "r1", UUID: "5b1f2c3d-0a4b-4c5d-8e6f-7a8b9c0d1e2f", Serial: "REM001", Vendor: "Contoso", Model: "R1",
		Firmware: "uefi", CPUs: 4, MemoryMiB: 8192, Dir: "unused", Disks: []machine.Disk{{Name: "disk0", Serial: "DSK0", SizeBytes: 64 << 30}}}
	b, err := redfish.Start(t.Context(), redfish.Config{Listen: "127.0.0.1:0", Username: "admin", Password: "secret", Spec: spec, Hardware: fake.New(spec, nil), Personality: p, Media: redfish.Lazy})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s, err := bmc.Dial(t.Context(), bmc.Login{Endpoint: fleet.Endpoint{Address: b.Addr(), Fingerprint: b.Fingerprint(), Username: "admin"}, Password: "secret",
		Options: bmc.Options{ConnectTimeout: 5 * time.Second, RequestTimeout: 5 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f, err := s.Inspect(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return f
}
