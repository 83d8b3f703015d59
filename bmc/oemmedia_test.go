package bmc

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// Supermicro up to X11: an empty collection that links to CfgCD, and a member
// once something is mounted.
func TestSupermicroMounts(t *testing.T) {
	const vm, cfg = "/redfish/v1/Managers/1/VirtualMedia", "/redfish/v1/Managers/1/VM1/CfgCD"
	f := newFake()
	f.resources[vm] = object{"Members": []any{}, "Oem": object{"Supermicro": object{"VirtualMediaConfig": ref(cfg)}}}
	f.resources[cfg] = object{"@odata.id": cfg, "Id": "1", "Host": "", "Path": "", "Actions": object{
		"#IsoConfig.Mount": object{"target": cfg + "/Mount"}, "#IsoConfig.UnMount": object{"target": cfg + "/UnMount"}}}
	f.resources[vm+"/CD1"] = object{"@odata.id": vm + "/CD1", "Id": "CD1", "MediaTypes": []any{"CD"}, "Inserted": true, "Image": nil}
	f.hook = func(w http.ResponseWriter, r *http.Request, body object) bool {
		switch {
		case r.Method == "PATCH" && r.URL.Path == cfg && body["Username"] != nil:
			complain(w, 400, "Base.1.4.PropertyValueFormatError", "", "Username")
			return true
		case r.URL.Path == cfg+"/Mount":
			f.resources[vm]["Members"] = []any{ref(vm + "/CD1")}
		case r.URL.Path == cfg+"/UnMount":
			f.resources[vm]["Members"] = []any{}
		default:
			return false
		}
		w.WriteHeader(http.StatusNoContent)
		return true
	}
	s := dial(t, serve(t, f))
	noError(t, s.Insert(t.Context(), sysPath, iso))
	if c := f.resources[cfg]; c["Host"] != "https://10.0.0.1:8443" || c["Path"] != "/media/x/live.iso" {
		t.Errorf("config: %v", c)
	}
	sight, err := s.Look(t.Context(), sysPath)
	noError(t, err)
	if len(sight.Media) != 1 || !sight.Media[0].Inserted || sight.Media[0].Image != iso {
		t.Errorf("media: %+v", sight.Media)
	}
	noError(t, s.Eject(t.Context(), sysPath))
	noError(t, s.Eject(t.Context(), sysPath))
	sight, err = s.Look(t.Context(), sysPath)
	noError(t, err)
	if sight.Media[0].Inserted {
		t.Errorf("media after eject: %+v", sight.Media)
	}
}

// irmc makes the fake one of Fujitsu: no standard drive, an action of the system.
func irmc(f *fakeBMC, allowed ...any) (action object) {
	const cfg = sysPath + "/Oem/ts_fujitsu/VirtualMedia"
	f.resources["/redfish/v1/Managers/1/VirtualMedia"] = members()
	f.resources[cfg] = object{"@odata.id": cfg, "@odata.etag": `"1"`, "CDImage": object{}, "RemoteMountEnabled": false}
	action = object{"target": sysPath + "/FTS", "FTSVirtualMediaAction@Redfish.AllowableValues": allowed}
	f.resources[sysPath]["Actions"].(object)["Oem"] = object{"#FTSComputerSystem.VirtualMedia": action}
	f.hook = onRequest("POST", sysPath+"/FTS", func(_ int, w http.ResponseWriter, _ *http.Request, body object) bool {
		next := map[any]any{"ConnectCD": "DisconnectCD", "DisconnectCD": "ConnectCD"}[body["FTSVirtualMediaAction"]]
		action["FTSVirtualMediaAction@Redfish.AllowableValues"] = []any{next}
		w.WriteHeader(http.StatusNoContent)
		return true
	})
	return action
}

func TestFujitsuConnects(t *testing.T) {
	f := newFake()
	irmc(f, "ConnectCD")
	s := dial(t, serve(t, f))
	noError(t, s.Insert(t.Context(), sysPath, iso))
	cd := f.resources[sysPath+"/Oem/ts_fujitsu/VirtualMedia"]["CDImage"].(object)
	if cd["Server"] != "10.0.0.1:8443" || cd["ShareType"] != "HTTPS" || cd["ShareName"] != "/media/x" || cd["ImageName"] != "live.iso" {
		t.Errorf("config: %v", cd)
	}
	noError(t, s.Eject(t.Context(), sysPath))
	wantFault(t, s.Insert(t.Context(), sysPath, "http://10.0.0.1/live.iso"), fleet.CodeBMCUnsupported, fleet.Unsupported)
}

func TestFujitsuWithoutLicence(t *testing.T) {
	f := newFake()
	irmc(f)
	wantFault(t, dial(t, serve(t, f)).Insert(t.Context(), sysPath, iso), fleet.CodeBMCLicence, fleet.Denied)
}

func TestHuaweiTakesFilesOnly(t *testing.T) {
	f := newFake()
	f.resources[slotPath]["Actions"] = object{}
	f.resources[slotPath]["Oem"] = object{"Huawei": object{"Actions": object{"#VirtualMedia.VmmControl": object{"target": slotPath + "/Vmm"}}}}
	f.hook = onRequest("POST", slotPath+"/Vmm", func(_ int, w http.ResponseWriter, _ *http.Request, body object) bool {
		if body["VmmControlType"] != "Connect" || body["Image"] != iso {
			t.Errorf("sent %v", body)
		}
		complain(w, 400, "iBMC.1.0.FileTransferProtocolMismatch")
		return true
	})
	wantFault(t, dial(t, serve(t, f)).Insert(t.Context(), sysPath, iso), fleet.CodeBMCUnsupported, fleet.Unsupported)
}

// iLO 4 has actions of its own alone, and they take the image only.
func TestILO4Inserts(t *testing.T) {
	f := newFake()
	delete(f.resources[slotPath], "Actions")
	f.resources[slotPath]["Oem"] = object{"Hp": object{"Actions": object{
		"#HpiLOVirtualMedia.InsertVirtualMedia": object{"target": slotPath + "/Insert"},
		"#HpiLOVirtualMedia.EjectVirtualMedia":  object{"target": slotPath + "/Eject"}}}}
	f.hook = onRequest("POST", slotPath+"/Insert", func(_ int, w http.ResponseWriter, _ *http.Request, body object) bool {
		if len(body) > 1 {
			complain(w, 400, "iLO.0.10.ActionParameterUnknown")
		}
		return len(body) > 1
	})
	s := dial(t, serve(t, f))
	noError(t, s.Insert(t.Context(), sysPath, iso))
	noError(t, s.Eject(t.Context(), sysPath))
}

// A drive that is taken is ejected and tried again; for ever taken is a fault
// that says what to do.
func TestInsertIntoTakenDrive(t *testing.T) {
	for _, times := range []int{2, 1 << 30} {
		f := newFake()
		f.hook = onRequest("POST", slotPath+"/Insert", func(n int, w http.ResponseWriter, _ *http.Request, _ object) bool {
			if n <= times {
				complain(w, 500, "IDRAC.2.8.VRM0021")
			}
			return n <= times
		})
		l := serve(t, f)
		l.Options.Settle = 200 * time.Millisecond
		err := dial(t, l).Insert(t.Context(), sysPath, iso)
		if times == 2 {
			noError(t, err)
			continue
		}
		wantFault(t, err, fleet.CodeBMCRejected, fleet.Transient)
		if !strings.Contains(fmt.Sprint(err), "AutoAttach") {
			t.Error(err)
		}
	}
}

func TestDrivesThatCannot(t *testing.T) {
	cases := map[string]struct {
		slot object
		why  string
	}{
		"uploads":         {object{"Id": "RDOC1", "MediaTypes": []any{"CD"}, "Image": nil}, "uploads only"},
		"uploads allowed": {object{"Id": "1", "MediaTypes": []any{"CD"}, "Actions": object{"#VirtualMedia.InsertMedia": object{"target": "/x", "TransferMethod@Redfish.AllowableValues": []any{"Upload"}}}}, "uploads only"},
		"files":           {object{"Id": "1", "MediaTypes": []any{"CD"}, "Actions": object{"#VirtualMedia.InsertMedia": object{"target": "/x", "TransferProtocolType@Redfish.AllowableValues": []any{"NFS", "CIFS"}}}}, "NFS, CIFS only"},
		"by name":         {object{"Id": "Floppy1", "Image": nil}, "by its name"},
		"usb":             {object{"Id": "1", "MediaTypes": []any{"USBStick"}, "Image": nil}, "no optical media"},
		"nothing":         {object{"Id": "1", "MediaTypes": []any{"DVD"}}, "neither an insert action"},
		"described":       {object{"Id": "1", "Actions": object{"#VirtualMedia.InsertMedia": object{"target": "/x", "TransferProtocolType@Redfish.AllowableValues": []any{"This parameter shall be a protocol"}}}}, ""},
		"dvd":             {object{"Id": "DVD", "MediaTypes": []any{"DVD"}, "Image": nil}, ""},
	}
	for name, c := range cases {
		got := readSlot(node{path: "/slot", m: c.slot})
		if got.usable() != (c.why == "") || !strings.Contains(got.why, c.why) {
			t.Errorf("%s: why %q, want %q", name, got.why, c.why)
		}
	}
}

// Drives that move are found again.
func TestDrivesMove(t *testing.T) {
	f := newFake()
	s := dial(t, serve(t, f))
	noError(t, s.Insert(t.Context(), sysPath, iso))
	f.with(func() {
		const moved = "/redfish/v1/Managers/1/VirtualMedia/1"
		f.resources[moved] = f.resources[slotPath]
		f.resources[moved]["@odata.id"] = moved
		delete(f.resources, slotPath)
		f.resources["/redfish/v1/Managers/1/VirtualMedia"] = members(moved)
	})
	sight, err := s.Look(t.Context(), sysPath)
	noError(t, err)
	if len(sight.Media) != 1 || !sight.Media[0].Inserted {
		t.Errorf("media: %+v", sight.Media)
	}
}
