package tui

import (
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// bootCard tells the ways to boot a server: those that the engine has, and
// honestly those that are to come.
func (a *App) bootCard(s fleet.Status) *popup {
	p := a.open(a.f("boot method of %s", name(s)), nil)
	add := func(style Style, text string) { p.body = append(p.body, line(style, text)) }
	for _, r := range a.run.routes {
		add(Good, "✓ "+a.routeText(r))
	}
	add(Plain, "")
	if len(a.run.routes) < 2 {
		add(Plain, a.t("This is the only way that the engine has, so there is nothing to choose."))
	}
	for _, r := range []fleet.BootRoute{fleet.VirtualMediaHTTP, fleet.UEFIHTTP, fleet.PXE, fleet.USB} {
		if !slices.Contains(a.run.routes, r) {
			add(Faint, "- "+a.routeText(r)+": "+a.t("not in this engine"))
		}
	}
	return p
}

// faultCard says in full what could not be done.
func (a *App) faultCard(c *fleet.Cause) *popup {
	p := a.open(a.t("that did not work"), nil)
	page := a.page(c.Code)
	p.body = append(p.body, line(Bad, string(c.Code)+" "+page.Title), nil)
	for i, s := range c.Chain {
		p.body = append(p.body, line(Plain, strings.Repeat("  ", min(i, 4))+a.engineText(s)))
	}
	p.body = append(p.body, nil, line(Plain, page.Why), line(Heading, page.Remedy))
	return p
}

func (a *App) routeText(r fleet.BootRoute) string {
	switch r {
	case fleet.VirtualMedia:
		return a.t("virtual media: the BMC shows the machine a medium that metalrise serves")
	case fleet.VirtualMediaHTTP:
		return a.t("virtual media over HTTP, for BMCs that cannot do our TLS")
	case fleet.UEFIHTTP:
		return a.t("UEFI HTTP boot: the firmware fetches the medium itself")
	case fleet.PXE:
		return a.t("PXE: the network card asks for it")
	case fleet.USB:
		return a.t("a prepared ISO on a USB stick or disc")
	}
	return string(r)
}

// consoleCard says how to reach a server's console, with commands to paste. They
// name files of secrets, never secrets.
func (a *App) consoleCard(s fleet.Status) *popup {
	p := a.open(a.f("console of %s", name(s)), nil)
	add := func(style Style, text string) { p.body = append(p.body, line(style, text)) }
	host, port := fleet.SplitAddress(s.BMC)
	user, password := "USER", "-a"
	if b := a.hub.sheet.Site.BMCs; b.Username != "" {
		user = b.Username
		if b.Password.File != "" {
			password = "-f " + b.Password.File
		}
	}
	if as, ok := a.assignment(s.Server); ok && as.BMC.Username != "" {
		user = as.BMC.Username
	}
	add(Heading, a.t("Graphical console, in a browser:"))
	web := host
	if port != "" && port != "443" {
		web = host + ":" + port
	}
	add(Plain, "  https://"+web+"/")
	add(Heading, a.t("Serial console over the BMC (IPMI); ~. ends it:"))
	add(Plain, "  ipmitool -I lanplus -H "+host+" -U "+user+" \\")
	add(Plain, "    "+password+" sol activate")
	if password == "-a" {
		add(Plain, "  "+a.t("-a asks for the password"))
	}
	if as, ok := a.assignment(s.Server); ok && phaseAtLeast(s.Phase, fleet.Installed) {
		add(Heading, a.t("The installed system, with the key of the site file:"))
		address, _ := fleet.SplitAddress(as.Network.Address)
		if at, ok := bare(as.Network.Address); ok {
			address = at
		}
		add(Plain, "  ssh core@"+address)
	}
	add(Plain, "")
	add(Plain, a.t("metalrise opens no console itself yet; it shows no password."))
	return p
}

// bare takes the prefix length off an address.
func bare(address string) (string, bool) {
	for i, r := range address {
		if r == '/' {
			return address[:i], true
		}
	}
	return address, address != ""
}

func phaseAtLeast(p, least fleet.Phase) bool {
	all := fleet.Phases()
	return slices.Index(all, p) >= slices.Index(all, least)
}

// assignment is what the plan of the site file says of a server.
func (a *App) assignment(id fleet.ServerID) (fleet.Assignment, bool) {
	if a.hub.sheet.Plan == nil {
		return fleet.Assignment{}, false
	}
	return a.hub.sheet.Plan.Assignment(id)
}
