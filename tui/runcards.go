package tui

import (
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// bootCard tells the ways to boot a server: the one in use, why others were left
// or cannot be taken, and lets a person choose where the next attempt begins.
func (a *App) bootCard(s fleet.Status) *popup {
	p := a.open(a.f("boot method of %s", name(s)), nil)
	row := func(style Style, text string, pick func() []Action) {
		p.body, p.picks = append(p.body, line(style, text)), append(p.picks, pick)
	}
	open := len(s.Routes) > 0
	switch {
	case !open:
		row(Plain, a.t("This server boots from its own disk now; nothing is to be chosen."), nil)
	case s.Condition == fleet.Held:
		row(Plain, a.t("Choose where the next attempt begins. If it does not carry, those below it are tried."), nil)
	default:
		row(Plain, a.t("The engine goes down this list by itself. Once the server is held, another way can be chosen here."), nil)
	}
	row(Plain, "", nil)
	for _, o := range a.ladder(s) {
		mark, style, why := a.rung(s, o)
		var pick func() []Action
		if open && s.Condition == fleet.Held && o.Unserved == "" {
			pick = func() []Action { return a.retryBy(s, o.Route) }
		}
		row(style, mark+" "+a.routeText(o.Route)+why, pick)
	}
	p.cursor = -1
	p.choose(1)
	if p.cursor < 0 {
		p.cursor, p.picks = 0, nil
		return p
	}
	p.does = a.t("↑↓ choose   Enter begin another attempt this way   Esc back")
	row(Plain, "", nil)
	row(Plain, a.f("The same by command: metalrise retry %s --route NAME", name(s)), nil)
	return p
}

// ladder is a server's boot ladder; from a stopped engine it is not known what
// can be served, and that is found out when it starts.
func (a *App) ladder(s fleet.Status) []fleet.RouteOffer {
	out := slices.Clone(s.Routes)
	if len(out) == 0 {
		for _, r := range fleet.BootRoutes() {
			out = append(out, fleet.RouteOffer{Route: r})
		}
	}
	for i := range out {
		if !a.run.view.Engine {
			out[i].Unserved = ""
		}
	}
	return out
}

// rung tells how one way to boot a server stands.
func (a *App) rung(s fleet.Status, o fleet.RouteOffer) (mark string, style Style, why string) {
	for _, m := range s.Missed {
		if m.Route == o.Route && o.Unserved == "" {
			why = " – " + a.f("left: %s", a.causeText(&m.Cause))
			if m.Medium == fleet.FullMedium {
				why = " – " + a.f("full medium left: %s", a.causeText(&m.Cause))
			}
		}
	}
	switch {
	case o.Unserved != "":
		return "-", Faint, " – " + a.f("cannot be taken: %s", a.engineText(o.Unserved))
	case o.Route == s.Route:
		if s.Medium == fleet.MinimalMedium {
			return "●", Good, why + " – " + a.t("used by this attempt, with the minimal medium")
		}
		return "●", Good, why + " – " + a.t("used by this attempt")
	case why != "":
		return "✗", Warn, why
	}
	return "·", Plain, ""
}

// retryBy gives a held server another attempt that begins this way.
func (a *App) retryBy(s fleet.Status, r fleet.BootRoute) []Action {
	a.run.note = a.f("asking for another attempt with %s", name(s)) + ": " + string(r)
	return []Action{{Do: DoRetry, Server: s.Server, Route: r}}
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
