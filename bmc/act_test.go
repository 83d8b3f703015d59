package bmc

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

const iso = "https://10.0.0.1:8443/media/x/live.iso"

// onRequest answers requests of one method to one path, counted from 1; where
// answer says no, the fake does.
func onRequest(method, path string, answer func(n int, w http.ResponseWriter, r *http.Request, body object) bool) func(http.ResponseWriter, *http.Request, object) bool {
	n := 0
	return func(w http.ResponseWriter, r *http.Request, body object) bool {
		if r.Method != method || r.URL.Path != path {
			return false
		}
		n++
		return answer(n, w, r, body)
	}
}

func TestInsertAmendsItsRequest(t *testing.T) {
	has := func(body object, keys ...string) bool {
		for _, k := range keys {
			if _, ok := body[k]; !ok {
				return false
			}
		}
		return true
	}
	cases := map[string]func(w http.ResponseWriter, body object) bool{
		"flags unknown": func(w http.ResponseWriter, body object) bool {
			for _, k := range []string{"Inserted", "WriteProtected"} {
				if has(body, k) {
					complain(w, 400, "Base.1.4.ActionParameterNotSupported", k, "InsertMedia")
					return true
				}
			}
			return false
		},
		"protocol wanted": func(w http.ResponseWriter, body object) bool {
			if !has(body, "TransferProtocolType") {
				complain(w, 400, "Base.1.4.ActionParameterMissing", "InsertMedia", "TransferProtocolType")
				return true
			}
			if body["TransferProtocolType"] != "HTTPS" {
				t.Errorf("protocol %v", body["TransferProtocolType"])
			}
			return false
		},
		"method wanted as a path": func(w http.ResponseWriter, body object) bool {
			if !has(body, "TransferMethod") {
				complain(w, 400, "Base.1.4.PropertyMissing", "#/TransferMethod")
				return true
			}
			return false
		},
		"nothing named": func(w http.ResponseWriter, body object) bool {
			if len(body) != 2 || !has(body, "Image", "TransferProtocolType") {
				complain(w, 400, "Base.1.4.GeneralError")
				return true
			}
			return false
		},
	}
	for name, refuse := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.hook = onRequest("POST", slotPath+"/Insert", func(n int, w http.ResponseWriter, _ *http.Request, body object) bool {
				if n > maxVariants {
					t.Fatal("too many tries")
				}
				return refuse(w, body)
			})
			s := dial(t, serve(t, f))
			noError(t, s.Insert(t.Context(), sysPath, iso))
			if f.inserts != 1 {
				t.Errorf("%d inserts", f.inserts)
			}
		})
	}
}

func TestInsertEjectsStaleMedia(t *testing.T) {
	f := newFake()
	f.resources[slotPath]["Inserted"], f.resources[slotPath]["Image"] = true, "http://old/x.iso"
	s := dial(t, serve(t, f))
	noError(t, s.Insert(t.Context(), sysPath, iso))
	if c := f.changes(); len(c) != 2 || !strings.Contains(c[0], "/Eject {}") || !strings.Contains(c[1], "/Insert") {
		t.Errorf("changes: %v", c)
	}
}

// A BMC without virtual drives can be looked at; one that fails to show its
// drives must not look as if it had none.
func TestLookWithoutDrives(t *testing.T) {
	f := newFake()
	delete(f.resources, "/redfish/v1/Managers/1/VirtualMedia")
	sight, err := dial(t, serve(t, f)).Look(t.Context(), sysPath)
	noError(t, err)
	if len(sight.Media) != 0 || sight.Power.Or("") != fleet.PowerOff || sight.Identity.Serial != "SN1" || sight.BootOverride.Enabled != "Disabled" {
		t.Errorf("sight: %+v", sight)
	}
	for _, known := range []bool{false, true} {
		f = newFake()
		s := dial(t, serve(t, f))
		if known {
			_, err := s.Look(t.Context(), sysPath)
			noError(t, err)
		}
		f.with(func() {
			f.hook = onRequest("GET", slotPath, func(_ int, w http.ResponseWriter, _ *http.Request, _ object) bool {
				complain(w, 500, "Base.1.0.InternalError")
				return true
			})
		})
		_, err = s.Look(t.Context(), sysPath)
		wantFault(t, err, fleet.CodeBMCRejected, fleet.Transient)
	}
}

// One drive shown in two places is ejected once.
func TestEjectOfOneDriveSeenTwice(t *testing.T) {
	f := newFake()
	f.resources[sysPath]["VirtualMedia"] = ref(sysPath + "/VirtualMedia")
	f.resources[sysPath+"/VirtualMedia"] = members(sysPath + "/VirtualMedia/CD")
	f.resources[sysPath+"/VirtualMedia/CD"] = f.resources[slotPath]
	f.resources[slotPath]["Inserted"], f.resources[slotPath]["Image"] = true, iso
	s := dial(t, serve(t, f))
	noError(t, s.Eject(t.Context(), sysPath))
	if c := f.changes(); len(c) != 1 {
		t.Errorf("changes: %v", c)
	}
}

func TestInsertByPatch(t *testing.T) {
	f := newFake()
	delete(f.resources[slotPath], "Actions")
	s := dial(t, serve(t, f))
	noError(t, s.Insert(t.Context(), sysPath, iso))
	noError(t, s.Eject(t.Context(), sysPath))
	noError(t, s.Eject(t.Context(), sysPath))
	if c := f.changes(); len(c) != 2 || !strings.HasPrefix(c[0], "PATCH "+slotPath) {
		t.Errorf("changes: %v", c)
	}
}

func TestInsertGoesToTheNextSlot(t *testing.T) {
	f := newFake()
	const own = sysPath + "/VirtualMedia"
	f.resources[sysPath]["VirtualMedia"] = ref(own)
	f.resources[own] = members(own+"/USB", own+"/DVD")
	f.resources[own+"/USB"] = object{"@odata.id": own + "/USB", "MediaTypes": []any{"USBStick"}, "Image": nil}
	f.resources[own+"/DVD"] = object{"@odata.id": own + "/DVD", "MediaTypes": []any{"DVD"}, "Inserted": false, "Image": nil,
		"Actions": object{"#VirtualMedia.InsertMedia": object{"target": own + "/DVD/Insert"}}}
	s := dial(t, serve(t, f)) // own+"/DVD/Insert" does not exist: 404
	noError(t, s.Insert(t.Context(), sysPath, iso))
	if f.inserts != 1 {
		t.Errorf("changes: %v", f.changes())
	}
}

func TestInsertFaults(t *testing.T) {
	answer := func(status int, id string) func(int, http.ResponseWriter, *http.Request, object) bool {
		return func(n int, w http.ResponseWriter, _ *http.Request, _ object) bool {
			complain(w, status, id)
			return true
		}
	}
	lie := func(n int, w http.ResponseWriter, _ *http.Request, _ object) bool {
		w.WriteHeader(http.StatusNoContent)
		return true
	}
	cases := []struct {
		name   string
		answer func(int, http.ResponseWriter, *http.Request, object) bool
		code   fleet.Code
		kind   fleet.Kind
	}{
		{"licence", answer(400, "iLO.2.14.LicenseKeyRequired"), fleet.CodeBMCLicence, fleet.Denied},
		{"licence of Dell", answer(403, "IDRAC.2.8.LIC501"), fleet.CodeBMCLicence, fleet.Denied},
		{"not loaded", answer(400, "Base.1.9.CouldNotEstablishConnection"), fleet.CodeMediaLost, fleet.Transient},
		{"accepted, not shown", lie, fleet.CodeMediaLost, fleet.Transient},
		{"server error", answer(500, "Base.1.0.InternalError"), fleet.CodeBMCRejected, fleet.UnsureKind},
		{"no rights", answer(403, "Base.1.0.InsufficientPrivilege"), fleet.CodeBMCRejected, fleet.Denied},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := newFake()
			f.hook = onRequest("POST", slotPath+"/Insert", c.answer)
			l := serve(t, f)
			l.Options.Settle = 20 * time.Millisecond
			wantFault(t, dial(t, l).Insert(t.Context(), sysPath, iso), c.code, c.kind)
		})
	}
	f := newFake()
	f.resources[slotPath]["MediaTypes"] = []any{"USBStick"}
	wantFault(t, dial(t, serve(t, f)).Insert(t.Context(), sysPath, iso), fleet.CodeBMCUnsupported, fleet.Unsupported)
}

func TestInsertAwaitsItsTask(t *testing.T) {
	for _, end := range []string{"Completed", "Exception", "vanishes"} {
		f := newFake()
		polls := 0
		f.hook = func(w http.ResponseWriter, r *http.Request, body object) bool {
			switch r.URL.Path {
			case slotPath + "/Insert":
				w.Header().Set("Location", "/redfish/v1/TaskMonitors/1")
				w.WriteHeader(http.StatusAccepted)
				f.resources[slotPath]["Image"] = body["Image"]
				return true
			case "/redfish/v1/TaskMonitors/1":
				polls++
				if polls < 3 {
					w.WriteHeader(http.StatusAccepted)
					fmt.Fprint(w, `{"TaskState":"Running"}`)
					return true
				}
				f.resources[slotPath]["Inserted"] = end != "Exception"
				if end == "vanishes" {
					return false
				}
				fmt.Fprintf(w, `{"TaskState":%q,"Messages":[{"MessageId":"Base.1.9.CouldNotEstablishConnection"}]}`, end)
				return true
			}
			return false
		}
		err := dial(t, serve(t, f)).Insert(t.Context(), sysPath, iso)
		if end == "Exception" {
			wantFault(t, err, fleet.CodeMediaLost, fleet.Transient)
		} else if err != nil {
			t.Errorf("%s: %v", end, err)
		}
	}
}

func TestPower(t *testing.T) {
	set := func(f *fakeBMC, power string, types ...any) {
		f.resources[sysPath]["PowerState"] = power
		f.resources[sysPath]["Actions"] = object{"#ComputerSystem.Reset": object{"target": sysPath + "/Actions/Reset", "ResetType@Redfish.AllowableValues": types}}
	}
	cases := []struct {
		name, power string
		types       []any
		wish        Wish
		want        string // reset types sent
	}{
		{"already on", "On", []any{"On"}, On, ""},
		{"already off", "Off", []any{"ForceOff"}, ForceOff, ""},
		{"on", "Off", []any{"On", "ForceOn"}, On, "On"},
		{"on by another word", "Off", []any{"ForceOn"}, On, "ForceOn"},
		{"restart", "On", []any{"ForceRestart", "PowerCycle"}, Restart, "ForceRestart"},
		{"cycle", "On", []any{"On", "ForceOff", "PowerCycle"}, Restart, "PowerCycle"},
		{"restart in two steps", "On", []any{"On", "ForceOff"}, Restart, "ForceOff On"},
		{"restart of one that is off", "Off", []any{"On", "ForceRestart"}, Restart, "On"},
		{"graceful", "On", []any{"ForceOff", "GracefulShutdown"}, GracefulOff, "GracefulShutdown"},
		{"no list", "Off", nil, On, "On"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := newFake()
			set(f, c.power, c.types...)
			s := dial(t, serve(t, f))
			noError(t, s.Power(t.Context(), sysPath, c.wish))
			var sent []string
			for _, call := range f.changes() {
				_, word, _ := strings.Cut(call, `"ResetType":"`)
				sent = append(sent, strings.TrimSuffix(word, `"}`))
			}
			if got := strings.Join(sent, " "); got != c.want {
				t.Errorf("sent %q, want %q", got, c.want)
			}
		})
	}
	f := newFake()
	set(f, "On", "On", "ForceOff")
	wantFault(t, dial(t, serve(t, f)).Power(t.Context(), sysPath, GracefulOff), fleet.CodeBMCUnsupported, fleet.Unsupported)
	wantFault(t, dial(t, serve(t, f)).Power(t.Context(), sysPath, "sideways"), fleet.CodeBMCUnsupported, fleet.Invalid)
}

func TestPowerOnTooSoon(t *testing.T) {
	f := newFake()
	f.hook = onRequest("POST", sysPath+"/Actions/Reset", func(n int, w http.ResponseWriter, _ *http.Request, _ object) bool {
		if n < 4 {
			complain(w, 409, "Base.1.12.ActionParameterValueConflict")
		}
		return n < 4
	})
	s := dial(t, serve(t, f))
	noError(t, s.Power(t.Context(), sysPath, On))
	noError(t, s.WaitPower(t.Context(), sysPath, fleet.PowerOn))
}

func TestPowerAlreadySoIsSuccessAfterLooking(t *testing.T) {
	f := newFake()
	f.hook = onRequest("POST", sysPath+"/Actions/Reset", func(n int, w http.ResponseWriter, _ *http.Request, _ object) bool {
		f.resources[sysPath]["PowerState"] = "On" // somebody else was faster
		complain(w, 400, "IDRAC.2.8.PSU501")
		return true
	})
	noError(t, dial(t, serve(t, f)).Power(t.Context(), sysPath, On))
}

func TestWaitPowerSaysWhatItSaw(t *testing.T) {
	f := newFake()
	s := dial(t, serve(t, f))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := s.WaitPower(ctx, sysPath, fleet.PowerOn)
	wantFault(t, err, fleet.CodePowerStuck, fleet.Transient)
	if !strings.Contains(err.Error(), "still off") {
		t.Error(err)
	}
}

func TestBootOnce(t *testing.T) {
	boot := func(f *fakeBMC) object { return f.resources[sysPath]["Boot"].(object) }
	cases := []struct {
		name   string
		change func(f *fakeBMC)
		target Target
		want   string // last request
	}{
		{"plain", func(f *fakeBMC) {}, Cd, `PATCH ` + sysPath + ` {"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"UEFI","BootSourceOverrideTarget":"Cd"}}`},
		{"no mode", func(f *fakeBMC) { delete(boot(f), "BootSourceOverrideMode") }, Pxe, `PATCH ` + sysPath + ` {"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"Pxe"}}`},
		{"mode refused", func(f *fakeBMC) {
			f.hook = func(w http.ResponseWriter, r *http.Request, body object) bool {
				if b, ok := body["Boot"].(object); ok && b["BootSourceOverrideMode"] != nil {
					complain(w, 400, "Base.1.4.PropertyNotWritable", "BootSourceOverrideMode")
					return true
				}
				return false
			}
		}, Hdd, `PATCH ` + sysPath + ` {"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideTarget":"Hdd"}}`},
		{"usb cd", func(f *fakeBMC) {
			f.resources[sysPath]["Manufacturer"] = "Supermicro"
			boot(f)["BootSourceOverrideTarget@Redfish.AllowableValues"] = []any{"Cd", "UsbCd"}
		}, Cd, `PATCH ` + sysPath + ` {"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"UEFI","BootSourceOverrideTarget":"UsbCd"}}`},
		{"settings object", func(f *fakeBMC) {
			f.resources[sysPath]["@Redfish.Settings"] = object{"SettingsObject": ref(sysPath + "/SD")}
			f.resources[sysPath+"/SD"] = object{"Boot": object{"BootSourceOverrideTarget": "None", "BootSourceOverrideEnabled": "Disabled"}}
		}, UefiHTTP, `PATCH ` + sysPath + `/SD {"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"UEFI","BootSourceOverrideTarget":"UefiHttp"}}`},
		{"settings object without boot", func(f *fakeBMC) {
			f.resources[sysPath]["@Redfish.Settings"] = object{"SettingsObject": ref(sysPath + "/SD")}
			f.resources[sysPath+"/SD"] = object{"AssetTag": ""}
		}, Cd, `PATCH ` + sysPath + ` {"Boot":{"BootSourceOverrideEnabled":"Once","BootSourceOverrideMode":"UEFI","BootSourceOverrideTarget":"Cd"}}`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := newFake()
			c.change(f)
			noError(t, dial(t, serve(t, f)).BootOnce(t.Context(), sysPath, c.target))
			calls := f.changes()
			if got := calls[len(calls)-1]; got != c.want {
				t.Errorf("sent %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestBootOnceFaults(t *testing.T) {
	f := newFake()
	f.resources[sysPath]["Boot"].(object)["BootSourceOverrideTarget@Redfish.AllowableValues"] = []any{"None", "Pxe"}
	s := dial(t, serve(t, f))
	wantFault(t, s.BootOnce(t.Context(), sysPath, Cd), fleet.CodeBMCUnsupported, fleet.Unsupported)
	wantFault(t, s.BootOnce(t.Context(), sysPath, "moon"), fleet.CodeBMCUnsupported, fleet.Invalid)

	f = newFake()
	f.hook = onRequest("PATCH", sysPath, func(_ int, w http.ResponseWriter, _ *http.Request, _ object) bool {
		w.WriteHeader(http.StatusOK) // and does nothing
		return true
	})
	l := serve(t, f)
	l.Options.Settle = 20 * time.Millisecond
	wantFault(t, dial(t, l).BootOnce(t.Context(), sysPath, Cd), fleet.CodeBMCRejected, fleet.Transient)
}

func TestETagForms(t *testing.T) {
	for _, accepted := range []string{`W/"7"`, `"7"`, ""} {
		f := newFake()
		f.resources[sysPath]["@odata.etag"] = `W/"7"`
		f.hook = onRequest("PATCH", sysPath, func(_ int, w http.ResponseWriter, r *http.Request, _ object) bool {
			if r.Header.Get("If-Match") != accepted {
				complain(w, 412, "Base.1.4.PreconditionFailed")
				return true
			}
			return false
		})
		if err := dial(t, serve(t, f)).BootOnce(t.Context(), sysPath, Cd); err != nil {
			t.Errorf("If-Match %q: %v", accepted, err)
		}
	}
	f := newFake()
	f.hook = onRequest("PATCH", sysPath, func(_ int, w http.ResponseWriter, r *http.Request, _ object) bool {
		if r.Header.Get("If-Match") == "" {
			complain(w, 428, "Base.1.4.PreconditionRequired")
			return true
		}
		return false
	})
	noError(t, dial(t, serve(t, f)).BootOnce(t.Context(), sysPath, Cd))
}
