package tui

import (
	"fmt"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// fixesOf names the values that a fault of this code is about, most likely ones
// first: paths of the site file, or with a leading dot of the server's entry.
func fixesOf(c fleet.Code) []string {
	switch c {
	case fleet.CodeBMCUnreachable, fleet.CodeBMCNotRedfish:
		return []string{"bmcs.addresses"}
	case fleet.CodeBMCLoginRefused, fleet.CodeBMCPasswordChange, fleet.CodeBMCLoginsSpent, fleet.CodeSecretUnreadable:
		return []string{"bmcs.password", "bmcs.username"}
	case fleet.CodeBMCTLSCipher, fleet.CodeBMCTLSVersion, fleet.CodeBMCTLSSerial:
		return []string{"bmcs.legacyTLS"}
	case fleet.CodeMediaLost, fleet.CodeBootSilent:
		return []string{"serving.address", "network.vlan", ".mac", ".address"}
	case fleet.CodeDiskForeign:
		return []string{".eraseForeign", ".disk"}
	case fleet.CodeDiskChanged, fleet.CodeWriteFailed, fleet.CodeNoInstallDisk, fleet.CodeDiskUnknown:
		return []string{".disk"}
	case fleet.CodeFactsDiffer, fleet.CodeNoNIC:
		return []string{".mac", ".disk"}
	case fleet.CodeArriveSilent, fleet.CodeNodeSilent:
		return []string{".address", "network.gateway", "network.vlan", ".mac", "serving.address"}
	case fleet.CodeNodeJoin, fleet.CodeNodeNotAdmitted:
		return []string{".hostname", ".address"}
	case fleet.CodeClusterAddress, fleet.CodeAddressTaken:
		return []string{"cluster.vip", "cluster.loadBalancer"}
	case fleet.CodeClusterNetwork:
		return []string{"cluster.podCIDR", "cluster.serviceCIDR"}
	case fleet.CodePayloadInvalid, fleet.CodePayloadCorrupt:
		return []string{"cluster.software"}
	case fleet.CodeKVMUnproven:
		return []string{"virtualization.emulation"}
	case fleet.CodeClusterBegin:
		return []string{"cluster.vip", "cluster.podCIDR", "cluster.serviceCIDR"}
	case fleet.CodeNetworkInvalid:
		return []string{"network.gateway", "network.dns", "network.ntp"}
	}
	return nil
}

// remedies lists what can be changed for a held server.
func (a *App) remedies(s fleet.Status) []remedy {
	var out []remedy
	paths := fixesOf(s.Cause.Code)
	if len(paths) == 0 {
		paths = []string{".address", ".mac", ".disk", ".hostname"}
	}
	for _, p := range paths {
		out = append(out, a.remediesAt(s.Server, p)...)
	}
	return out
}

func (a *App) remediesAt(id fleet.ServerID, path string) []remedy {
	as, _ := a.assignment(id)
	switch path {
	case ".disk":
		return a.diskChoices(id, as)
	case ".mac":
		return a.portChoices(id, as)
	case ".address":
		return []remedy{{label: a.t("address of this server"), path: "address", one: true, now: as.Network.Address}}
	case ".hostname":
		return []remedy{{label: a.t("host name of this server"), path: "hostname", one: true, now: as.Hostname}}
	case ".eraseForeign":
		return []remedy{{label: a.t("serial of the foreign disk that may be erased"), path: "eraseForeign", one: true}}
	case "virtualization.emulation":
		return []remedy{{label: a.t("VMs may be emulated (true or false)"), path: path, kind: choice, now: fmt.Sprint(a.hub.sheet.Typed.Virtualization.Emulation)}}
	}
	for s := stepFind; s <= stepSoftware; s++ {
		for _, f := range fields(s) {
			if f.path == path {
				return []remedy{{label: a.t(f.label), path: path, kind: f.kind, now: ValueAt(a.hub.sheet.Typed, path)}}
			}
		}
	}
	c := a.hub.sheet.Typed.Cluster
	now := map[string]string{"cluster.vip": c.VIP, "cluster.loadBalancer": c.LoadBalancer, "cluster.podCIDR": c.PodCIDR, "cluster.serviceCIDR": c.ServiceCIDR,
		"cluster.software": c.Software, "bmcs.legacyTLS": strings.Join(a.hub.sheet.Typed.BMCs.LegacyTLS, ", ")}
	r := remedy{label: path, path: path, now: now[path]}
	if path == "bmcs.legacyTLS" {
		r.kind = list
	}
	return []remedy{r}
}

func (a *App) factsOf(id fleet.ServerID) fleet.Facts {
	for _, k := range a.hub.sheet.Servers {
		if k.Server.ID == id {
			return k.Facts
		}
	}
	return fleet.Facts{}
}

func (a *App) diskChoices(id fleet.ServerID, as fleet.Assignment) []remedy {
	var out []remedy
	for _, d := range a.factsOf(id).Disks {
		ref := map[string]string{"serial": d.Serial}
		what := d.Serial
		if d.Serial == "" {
			ref, what = map[string]string{"wwn": d.WWN}, d.WWN
		}
		if what == "" {
			continue
		}
		size := "?"
		if v, ok := d.SizeBytes.Get(); ok {
			size = sizeText(v)
		}
		now := strings.Join([]string{what, size, string(d.Media)}, " ")
		if as.InstallDisk.Match(d) {
			now += " (" + a.t("planned") + ")"
		}
		out = append(out, remedy{label: a.t("install on disk"), path: "disk", one: true, pick: true, value: ref, now: now})
	}
	return out
}

func (a *App) portChoices(id fleet.ServerID, as fleet.Assignment) []remedy {
	var out []remedy
	for _, n := range a.factsOf(id).NICs {
		if n.MAC == "" {
			continue
		}
		now := n.MAC + " " + n.Name + " " + a.linkText(n.Link)
		if n.MAC == as.Network.MAC {
			now += " (" + a.t("planned") + ")"
		}
		out = append(out, remedy{label: a.t("use network port"), path: "mac", one: true, pick: true, value: n.MAC, now: now})
	}
	return out
}

func (a *App) fixKeys() string {
	f := a.run.fix
	switch {
	case f.stage == fixTyping:
		return a.t("Enter save in the site file   Esc back   Ctrl-U clear   F1 help")
	case f.stage == fixAsking && f.exclude && f.wrong == "":
		return a.t("y leave it out   n no")
	case f.stage == fixAsking && len(f.rows) > 0:
		return a.t("↑↓ choose   Enter change it   Esc back   ? help")
	case f.stage == fixSame:
		return a.t("Enter another attempt   Esc back   ? help")
	case f.stage == fixConsent && a.fixBlocked() == "":
		return a.t("Enter start the new plan   Esc back; the change stays in the file   F1 help")
	}
	return a.t("Esc back   F1 help")
}

// fixRows draws the screen.
func (a *App) fixRows(room int) ([]Line, *Point) {
	f := a.run.fix
	s, _ := a.run.status(f.server)
	var out []Line
	add := func(style Style, text string) {
		for _, t := range wrap(text, a.width-2) {
			out = append(out, line(style, " "+t))
		}
	}
	title := a.f("change a value and retry: %s", a.run.nameOf(f.server))
	if f.exclude {
		title = a.f("leave %s out of the plan", a.run.nameOf(f.server))
	}
	add(Heading, title)
	if s.Cause != nil && !f.exclude {
		add(Bad, string(s.Cause.Code)+" "+a.page(s.Cause.Code).Title)
		add(Plain, a.page(s.Cause.Code).Remedy)
	}
	out = append(out, nil)
	var cursor *Point
	switch f.stage {
	case fixLoading:
		add(Plain, a.t("reading the site file …"))
	case fixAsking, fixTyping:
		if f.exclude {
			for _, t := range a.excludeText(s) {
				add(Plain, t)
			}
			break
		}
		out, cursor = a.remedyRows(out)
	case fixSaving:
		add(Plain, a.t("saving …"))
	case fixReading:
		add(Plain, a.t("saved; looking at the BMCs anew …"))
	case fixSame:
		add(Good, "✓ "+a.t("saved; the plan is the same and nothing else is erased."))
	case fixConsent, fixStarting:
		out = append(out, a.planRows(room-len(out)-5)...)
		if f.stage == fixStarting {
			add(Plain, a.t("starting the engine; it verifies the image first"))
		} else if a.fixBlocked() == "" && a.moreIsErased() {
			label := " " + a.t("Disks to erase") + ": "
			cursor = &Point{width(label + f.consent), len(out)}
			out = append(out, Line{{Plain, label}, {Editing, f.consent}})
		}
	}
	if n := a.run.moving(); n > 0 && (f.stage == fixConsent || f.stage == fixStarting) {
		add(Warn, "! "+a.f("%d servers still move. They go on; the new plan can start once they are done or held. What was changed is saved.", n))
	}
	if f.wrong != "" {
		add(Bad, "✗ "+f.wrong)
	}
	if cursor != nil && (cursor.Y >= room || cursor.X >= a.width) {
		cursor = nil
	}
	return out[:min(len(out), room)], cursor
}

// moving counts the servers that are neither done nor held.
func (r *run) moving() int {
	settled, held := r.count()
	return len(r.view.Servers) - settled - held
}

func (a *App) remedyRows(out []Line) ([]Line, *Point) {
	f := a.run.fix
	var cursor *Point
	label := 16
	for _, r := range f.rows {
		label = max(label, width(r.label))
	}
	label = min(label, a.width/2)
	top := max(0, min(f.cursor-4, len(f.rows)-9)) // the rest scrolls
	for i := top; i < min(len(f.rows), top+9); i++ {
		r := f.rows[i]
		point, value, style := "  ", r.now, Plain
		if r.kind == secret && value != "" {
			value = a.t("kept") + ": " + value
		}
		if i == f.cursor {
			point, style = "▸ ", Selected
			if f.stage == fixTyping {
				style, value = Editing, f.text
				if r.kind == secret {
					value = strings.Repeat("*", len([]rune(value)))
				}
				letters := []rune(value)
				cursor = &Point{3 + label + 1 + width(string(letters[:min(f.caret, len(letters))])), len(out)}
			}
		}
		if value == "" && style != Editing {
			value = "–"
		}
		out = append(out, Line{{Plain, " " + point + fit(r.label, label) + " "}, {style, value}})
	}
	return out, cursor
}

// excludeText says what leaving a server out means.
func (a *App) excludeText(s fleet.Status) []string {
	out := []string{a.f("%s is marked as excluded in the site file and the plan is made again. It is not touched any more; what it has on its disk stays.", name(s))}
	if s.Role == fleet.ControlPlane {
		_, all := a.run.controlPlanes()
		out = append(out, a.f("It is one of %d control planes. The plan says whether enough are left: a majority of them must run.", all))
	}
	return append(out, "", a.t("Leave it out?"))
}

// planRows shows what differs in the new plan, and what it erases.
func (a *App) planRows(room int) []Line {
	f, p := a.run.fix, a.hub.sheet.Plan
	var out []Line
	add := func(style Style, text string) {
		for _, t := range wrap(text, a.width-2) {
			out = append(out, line(style, " "+t))
		}
	}
	if p == nil {
		add(Bad, "✗ "+a.fixBlocked())
		return out
	}
	add(Heading, a.f("saved; the plan is now %.12s. What differs:", p.ID))
	for _, c := range a.planChanges(f.before, p) {
		add(Plain, "  "+c)
	}
	for _, x := range p.Findings {
		if x.Severity == fleet.Blocker {
			add(Bad, "✗ "+string(x.Code)+" "+a.engineText(x.Text)+" → "+a.engineText(x.Remedy))
		}
	}
	switch why := a.fixBlocked(); {
	case why != "":
		add(Bad, "✗ "+why)
	case !a.moreIsErased():
		add(Good, "✓ "+a.t("no other disk is erased than those that were allowed."))
	default:
		add(Bad, a.f("%d disks will be ERASED:", len(p.ErasedDisks())))
		for _, d := range p.ErasedDisks() {
			add(Plain, "  "+d.String())
		}
	}
	return out[:min(len(out), max(room, 0))]
}

// planChanges tells what differs between two plans, one line for each change.
func (a *App) planChanges(before, after *fleet.Plan) []string {
	if before == nil {
		return nil
	}
	var out []string
	for _, b := range after.Assignments {
		old, _ := before.Assignment(b.Server)
		who := string(b.Server) + " " + old.Hostname + ": "
		note := func(what, x, y string) {
			if x != y {
				out = append(out, who+what+" "+x+" → "+y)
			}
		}
		n := len(out)
		note(a.t("role"), a.t(string(old.Role)), a.t(string(b.Role)))
		if b.Role == fleet.Excluded {
			continue // that it has no address and no disk then goes without saying
		}
		note(a.t("host name"), old.Hostname, b.Hostname)
		note(a.t("address"), old.Network.Address, b.Network.Address)
		note(a.t("port"), old.Network.MAC, b.Network.MAC)
		note(a.t("disk"), old.InstallDisk.String(), b.InstallDisk.String())
		if n == len(out) && old.Ignition != b.Ignition {
			out = append(out, who+a.t("other settings"))
		}
	}
	if len(out) == 0 {
		out = append(out, a.t("settings of the site as a whole"))
	}
	slices.Sort(out)
	return out
}
