package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"metalrise.dev/fleet"
	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/fake"
	"metalrise.dev/lab/redfish"
)

// TestBMCScripts drives an emulated BMC with the bmc commands, as a person
// would. The name of a script up to its first dash is the BMC's personality.
func TestBMCScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/bmc",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": wantExitCode, "fault": setFault},
		Setup: func(e *testscript.Env) error {
			name, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(e.WorkDir), "script-"), "-")
			p, err := redfish.ParsePersonality(name)
			if err != nil {
				return err
			}
			spec := machine.Spec{Name: "b1", UUID: "5b1f2c3d-0a4b-4c5d-8e6f-7a8b9c0d1e2f", Serial: "SN0001", Vendor: "Contoso", Model: "R1",
				Firmware: "uefi", CPUs: 2, MemoryMiB: 4096, Dir: "unused", Disks: []machine.Disk{{Name: "d", Serial: "D1", SizeBytes: 1 << 30}}}
			b, err := redfish.Start(t.Context(), redfish.Config{
				Listen: "127.0.0.1:0", Username: "admin", Password: "secret", Spec: spec, Hardware: fake.New(spec, nil),
				Dir: e.WorkDir, Personality: p, Delays: redfish.Delays{PowerOn: 20 * time.Millisecond, PowerOff: 20 * time.Millisecond},
			})
			if err != nil {
				return err
			}
			e.Defer(func() { _ = b.Close() })
			iso := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.ServeContent(w, r, "live.iso", time.Time{}, strings.NewReader(strings.Repeat("medium", 1000)))
			}))
			e.Defer(iso.Close)
			e.Values["bmc"] = b
			e.Setenv("METALRISE_STATE", filepath.Join(e.WorkDir, "state"))
			e.Setenv("BMC", b.Addr())
			e.Setenv("ISO", iso.URL+"/live.iso")
			e.Setenv("PIN", b.Fingerprint())
			_, port, _ := strings.Cut(b.Addr(), ":")
			site := strings.ReplaceAll(siteOfBMC, "PORT", port)
			return os.WriteFile(filepath.Join(e.WorkDir, "site.yaml"), []byte(site), 0o600)
		},
	})
}

func TestBMCLeavesMovingServersAlone(t *testing.T) {
	view := fleet.Overview{Engine: true, Servers: []fleet.Status{
		{BMC: "10.0.0.1:443", Hostname: "a", Condition: fleet.Waiting}, {BMC: "10.0.0.2:443", Hostname: "b", Condition: fleet.Held}}}
	if err := moving(view, "10.0.0.1:443"); err == nil {
		t.Error("a server that the engine works on may be changed")
	}
	if err := moving(view, "10.0.0.2:443"); err != nil {
		t.Errorf("a held server: %v", err)
	}
	view.Engine = false
	if err := moving(view, "10.0.0.1:443"); err != nil {
		t.Errorf("without an engine: %v", err)
	}
}

// setFault arms a fault of the BMC: "fault lose-reply method=POST path=*Reset".
func setFault(ts *testscript.TestScript, _ bool, args []string) {
	f, err := redfish.ParseFault(strings.Join(args, " "))
	ts.Check(err)
	ts.Check(ts.Value("bmc").(*redfish.BMC).SetFault(f))
}

const siteOfBMC = `apiVersion: metalrise.dev/v1alpha1
kind: Site
name: oslo
bmcs:
  addresses: [127.0.0.1]
  port: PORT
  username: admin
  password: {file: pw}
network:
  firstAddress: 198.51.100.21/24
  gateway: 198.51.100.1
  dns: [198.51.100.2]
image: image
access:
  sshKeys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJYOoq0Fy7kWZfA7YyW6yRk1ZbLXFYcAQC2iOWYTmtTB me"]
`
