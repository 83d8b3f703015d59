package plan

import (
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// chooseRoutes decides a server's boot ladder. Without an interface to boot from
// there is nothing to decide: the default ladder stands, and the engine leaves out
// what it cannot serve.
func (m *maker) chooseRoutes(d *draft, drive bool) {
	if m.in.Site.Serving.Netboot == "" {
		return
	}
	var ladder []fleet.BootRoute
	var left []string
	if drive {
		ladder = append(ladder, fleet.VirtualMedia, fleet.VirtualMediaHTTP)
	} else {
		left = append(left, "no virtual media, as the BMC has no drive for it")
	}
	// a BMC that lists no targets at all is asked when it comes to that
	offers := func(target string) bool {
		t := d.facts.BootTargets
		return len(t) == 0 || slices.ContainsFunc(t, func(s string) bool { return strings.EqualFold(s, target) })
	}
	mode := d.facts.BootMode.Or("")
	switch {
	case mode == "bios":
		left = append(left, "no UEFI HTTP boot, as the firmware is in BIOS mode")
	case !offers("UefiHttp"):
		left = append(left, "no UEFI HTTP boot, as the BMC does not list it")
	default:
		ladder = append(ladder, fleet.UEFIHTTP)
	}
	if offers("Pxe") {
		ladder = append(ladder, fleet.PXE)
	} else {
		left = append(left, "no PXE, as the BMC does not list it")
	}
	ladder = append(ladder, fleet.USB)
	d.BootRoute = ladder[0]
	if len(left) > 0 {
		d.BootRoutes = ladder
		d.because("boot ladder: %s", strings.Join(left, "; "))
	}
}

// chooseMedium decides what the server's BMC is given: what a person wants for
// the server, else what fits its BMC's link, else what the site says. Nothing is
// written into the plan where that is the default.
func (m *maker) chooseMedium(d *draft) {
	site := m.in.Site.Serving.Medium
	d.Medium = ""
	switch {
	case d.override.Medium != "":
		d.take(d.override.Medium, d.path("medium"))
	case m.in.Site.BMCs.HasSlowLink(d.BMC.Address):
		d.take(fleet.MinimalMedium, "bmcs.slowLinks")
	case site != "":
		d.take(site, "serving.medium")
	}
}

func (d *draft) take(medium fleet.Medium, field string) {
	switch medium {
	case fleet.MinimalMedium:
		d.because("minimal medium, as %s says: the server itself fetches its root file system from us", field)
	case fleet.FullMedium:
		d.because("full medium, as %s says", field)
	default: // the default needs no reason
		return
	}
	d.Medium = medium
}
