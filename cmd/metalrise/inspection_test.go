package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"metalrise.dev/fleet"
	"metalrise.dev/provision"
)

func compileInspection(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(inspectionSchema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("inspect.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("inspect.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fullFacts() fleet.Facts {
	return fleet.Facts{
		Source: fleet.SeenByBMC, At: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC), Identity: fleet.Identity{Serial: "SN1"},
		Model: fleet.Known("M"), Power: fleet.Known(fleet.PowerOff), CPU: fleet.CPU{Cores: fleet.Known(8)}, MemoryMiB: fleet.Known(int64(1536)),
		NICs:    []fleet.NIC{{MAC: "aa:bb:cc:00:00:01", Source: "/n"}},
		Disks:   []fleet.Disk{{Serial: "D1", SizeBytes: fleet.Known(int64(1 << 40)), Media: fleet.MediaSSD, Source: "/d"}, {Media: fleet.MediaUnknown, Hidden: "why", Source: "/e"}},
		Volumes: []fleet.Volume{{URI: "/v", RAID: "RAID1", Disks: []string{"/d"}}}, MemoryModules: []fleet.MemoryModule{{Name: "A1", Source: "/m"}},
		VirtualMedia: []fleet.MediaSlot{{URI: "/vm", How: "action"}}, ResetTypes: []string{"On"}, TPM: fleet.Known("TPM2_0"),
		BIOSSettings: []fleet.BIOSSetting{{Feature: fleet.FeatureVTx, Name: "VT", Value: "Auto", Source: "/b"}},
		Problems:     []fleet.Problem{{Path: "/p", Text: "t"}},
	}
}

// What inspect prints is what its schema says, whether all or nothing is known.
func TestInspectionFollowsItsSchema(t *testing.T) {
	schema := compileInspection(t)
	at := fleet.Endpoint{Address: "10.0.9.11:443", Fingerprint: "ab"}
	all := []provision.Inspected{
		{Endpoint: at, Behind: provision.Behind{Servers: []fleet.Facts{fullFacts(), {}}, Others: []provision.Other{{Address: "a", URI: "/s", Kind: "dpu", Why: "w"}}}},
	}
	text, err := json.Marshal(inspection(all, []fleet.Finding{{Code: fleet.CodeNoIdentity, Severity: fleet.Warning, Text: "t"}}))
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(v); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	servers := v.(map[string]any)["servers"].([]any)
	for _, key := range []string{"nics", "disks", "virtualMedia", "serial", "uuid", "memoryGiB", "tpm", "powerState"} {
		if got, there := servers[1].(map[string]any)[key]; !there || got != nil {
			t.Errorf("unknown %s is %v, want null", key, got)
		}
	}
	servers[0].(map[string]any)["disks"] = "none"
	if schema.Validate(v) == nil {
		t.Error("the schema lets disks be a text")
	}
}

func TestWhatIsNoBMCIsAResult(t *testing.T) {
	fault := func(c fleet.Code) error { return fleet.NewFault(c, fleet.Unsupported, errors.New("inner"), "said") }
	got := sortOut([]provision.Inspected{
		{Endpoint: fleet.Endpoint{Address: "a"}, Err: fault(fleet.CodeBMCNotRedfish)},
		{Endpoint: fleet.Endpoint{Address: "b"}, Err: fault(fleet.CodeBMCLoginRefused)},
		{Endpoint: fleet.Endpoint{Address: "c"}, Err: fault(fleet.CodeBMCUnreachable)},
		{Endpoint: fleet.Endpoint{Address: "d"}, Err: fault(fleet.CodeBMCUnsupported)},
	})
	failures := provision.Failures(got)
	if len(failures) != 2 {
		t.Errorf("failures %+v", failures)
	}
	r := inspection(got, failures)
	if len(r.Others) != 3 || r.Others[0].Kind != "not a redfish bmc" || r.Others[1].Address != "c" || r.Others[2].Kind != "no server" || r.Others[0].Why == "" {
		t.Errorf("others %+v", r.Others)
	}
}
