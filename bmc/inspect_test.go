package bmc

import (
	"net/http"
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// One bad field costs that field, one bad member that member.
func TestInspectIsTolerant(t *testing.T) {
	f := newFake()
	sys := f.resources[sysPath]
	sys["Model"], sys["SKU"], sys["PowerState"] = 7, []any{"x"}, "Starting"
	sys["MemorySummary"] = object{"TotalSystemMemoryGiB": "64"}
	sys["TrustedModules"] = object{"InterfaceType": "TPM2_0"}
	sys["ProcessorSummary"] = "none"
	sys["Processors"] = ref(sysPath + "/Processors")
	f.resources[sysPath+"/Processors"] = members(sysPath+"/Processors/1", sysPath+"/Processors/gone", sysPath+"/Processors/1/")
	f.resources[sysPath+"/Processors/1"] = object{"TotalCores": "8", "TotalThreads": -1, "Model": "CPU"}
	sys["Storage"] = ref(sysPath + "/Storage")
	f.resources[sysPath+"/Storage"] = members(sysPath + "/Storage/1")
	drive := func(serial, wwn string, size any) object {
		return object{"SerialNumber": serial, "CapacityBytes": size, "Identifiers": []any{object{"DurableNameFormat": "NAA", "DurableName": wwn}}, "Protocol": "SAS", "MediaType": "HDD"}
	}
	inPlace := []any{
		drive("A", "0x5000C500A0B1C2D3", int64(4)<<40),
		drive("A", "5000c500a0b1c2d3", int64(4)<<40),                     // the same again
		drive("B", "naa.5000c500a0b1c2d4", 3815447),                      // MiB in a field of bytes
		drive("C", "not hex", "960197124096"),                            // a text
		object{"Name": "Empty Bay", "Status": object{"State": "Absent"}}, // no disk
		object{"Name": "Bay 7", "CapacityBytes": nil},                    // no disk either
		object{"Model": "Virtual CDROM", "CapacityBytes": 2048, "SerialNumber": "AAAABBBBCCCC1"},
		"no object",
	}
	f.resources[sysPath+"/Storage/1"] = object{"Drives": inPlace}
	sys["EthernetInterfaces"] = ref(sysPath + "/EthernetInterfaces")
	f.resources[sysPath+"/EthernetInterfaces"] = object{"Members": []any{
		object{"Id": "1", "MACAddress": "AA-BB-CC-00-00-02", "SpeedMbps": "N/A", "VLAN": object{"VLANId": -1}, "LinkStatus": "NoLink"},
		object{"Id": "1", "MACAddress": "aa:bb:cc:00:00:02", "SpeedMbps": 1000},
		object{"Id": "2", "MACAddress": "00:00:00:00:00:00"},
		object{"Id": "3", "MACAddress": "Not Available"},
		object{"Id": "4", "MACAddress": "80:00:02:08:fe:80:00:00:00:00:00:00:e4:1d:2d:03:00:11:22:33"},
		object{"Id": "5", "MACAddress": "aa:bb:cc:00:00:05", "Links": object{"HostInterface": ref("/x")}},
	}}
	facts, err := dial(t, serve(t, f)).Inspect(t.Context(), "")
	noError(t, err)
	if facts.SystemURI != sysPath || facts.Model.Or("") != "7" || facts.SKU.IsKnown() || facts.Power.Or("") != fleet.PowerOther || facts.MemoryMiB.Or(0) != 65536 || facts.TPM.Or("") != "TPM2_0" {
		t.Errorf("facts: %+v", facts)
	}
	if c := facts.CPU; c.Sockets.Or(0) != 1 || c.Cores.IsKnown() || c.Model.Or("") != "CPU" {
		t.Errorf("cpu: %+v", c)
	}
	if d := facts.Disks; len(d) != 3 || d[0].WWN != "5000c500a0b1c2d3" || d[0].SizeBytes.Or(0) != 4<<40 || d[1].SizeBytes.IsKnown() || d[1].WWN != "5000c500a0b1c2d4" ||
		d[2].SizeBytes.Or(0) != 960197124096 || d[2].WWN != "" {
		t.Errorf("disks: %+v", d)
	}
	if n := facts.NICs; len(n) != 1 || n[0].MAC != "aa:bb:cc:00:00:02" || n[0].Link.Or(true) || n[0].SpeedMbps.Or(0) != 1000 {
		t.Errorf("nics: %+v", n)
	}
	text := ""
	for _, p := range facts.Problems {
		text += p.Path + ": " + p.Text + "\n"
	}
	for _, want := range []string{"#SKU", "#PowerState", "#ProcessorSummary", "Processors/gone", "TotalThreads", "CapacityBytes", "DurableName", "[7]", "MACAddress"} {
		if !strings.Contains(text, want) {
			t.Errorf("no problem names %s:\n%s", want, text)
		}
	}
}

// The system does not see drives that a RAID controller hides.
func TestHiddenDrivesAreMarked(t *testing.T) {
	f := newFake()
	const storage = sysPath + "/Storage"
	f.resources[sysPath]["Storage"] = ref(storage)
	f.resources[storage] = members(storage + "/1")
	on := func(volume string) object { return object{"Volumes": []any{ref(storage + "/" + volume)}} }
	f.resources[storage+"/1"] = object{"Drives": []any{
		object{"@odata.id": storage + "/d1", "SerialNumber": "D1", "Links": on("raid")},
		object{"@odata.id": storage + "/d2", "SerialNumber": "D2", "Links": on("raw")},
		object{"@odata.id": storage + "/d3", "SerialNumber": "D3", "Status": object{"State": "StandbyOffline"}},
	}}
	f.resources[storage+"/raid"] = object{"@odata.id": storage + "/raid", "RAIDType": "RAID1"}
	f.resources[storage+"/raw"] = object{"@odata.id": storage + "/raw", "VolumeType": "RawDevice"}
	facts, err := dial(t, serve(t, f)).Inspect(t.Context(), sysPath)
	noError(t, err)
	if d := facts.Disks; len(d) != 3 || !strings.Contains(d[0].Hidden, "RAID1 volume "+storage+"/raid") || d[1].Hidden != "" || d[2].Hidden == "" {
		t.Errorf("disks %+v", d)
	}
	if v := facts.Volumes; len(v) != 2 || v[0].RAID != "RAID1" || v[1].RAID != "" {
		t.Errorf("volumes %+v", v)
	}
}

func TestSystemsTellsServersFromOthers(t *testing.T) {
	f := newFake()
	reset := f.resources[sysPath]["Actions"]
	f.resources["/redfish/v1/Systems"] = members(sysPath, "/redfish/v1/Systems/2", "/redfish/v1/Systems/gpu", "/redfish/v1/Systems/dpu", "/redfish/v1/Systems/vm",
		"/redfish/v1/Systems/Bluefield", "/redfish/v1/Systems/HGX_Baseboard_0", "/redfish/v1/Systems/sw", "/redfish/v1/Systems/partition", "/redfish/v1/Systems/gone")
	f.resources["/redfish/v1/Systems/Bluefield"] = object{"Id": "Bluefield", "SystemType": "Physical", "Actions": reset}
	f.resources["/redfish/v1/Systems/HGX_Baseboard_0"] = object{"Id": "HGX_Baseboard_0", "SystemType": "Physical", "Actions": reset}
	f.resources["/redfish/v1/Systems/sw"] = object{"Id": "1", "HostingRoles": []any{"Switch"}, "Actions": reset}
	f.resources["/redfish/v1/Systems/partition"] = object{"Id": "Partition0", "SystemType": "PhysicallyPartitioned", "Actions": reset}
	f.resources["/redfish/v1/Systems/2"] = object{"SerialNumber": "SN2", "Actions": reset, "SystemType": "Physical"}
	f.resources["/redfish/v1/Systems/gpu"] = object{"SystemType": "Physical"}
	f.resources["/redfish/v1/Systems/dpu"] = object{"SystemType": "DPU", "Actions": reset}
	f.resources["/redfish/v1/Systems/vm"] = object{"SystemType": "Virtual", "Actions": reset}
	s := dial(t, serve(t, f))
	got, err := s.Systems(t.Context())
	noError(t, err)
	want := []SystemKind{IsServer, IsServer, Accelerator, DPU, OtherSystem, DPU, Accelerator, Switch, IsServer, OtherSystem}
	for i, r := range got {
		if i >= len(want) || r.Kind != want[i] || r.Why == "" {
			t.Errorf("%d: %+v", i, r)
		}
	}
	_, err = s.Inspect(t.Context(), "")
	wantFault(t, err, fleet.CodeBMCManySystems, fleet.Conflict)
}

// $expand is believed only where it works.
func TestExpandQuery(t *testing.T) {
	for _, works := range []string{"yes", "refused", "ignored"} {
		f := newFake()
		f.resources["/redfish/v1"]["ProtocolFeaturesSupported"] = object{"ExpandQuery": object{"NoLinks": true, "Levels": true}}
		var paths []string
		for _, id := range []string{"1", "2", "3", "4"} {
			p := sysPath + "/Processors/" + id
			paths = append(paths, p)
			f.resources[p] = object{"@odata.id": p, "TotalCores": 4, "TotalThreads": 8}
		}
		f.resources[sysPath]["Processors"] = ref(sysPath + "/Processors")
		f.resources[sysPath+"/Processors"] = members(paths...)
		f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
			switch {
			case r.URL.RawQuery == "" || works == "ignored":
				return false
			case r.URL.RawQuery != "$expand=.($levels=1)":
				t.Errorf("query %q", r.URL.RawQuery)
				return false
			case works == "refused":
				complain(w, 400, "Base.1.4.QueryNotSupportedOnResource")
				return true
			}
			f.get(w, r.URL.Path)
			return true
		}
		if works == "yes" {
			whole := []any{}
			for _, p := range paths {
				whole = append(whole, f.resources[p])
			}
			f.resources[sysPath+"/Processors"] = object{"Members": whole}
			delete(f.resources, paths[3])
		}
		s := dial(t, serve(t, f))
		before := s.Stats().Requests
		facts, err := s.Inspect(t.Context(), sysPath)
		noError(t, err)
		if facts.CPU.Cores.Or(0) != 16 || len(facts.Problems) > 0 {
			t.Errorf("%s: cpu %+v, problems %v", works, facts.CPU, facts.Problems)
		}
		t.Logf("%s: %d requests", works, s.Stats().Requests-before)
	}
}

func TestEUIOrder(t *testing.T) {
	i := &inspection{seen: &problems{}}
	for in, want := range map[string]string{
		"eui.0025385b71b0a1f6":    "0025385b71b0a1f6",
		"F3:57:71:41:1C:38:25:00": "0025381c417157f3",
		"1122334455667788":        "",
	} {
		n := node{m: object{"Identifiers": []any{object{"DurableNameFormat": "EUI", "DurableName": in}}}}
		if got := i.wwn(n); got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func TestBrokenJSONIsMended(t *testing.T) {
	m, err := decode([]byte("\xef\xbb\xbf" + `{"@odata.etag":"W/"1234"","Id":"\/1"}`))
	if err != nil || m["Id"] != "/1" || m["@odata.etag"] != `W/"1234"` {
		t.Errorf("%v, %v", m, err)
	}
}
