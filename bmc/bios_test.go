package bmc

import (
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

const biosPath = sysPath + "/Bios"

func withBIOS(applyTimes ...any) *fakeBMC {
	f := newFake()
	f.resources[sysPath]["Bios"] = ref(biosPath)
	f.resources[biosPath] = object{
		"@odata.id": biosPath, "AttributeRegistry": "R.1",
		"Attributes":        object{"ProcVirtualization": "Disabled", "SriovGlobalEnable": "Enabled", "Ports": 4, "NumLock": true, "IntelProcVtd": "Auto"},
		"@Redfish.Settings": object{"SettingsObject": ref(biosPath + "/Settings"), "SupportedApplyTimes": applyTimes},
	}
	f.resources[biosPath+"/Settings"] = object{"@odata.id": biosPath + "/Settings", "@odata.etag": `"7"`, "Attributes": object{}}
	return f
}

func TestBIOSStageAndVerify(t *testing.T) {
	f := withBIOS("OnReset", "Immediate")
	s := dial(t, serve(t, f))
	want := map[string]string{"ProcVirtualization": "enabled", "Ports": "8", "NumLock": "true"}
	changes, err := s.StageBIOS(t.Context(), sysPath, want)
	noError(t, err)
	if len(changes) != 2 || changes[0].Name != "Ports" || !changes[1].Staged {
		t.Errorf("changes: %+v", changes)
	}
	if c := f.changes(); len(c) != 1 || c[0] != `PATCH `+biosPath+`/Settings {"@Redfish.SettingsApplyTime":{"ApplyTime":"OnReset"},"Attributes":{"Ports":8,"ProcVirtualization":"Enabled"}}` {
		t.Errorf("sent %v", c)
	}
	if _, err = s.StageBIOS(t.Context(), sysPath, want); err != nil || len(f.changes()) != 1 {
		t.Errorf("staged twice: %v, %v", err, f.changes())
	}
	short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	f.with(func() {
		f.resources[biosPath]["@Redfish.Settings"].(object)["Messages"] = []any{object{"MessageId": "Base.1.0.SettingsFailed", "RelatedProperties": []any{"/Attributes/Ports"}}}
	})
	err = s.VerifyBIOS(short, sysPath, want)
	wantFault(t, err, fleet.CodeBMCRejected, fleet.Transient)
	if !strings.Contains(err.Error(), "SettingsFailed") {
		t.Error(err)
	}
	f.with(func() {
		merge(f.resources[biosPath]["Attributes"].(object), object{"ProcVirtualization": "Enabled", "Ports": 8})
		f.resources[biosPath+"/Settings"]["Attributes"] = object{}
	})
	noError(t, s.VerifyBIOS(t.Context(), sysPath, want))
}

func TestBIOSRefusals(t *testing.T) {
	f := withBIOS("OnReset")
	f.hook = onRequest("PATCH", biosPath+"/Settings", func(_ int, w http.ResponseWriter, _ *http.Request, body object) bool {
		if body["@Redfish.SettingsApplyTime"] != nil {
			complain(w, 400, "Base.1.4.PropertyUnknown", "@Redfish.SettingsApplyTime")
			return true
		}
		return false
	})
	s := dial(t, serve(t, f))
	_, err := s.StageBIOS(t.Context(), sysPath, map[string]string{"ProcVirtualization": "Enabled"})
	noError(t, err)
	for name, value := range map[string]string{"Virtualization": "Enabled", "NumLock": "perhaps", "Ports": "many"} {
		_, err := s.StageBIOS(t.Context(), sysPath, map[string]string{name: value})
		wantFault(t, err, fleet.CodeBMCUnsupported, fleet.Invalid)
	}
	_, err = s.StageBIOS(t.Context(), sysPath, map[string]string{"Virtualization": "Enabled"})
	if !strings.Contains(err.Error(), "it has ProcVirtualization") {
		t.Error(err)
	}

	f = withBIOS()
	f.hook = onRequest("PATCH", biosPath+"/Settings", func(_ int, w http.ResponseWriter, _ *http.Request, _ object) bool {
		w.WriteHeader(http.StatusOK) // and does nothing
		return true
	})
	l := serve(t, f)
	l.Options.Settle = 20 * time.Millisecond
	_, err = dial(t, l).StageBIOS(t.Context(), sysPath, map[string]string{"ProcVirtualization": "Enabled"})
	wantFault(t, err, fleet.CodeBMCRejected, fleet.Transient)

	_, err = dial(t, serve(t, newFake())).BIOS(t.Context(), sysPath)
	wantFault(t, err, fleet.CodeBMCUnsupported, fleet.Unsupported)
}

// Where the BMC has a registry of attributes, a wrong word is refused before it
// is sent, and a right one is written as the registry does.
func TestBIOSRegistry(t *testing.T) {
	f := withBIOS()
	f.resources["/redfish/v1"]["Registries"] = ref("/redfish/v1/Registries")
	f.resources["/redfish/v1/Registries"] = members("/redfish/v1/Registries/Base", "/redfish/v1/Registries/R.1.json")
	f.resources["/redfish/v1/Registries/R.1.json"] = object{"Location": []any{
		object{"Language": "zh", "Uri": "/none"}, object{"Language": "en-US", "Uri": "/redfish/v1/Registries/R.1.json/R.1.json"}}}
	value := func(w string) object { return object{"ValueName": w} }
	f.resources["/redfish/v1/Registries/R.1.json/R.1.json"] = object{"RegistryEntries": object{"Attributes": []any{
		object{"AttributeName": "IntelProcVtd", "Type": "Enumeration", "Value": []any{value("Auto"), value("AlwaysOn")}},
		object{"AttributeName": "NumLock", "Type": "Boolean", "ReadOnly": true},
	}}}
	s := dial(t, serve(t, f))
	stage := func(name, value string) error {
		_, err := s.StageBIOS(t.Context(), sysPath, map[string]string{name: value})
		return err
	}
	wantFault(t, stage("IntelProcVtd", "Enabled"), fleet.CodeBMCUnsupported, fleet.Invalid)
	wantFault(t, stage("NumLock", "false"), fleet.CodeBMCUnsupported, fleet.Invalid)
	if c := f.changes(); len(c) != 0 {
		t.Errorf("sent %v", c)
	}
	noError(t, stage("IntelProcVtd", "alwayson"))
	if v := f.resources[biosPath+"/Settings"]["Attributes"].(object)["IntelProcVtd"]; v != "AlwaysOn" {
		t.Errorf("staged %v", v)
	}
}

// The trees of the corpus: settings are read, and the switches of virtualization
// found under their vendors' names.
func TestCorpusBIOS(t *testing.T) {
	dir := corpusDir(t)
	for tree, want := range map[string]string{
		"dell-r750-idrac9-6.00.30": "ProcVirtualization SriovGlobalEnable", "hpe-dl360gen10-ilo5-2.96": "IntelProcVtd ProcVirtualization Sriov",
		"hpe-dl380agen11-ilo6-1.66": "IntelProcVtd ProcVirtualization Sriov", "cisco-c220m4s-cimc-4.1.2g": "IntelVT IntelVTD SrIov", "nvidia-gh200": "", "hpecray-ex235a": "",
	} {
		s := dial(t, serve(t, static{dir: filepath.Join(dir, tree)}))
		b, err := s.BIOS(t.Context(), "")
		if err != nil {
			t.Errorf("%s: %v", tree, err)
			continue
		}
		var names []string
		for _, v := range b.Virtualization() {
			names = append(names, v.Name)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %q, want %q of %d", tree, got, want, len(b.Values))
		}
	}
	s := dial(t, serve(t, static{dir: filepath.Join(dir, "dmtf-public-rackmount1")}))
	list, err := s.Events(t.Context(), "", 10)
	noError(t, err)
	if len(list) != 2 || list[0].Severity == "" || !list[0].Created.IsKnown() || list[0].Message == "" {
		t.Errorf("log: %+v", list)
	}
}

func TestBIOSVirtualization(t *testing.T) {
	b := BIOSSettings{Values: map[string]any{
		"ProcVirtualization": "Disabled", "SR-IOVSupport": "Enable", "IntelProcVtd": "Auto", "Processors_SVMMode": "Disable", "VMX_0012": "VMXDisable", "Iommu": false, "BootMode": "Uefi",
	}}
	if got := b.Virtualization(); len(got) != 6 {
		t.Errorf("settings: %+v", got)
	}
	want := map[string]string{"ProcVirtualization": "Enabled", "Processors_SVMMode": "Enable", "VMX_0012": "VMXEnable", "Iommu": "true"}
	got := b.VirtualizationWish()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%s: wish %q, want %q", name, got[name], value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("wishes: %v", got)
	}
}

func TestBootHTTP(t *testing.T) {
	const efi = "http://10.0.0.1/x.efi"
	boot := func(f *fakeBMC) object { return f.resources[sysPath]["Boot"].(object) }

	f := newFake() // in Boot
	boot(f)["HttpBootUri"] = nil
	noError(t, dial(t, serve(t, f)).BootHTTP(t.Context(), sysPath, efi))
	if boot(f)["HttpBootUri"] != efi || boot(f)["BootSourceOverrideTarget"] != "UefiHttp" {
		t.Errorf("boot: %v", boot(f))
	}

	f = newFake() // in the settings object alone
	f.resources[sysPath]["@Redfish.Settings"] = object{"SettingsObject": ref(sysPath + "/Pending")}
	f.resources[sysPath+"/Pending"] = object{"Boot": object{"HttpBootUri": nil}}
	s := dial(t, serve(t, f))
	noError(t, s.BootHTTP(t.Context(), sysPath, efi))
	sight, err := s.Look(t.Context(), sysPath)
	noError(t, err)
	if sight.BootOverride.HTTPURI != efi || !sight.BootOverride.GoesTo(UefiHTTP) {
		t.Errorf("override: %+v", sight.BootOverride)
	}

	f = withBIOS("OnReset") // Dell: BIOS attributes
	merge(f.resources[biosPath]["Attributes"].(object), object{"HttpDev1Uri": "", "HttpDev1EnDis": "Disabled", "HttpDev1TlsMode": "OneWay"})
	noError(t, dial(t, serve(t, f)).BootHTTP(t.Context(), sysPath, efi))
	staged := f.resources[biosPath+"/Settings"]["Attributes"].(object)
	if staged["HttpDev1Uri"] != efi || staged["HttpDev1EnDis"] != "Enabled" || staged["HttpDev1TlsMode"] != "None" || boot(f)["BootSourceOverrideTarget"] != "UefiHttp" {
		t.Errorf("staged %v, boot %v", staged, boot(f))
	}

	refuse := func(id string) *fakeBMC {
		f := newFake()
		f.hook = onRequest("PATCH", sysPath, func(_ int, w http.ResponseWriter, _ *http.Request, _ object) bool {
			complain(w, 400, id, "HttpBootUri")
			return true
		})
		return f
	}
	for _, id := range []string{"IDRAC.2.8.UEFI0417", "Base.1.4.PropertyUnknown"} {
		wantFault(t, dial(t, serve(t, refuse(id))).BootHTTP(t.Context(), sysPath, efi), fleet.CodeBMCUnsupported, fleet.Unsupported)
	}
	wantFault(t, dial(t, serve(t, newFake())).BootHTTP(t.Context(), sysPath, "tftp://x/y"), fleet.CodeBMCRejected, fleet.Invalid)
}
