package plan

import (
	"slices"
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

func TestBootLadder(t *testing.T) {
	const v, h, u, p, usb = fleet.VirtualMedia, fleet.VirtualMediaHTTP, fleet.UEFIHTTP, fleet.PXE, fleet.USB
	drive := []fleet.MediaSlot{{URI: "/vm/1", MediaTypes: []string{"CD"}, How: "action"}}
	for name, c := range map[string]struct {
		netboot string
		facts   fleet.Facts
		want    []fleet.BootRoute // nil: the default
		first   fleet.BootRoute
		why     string
		finding fleet.Severity
	}{
		"nothing to decide":      {"", fleet.Facts{VirtualMedia: drive}, nil, v, "", ""},
		"no drive, no network":   {"", fleet.Facts{}, nil, v, "", fleet.Blocker},
		"all there is":           {"eno1", fleet.Facts{VirtualMedia: drive, BootTargets: []string{"Pxe", "Cd", "UefiHttp"}}, nil, v, "", ""},
		"a BMC that says little": {"eno1", fleet.Facts{VirtualMedia: drive}, nil, v, "", ""},
		"no drive":               {"eno1", fleet.Facts{BootTargets: []string{"Pxe", "UefiHttp"}}, []fleet.BootRoute{u, p, usb}, u, "no drive", fleet.Warning},
		"BIOS without drive":     {"eno1", fleet.Facts{BootMode: fleet.Known("bios"), BootTargets: []string{"PXE", "UefiHttp"}}, []fleet.BootRoute{p, usb}, p, "BIOS mode", fleet.Warning},
		"disc and disk only":     {"eno1", fleet.Facts{VirtualMedia: drive, BootTargets: []string{"Cd", "Hdd"}}, []fleet.BootRoute{v, h, usb}, v, "no PXE", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := &maker{in: Input{Site: fleet.Site{Serving: fleet.Serving{Netboot: c.netboot}}}}
			d := &draft{facts: c.facts, hasFacts: true}
			d.BootRoute = fleet.VirtualMedia
			m.chooseRoutes(d, m.checkVirtualMedia(d))
			if !slices.Equal(d.BootRoutes, c.want) || d.BootRoute != c.first || !strings.Contains(strings.Join(d.Reasons, " "), c.why) {
				t.Errorf("%s, ladder %v, reasons %q", d.BootRoute, d.BootRoutes, d.Reasons)
			}
			if got := len(m.findings) > 0; got != (c.finding != "") || got && m.findings[0].Severity != c.finding {
				t.Errorf("findings %+v, want %q", m.findings, c.finding)
			}
		})
	}
}

func TestMedium(t *testing.T) {
	const full, minimal = fleet.FullMedium, fleet.MinimalMedium
	for name, c := range map[string]struct {
		site   fleet.Medium
		slow   []string
		server fleet.Medium
		want   fleet.Medium
		why    string
	}{
		"nothing said":                {"", nil, "", "", ""},
		"the default":                 {fleet.AutoMedium, nil, "", "", ""},
		"site":                        {minimal, nil, "", minimal, "serving.medium"},
		"slow link":                   {"", []string{"10.0.9.11-12"}, "", minimal, "bmcs.slowLinks"},
		"another BMC's slow link":     {full, []string{"10.0.9.12"}, "", full, "serving.medium"},
		"slow link in a site of full": {full, []string{"10.0.9.0/24"}, "", minimal, "bmcs.slowLinks"},
		"server":                      {minimal, []string{"10.0.9.11"}, full, full, "servers[3].medium"},
		"server left to what is seen": {minimal, []string{"10.0.9.11"}, fleet.AutoMedium, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := &maker{in: Input{Site: fleet.Site{Serving: fleet.Serving{Medium: c.site}, BMCs: fleet.BMCs{SlowLinks: c.slow}}}}
			d := &draft{override: fleet.Override{Medium: c.server}, overrideAt: "servers[3]"}
			d.BMC.Address = "10.0.9.11:443"
			m.chooseMedium(d)
			if d.Medium != c.want || !strings.Contains(strings.Join(d.Reasons, " "), c.why) || (len(d.Reasons) > 0) != (c.want != "") {
				t.Errorf("medium %q, reasons %q", d.Medium, d.Reasons)
			}
		})
	}
}
