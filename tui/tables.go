package tui

import (
	"fmt"
	"strings"

	"metalrise.dev/fleet"
)

// tables draws the rows of a step below its fields. Rows that the cursor can
// stand on come in the order of hub.items.
func (a *App) tables(b *body) {
	h := &a.hub
	switch h.step {
	case stepFind:
		a.foundTable(b)
	case stepLook:
		a.serverTable(b)
	case stepRoles:
		a.roleTable(b)
	case stepNetwork:
		a.addressTable(b)
	case stepDisks:
		a.diskTable(b)
	case stepVirt:
		a.virtTable(b)
	case stepChecks:
		a.checkTable(b)
	}
	a.factRows(b, a.platformLines(h.step))
}

// column is a heading and its width in cells.
type column struct {
	name string
	w    int
}

// heading draws the names of columns; the last one takes the rest.
func (a *App) heading(b *body, cols []column) {
	text := "  "
	for _, c := range cols {
		text += fit(a.t(c.name), c.w-1) + " "
	}
	b.add(line(Heading, text))
}

func cells(cols []column, values ...string) string {
	var out strings.Builder
	for i, v := range values {
		out.WriteString(fit(v, cols[i].w-1) + " ")
	}
	return out.String()
}

// row draws one row the cursor can stand on.
func (b *body) row(style Style, mark, text string) {
	here, point := b.item()
	if here {
		b.add(Line{{Plain, point}, {style, mark}, {Selected, text}})
		return
	}
	b.add(Line{{Plain, point}, {style, mark}, {Plain, text}})
}

func (a *App) foundTable(b *body) {
	h := &a.hub
	if len(h.sheet.Found) == 0 {
		b.text(Plain, a.t("Nobody was looked for yet."))
		return
	}
	cols := []column{{say("ADDRESS"), 22}, {say("ANSWERS"), 10}, {say("MAKER, MODEL"), max(b.w-42, 14)}, {say("SEEN"), 7}}
	a.heading(b, cols)
	for _, f := range h.sheet.Found {
		b.add(line(Plain, "  "+cells(cols, f.Address, f.What, strings.TrimSpace(f.Vendor+" "+f.Product), a.seenAgo(f.At))))
	}
}

func (a *App) serverTable(b *body) {
	h := &a.hub
	if len(h.sheet.Servers) == 0 {
		b.text(Plain, a.t("No server was read yet."))
		return
	}
	cols := []column{{say("SERVER"), 14}, {say("MODEL"), max(b.w-48, 8)}, {"CPU", 5}, {say("MEMORY"), 9}, {say("PORTS"), 6}, {say("DISKS"), 6}, {say("SEEN"), 6}}
	a.heading(b, cols)
	for _, k := range h.sheet.Servers {
		f := k.Facts
		b.row(Plain, "", cells(cols, string(k.Server.ID), strings.TrimSpace(f.Manufacturer.Or("")+" "+f.Model.Or("")), f.CPU.Threads.String(),
			memoryText(f.MemoryMiB), fmt.Sprint(len(f.NICs)), fmt.Sprint(len(f.Disks)), a.seenAgo(f.At)))
	}
}

// serverCard is everything that was seen of one server.
func (a *App) serverCard(k Known) *popup {
	f := k.Facts
	p := a.open(string(k.Server.ID), nil)
	row := func(label string, value string) {
		p.body = append(p.body, line(Plain, fit(a.t(label), 16)+" "+value))
	}
	row(say("BMC"), k.Server.BMC.Address)
	row(say("seen"), a.seenAgo(f.At)+" ("+string(f.Source)+")")
	row(say("maker, model"), f.Manufacturer.String()+" "+f.Model.String())
	row("UUID", f.Identity.UUID)
	row("BIOS", f.BIOSVersion.String())
	row(say("BMC firmware"), f.BMCFirmware.String())
	row(say("power"), f.Power.String())
	row(say("boot mode"), f.BootMode.String())
	row(say("processors"), fmt.Sprintf("%s, %s/%s/%s", f.CPU.Model, f.CPU.Sockets, f.CPU.Cores, f.CPU.Threads))
	row(say("memory"), memoryText(f.MemoryMiB))
	for _, n := range f.NICs {
		row(say("port"), fmt.Sprintf("%s %s %s %s Mbit/s", n.MAC, n.Name, a.linkText(n.Link), n.SpeedMbps))
	}
	for _, d := range f.Disks {
		size := "?"
		if v, ok := d.SizeBytes.Get(); ok {
			size = sizeText(v)
		}
		row(say("disk"), strings.Join([]string{d.Serial, size, string(d.Media), d.Protocol, d.Model}, " "))
	}
	for _, x := range f.Problems {
		p.body = append(p.body, line(Warn, "! "+x.Path+": "+x.Text))
	}
	return p
}

func (a *App) linkText(l fleet.Maybe[bool]) string {
	v, ok := l.Get()
	switch {
	case !ok:
		return a.t("link unknown")
	case v:
		return a.t("link")
	}
	return a.t("no link")
}

// noPlan says why a table is empty. Where it is not, it says how old the facts
// are that it is made from.
func (a *App) noPlan(b *body) bool {
	if len(a.hub.assignments()) > 0 {
		if age := a.factsAge(); age != "" {
			b.text(Plain, age)
		}
		return false
	}
	b.text(Plain, a.t("The plan shows here as soon as servers were read."))
	return true
}

func (a *App) roleTable(b *body) {
	if a.noPlan(b) {
		return
	}
	cols := []column{{say("SERVER"), 16}, {say("HOST"), 18}, {say("ROLE"), max(b.w-36, 14)}}
	a.heading(b, cols)
	for _, as := range a.hub.assignments() {
		b.row(Plain, "", cells(cols, string(as.Server), as.Hostname, a.t(string(as.Role))))
		if b.at == len(b.lines)-1 && b.chosen == b.next-1 {
			for _, why := range as.Reasons {
				b.under(Plain, a.engineText(why))
			}
		}
	}
}

func (a *App) addressTable(b *body) {
	if a.noPlan(b) {
		return
	}
	cols := []column{{say("HOST"), 18}, {say("ADDRESS"), 20}, {say("PORT"), max(b.w-40, 18)}}
	a.heading(b, cols)
	for _, as := range a.hub.assignments() {
		port := as.Network.MAC
		if as.Network.Bond != nil {
			port = as.Network.Bond.Mode + " " + strings.Join(as.Network.Bond.MACs, " ")
		}
		b.add(line(Plain, "  "+cells(cols, as.Hostname, as.Network.Address, port)))
	}
}

func (a *App) diskTable(b *body) {
	if a.noPlan(b) {
		return
	}
	erase, keep := 0, 0
	for _, d := range a.hub.disks() {
		if d.erase {
			erase++
		} else {
			keep++
		}
	}
	b.text(Heading, a.f("%d disks are erased, %d are kept.", erase, keep))
	cols := []column{{say("HOST"), 13}, {say("DISK"), 16}, {say("SIZE"), 8}, {"", 6}, {say("FOUND ON IT"), max(b.w-47, 8)}}
	if b.w > 80 {
		cols[0].w, cols[1].w, cols[4].w = 20, 24, b.w-62
	}
	b.add(line(Heading, "    "+cells(cols, a.t(cols[0].name), a.t(cols[1].name), a.t(cols[2].name), "", a.t(cols[4].name))))
	for _, d := range a.hub.disks() {
		id := d.disk.Serial
		if id == "" {
			id = d.disk.WWN
		}
		fate, style := a.t("keep"), Good
		if d.erase {
			fate, style = a.t("ERASE"), Bad
		}
		found := a.t("not read")
		if d.seen != nil && d.seen.Contents != nil {
			found = strings.Join(d.seen.Contents, ", ")
		}
		mark := "  "
		if d.erase {
			mark = "✗ "
		}
		text := cells(cols, d.assignment.Hostname, id, diskSize(d), fate, found)
		b.row(style, mark, text)
		if b.chosen == b.next-1 && b.w <= 80 { // the columns are too narrow for what may not be lost
			b.under(Plain, id+": "+found)
		}
	}
}

func (a *App) virtTable(b *body) {
	if a.noPlan(b) {
		return
	}
	cols := []column{{say("HOST"), 18}, {say("PROCESSOR"), 12}, {say("VIRTUALIZATION"), max(b.w-32, 14)}}
	a.heading(b, cols)
	for _, as := range a.hub.assignments() {
		vendor, seen := a.virtText(as)
		b.add(line(Plain, "  "+cells(cols, as.Hostname, vendor, seen)))
	}
}

// virtText says what a server's processor is, and whether its firmware offers
// virtualization.
func (a *App) virtText(as fleet.Assignment) (vendor, offered string) {
	vendor, offered = as.Hypervisor.Vendor, a.t("unknown")
	if vendor == "" {
		vendor = a.t("unknown")
	}
	for _, k := range a.hub.sheet.Servers {
		if k.Server.ID != as.Server {
			continue
		}
		if v, ok := k.Facts.CPU.Virtualization.Get(); ok && v {
			offered = a.t("offered")
		} else if ok {
			offered = a.t("switched off")
		}
	}
	return vendor, offered
}

func (a *App) checkTable(b *body) {
	all := a.hub.findings()
	if len(all) == 0 {
		if !a.noPlan(b) {
			b.text(Good, "✓ "+a.t("No problem is known."))
		}
		return
	}
	for _, f := range all {
		text := string(f.Code) + " " + strings.TrimSpace(string(f.Server)+" "+a.engineText(f.Text))
		b.row(severityStyle(f.Severity), severityMark(f.Severity)+" ", fit(text, b.w-5))
	}
}
