package tui

import (
	"fmt"
	"os"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

func TestMain(m *testing.M) {
	time.Local = time.UTC // screens show local times
	os.Exit(m.Run())
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// sampleSheet is a site of n servers that were read and planned.
func sampleSheet(n int) Sheet {
	site := fleet.Site{APIVersion: fleet.APIVersion, Kind: "Site", Name: "osaka"}
	site.BMCs = fleet.BMCs{Addresses: []string{"10.0.9.11-15"}, Username: "admin", Password: fleet.SecretRef{File: "osaka-bmc-password"}}
	site.Network = fleet.SiteNetwork{FirstAddress: "10.0.1.21/24", Gateway: "10.0.1.1"}
	site.Image = "/srv/image"
	full := site
	full.Virtualization.Profile = fleet.ProfileGeneral
	s := Sheet{Path: "site.yaml", Exists: true, Typed: site, Site: full, Revision: 1}
	p := fleet.Plan{ID: "4be1c9d2a7f04be1c9d2a7f0", Site: "osaka", Image: fleet.ImageRef{Stream: "stable", Version: "44.1"}}
	for i := range n {
		id := fleet.ServerID(fmt.Sprintf("SN%05d", i+1))
		at := fleet.Endpoint{Address: fmt.Sprintf("10.0.9.%d:443", 11+i)}
		s.Found = append(s.Found, fleet.Found{Address: at.Address, At: noon.Add(-time.Minute), What: "redfish", Vendor: "Example", Product: "Board 7"})
		disks := []fleet.Disk{
			{Serial: fmt.Sprintf("D%d-A", i+1), SizeBytes: fleet.Known(int64(480e9)), Media: fleet.MediaSSD},
			{Serial: fmt.Sprintf("D%d-B", i+1), SizeBytes: fleet.Known(int64(8e12)), Media: fleet.MediaHDD, Contents: []string{"LVM physical volume"}},
		}
		s.Servers = append(s.Servers, Known{
			Server: fleet.Server{ID: id, Identity: fleet.Identity{Serial: string(id)}, BMC: at},
			Facts: fleet.Facts{Source: fleet.SeenByBMC, At: noon.Add(-30 * time.Second), Manufacturer: fleet.Known("Example"), Model: fleet.Known("R7"),
				CPU: fleet.CPU{Threads: fleet.Known(64)}, MemoryMiB: fleet.Known(int64(262144)), Disks: disks,
				NICs: []fleet.NIC{{MAC: "52:54:00:00:00:01", Link: fleet.Known(true)}}},
		})
		role, host := fleet.Worker, fmt.Sprintf("osaka-w%d", i-2)
		if i < 3 {
			role, host = fleet.ControlPlane, fmt.Sprintf("osaka-cp%d", i+1)
		}
		p.Assignments = append(p.Assignments, fleet.Assignment{Server: id, BMC: at, Role: role, Hostname: host,
			Network:     fleet.Network{MAC: "52:54:00:00:00:01", Address: fmt.Sprintf("10.0.1.%d/24", 21+i)},
			InstallDisk: fleet.DiskRef{Serial: disks[0].Serial, SizeBytes: 480e9}, KeepDisks: []fleet.DiskRef{{Serial: disks[1].Serial, SizeBytes: 8e12}},
			Reasons: []string{"three control planes, filled in the order of servers"}})
	}
	p.Findings = []fleet.Finding{
		{Code: fleet.CodeAmbiguousNIC, Severity: fleet.Warning, Server: "SN00002", Path: "servers[].mac", Text: "two ports have link; the lowest MAC was taken", Remedy: "Name the MAC under servers."},
		{Code: fleet.CodeFactsOld, Severity: fleet.Info, Path: "facts", Text: "the facts are two days old", Remedy: "Inspect again."},
	}
	s.Plan = &p
	return s
}

// sampleRun is a run of n servers in all conditions, with the journal of one
// that was held.
func sampleRun(n int) Watched {
	v := fleet.Overview{Site: "osaka", Plan: "4be1c9d2a7f04be1c9d2a7f0", At: noon, Engine: true}
	for i := range n {
		s := fleet.Status{Server: fleet.ServerID(fmt.Sprintf("SN%05d", i+1)), Hostname: fmt.Sprintf("osaka-w%d", i+1), Role: fleet.Worker,
			BMC: fmt.Sprintf("10.0.9.%d:443", 11+i), Attempt: 1, Since: noon.Add(-42 * time.Second), Phase: fleet.Booted}
		switch i % 5 {
		case 0:
			s.Condition, s.Step, s.Done, s.Total = fleet.Moving, "wait for the agent to write the disk", 43e8, 100e8
		case 1:
			s.Condition, s.Step, s.Attempt = fleet.Held, "RUN-005 the live system did not call home", 2
			s.Cause = &fleet.Cause{Code: fleet.CodeBootSilent, Kind: fleet.Transient, Chain: []string{"no call within 20m0s after power-on", "BMC shows power on, medium inserted"}}
			s.Route, s.Missed = fleet.UEFIHTTP, []fleet.RouteFault{
				{Route: fleet.VirtualMedia, Cause: fleet.Cause{Code: fleet.CodeMediaLost, Kind: fleet.Transient, Chain: []string{"nobody asked for its medium"}}},
				{Route: fleet.VirtualMediaHTTP, Cause: fleet.Cause{Code: fleet.CodeNoVirtualMedia, Kind: fleet.Unsupported, Chain: []string{"not tried: media are not served without TLS"}}}}
			for _, r := range fleet.BootRoutes() {
				s.Routes = append(s.Routes, fleet.RouteOffer{Route: r})
			}
			s.Routes[1].Unserved = "media are not served without TLS"
		case 2:
			s.Phase, s.Condition, s.Step = fleet.Staged, fleet.Waiting, "wait for the live system to call home"
		case 3:
			s.Phase, s.Condition, s.Step, s.KVM = fleet.Installed, fleet.Settled, "installed", fleet.Known(fleet.KVM{Usable: true})
		case 4:
			s.Phase, s.Condition, s.Step = fleet.Planned, fleet.Moving, "identify"
		}
		v.Servers = append(v.Servers, s)
	}
	w := Watched{Overview: v}
	add := func(e fleet.Event) {
		e.Seq, e.Plan = int64(len(w.Events)+1), v.Plan
		e.At = noon.Add(time.Duration(len(w.Events)-30) * 10 * time.Second)
		w.Events = append(w.Events, e)
	}
	add(fleet.Event{Action: fleet.ActConsent, Edge: fleet.Ended, Outcome: fleet.OK, Note: "5 disks, by tanaka"})
	for _, id := range []fleet.ServerID{"SN00001", "SN00002"} {
		add(fleet.Event{Server: id, Attempt: 1, Action: fleet.ActInsert, Edge: fleet.Began})
		add(fleet.Event{Server: id, Attempt: 1, Action: fleet.ActInsert, Edge: fleet.Ended, Outcome: fleet.Failed,
			Cause: &fleet.Cause{Code: fleet.CodeBMCBusy, Kind: fleet.Transient, Chain: []string{"insert medium", "503 service unavailable"}}})
		add(fleet.Event{Server: id, Attempt: 1, Action: fleet.ActInsert, Edge: fleet.Began})
		add(fleet.Event{Server: id, Attempt: 1, Action: fleet.ActInsert, Edge: fleet.Ended, Outcome: fleet.Adopted})
		add(fleet.Event{Server: id, Attempt: 1, Action: fleet.ActPowerOn, Edge: fleet.Ended, Outcome: fleet.OK})
	}
	add(fleet.Event{Server: "SN00001", Attempt: 1, Action: fleet.ActHello, Edge: fleet.Ended, Outcome: fleet.OK, Note: "the live system called home from 10.0.1.21"})
	add(fleet.Event{Server: "SN00001", Attempt: 1, Action: fleet.ActWrite, Edge: fleet.Began, Note: "erase and write disk serial D1-A"})
	add(fleet.Event{Server: "SN00002", Attempt: 2, Action: fleet.ActHold, Edge: fleet.Ended, Cause: v.Servers[min(1, n-1)].Cause})
	return w
}

func at(in Input) Input {
	in.At = noon
	return in
}

func press(a *App, keys ...string) []Action {
	var out []Action
	for _, k := range keys {
		out = append(out, a.Step(at(keyOf(k)))...)
	}
	return out
}

// keyOf makes an Input of a key's name, or of text.
func keyOf(k string) Input {
	if len(k) > 1 && k != " " {
		return Input{Key: k}
	}
	return Input{Text: k}
}

func typeText(a *App, s string) {
	for _, r := range s {
		a.Step(at(Input{Text: string(r)}))
	}
}

func sized(o Options, w, h int) *App {
	a := New(o)
	a.Step(at(Input{Size: &Size{w, h}}))
	return a
}
