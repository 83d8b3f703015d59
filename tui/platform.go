package tui

import (
	"maps"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// The VM platform of the plan: what it is made of and what is proven on Software,
// what VMs get of the hypervisors on Virtualization. The same lines are drawn and
// read out.

// virtFieldsOfVMs and softwareFieldsOfVMs are those of the site file's section
// platform. Lists of networks are typed into the file.
func virtFieldsOfVMs() []*field {
	return []*field{
		{path: "platform.cpuModel", label: say("CPU model"), more: true, help: say("What VMs get by default, as QEMU calls it. Empty: the best one that all hypervisors have, where their processors are known.")},
		{path: "platform.memoryOvercommit", label: say("Memory promised"), kind: number, more: true, help: say("To VMs, in percent of what is there. Empty is 100; more trusts that not all use theirs at a time.")},
	}
}

func softwareFieldsOfVMs() []*field {
	return []*field{
		{path: "platform.none", label: say("No VM platform"), kind: choice, options: []string{"", "true"}, more: true, help: say("true ends with ready nodes, also where the cluster software has KubeVirt.")},
		{path: "platform.components", label: say("More components"), kind: list, more: true, help: say("Of the catalogue, beyond the default set, separated by commas. What they need comes along.")},
		{path: "platform.without", label: say("Components not"), kind: list, more: true, help: say("Of the default set, those that are left out, separated by commas.")},
		{path: "platform.skipProofs", label: say("Proofs not run"), kind: list, more: true, help: say("Of start, migrate, network, volume, snapshot, drain and fence. Nobody has then seen that it works.")},
		{path: "platform.storage.class", label: say("Storage class"), more: true, help: say("One of yours that VMs use by default. Empty: that of local storage, whose volumes stay on their node.")},
		{path: "platform.storage.shared", label: say("It is shared"), kind: choice, options: []string{"", "true"}, more: true, help: say("Whether several nodes can attach a volume of that class at a time, without which VMs with disks do not move.")},
	}
}

func platformValue(p fleet.Platform, path string) string {
	switch path {
	case "platform.cpuModel":
		return p.CPUModel
	case "platform.memoryOvercommit":
		return orEmpty(p.MemoryOvercommit)
	case "platform.none":
		return yes(p.None)
	case "platform.components":
		return joined(p.Components)
	case "platform.without":
		return joined(p.Without)
	case "platform.skipProofs":
		return joined(p.SkipProofs)
	case "platform.storage.class":
		return p.Storage.Class
	case "platform.storage.shared":
		return yes(p.Storage.Shared)
	}
	return ""
}

func joined[T ~string](all []T) string {
	var out []string
	for _, v := range all {
		out = append(out, string(v))
	}
	return strings.Join(out, ", ")
}

// fact is one line about the platform.
type fact struct {
	label, text string
	style       Style
}

// platformLines are the lines of a step about the VM platform.
func (a *App) platformLines(s step) []fact {
	switch s {
	case stepVirt:
		return a.roomFacts()
	case stepSoftware:
		return a.platformFacts()
	}
	return nil
}

// platformFacts tell what the platform will be; nothing where the plan has none.
func (a *App) platformFacts() []fact {
	if a.hub.sheet.Plan == nil || a.hub.sheet.Plan.Stack == nil {
		return nil
	}
	s := a.hub.sheet.Plan.Stack
	var parts, untried []string
	for _, c := range s.Components {
		parts = append(parts, strings.TrimSpace(string(c.Name)+" "+c.Version))
		if c.Unproven != "" {
			untried = append(untried, string(c.Name))
		}
	}
	out := []fact{{a.t("VM platform"), strings.Join(parts, ", "), Plain}}
	if len(untried) > 0 {
		out = append(out, fact{a.t("unproven"), a.f("%s: no test of metalrise has seen it work", strings.Join(untried, ", ")), Warn})
	}
	out = append(out, fact{a.t("images"), a.sizesText(s.Components), Plain})
	out = append(out, a.proofFacts(s.Proofs)...)
	out = append(out, fact{a.t("volumes"), a.volumesText(s.Storage), Plain})
	for _, v := range s.Networks {
		out = append(out, fact{a.t("VM network"), a.vmNetworkText(v, s.MigrationNetwork), Plain})
	}
	return out
}

// sizesText tells what the components' images take on a node, and how much of it
// is whose.
func (a *App) sizesText(all []fleet.ComponentPlan) string {
	total := fleet.TotalSize(all)
	var parts []string
	for _, c := range all {
		if c.Size != nil {
			parts = append(parts, string(c.Name)+" "+a.imagesText(*c.Size))
		}
	}
	if len(parts) == 0 {
		return a.t("none besides those of the cluster")
	}
	return a.f("%s on each node: %s", a.imagesText(total), strings.Join(parts, ", "))
}

func (a *App) imagesText(s fleet.ComponentSize) string {
	if s.Estimated {
		return a.f("about %s", sizeText(s.Bytes))
	}
	return sizeText(s.Bytes)
}

// hasPlatform tells whether the step shows something of a VM platform.
func (h *hub) hasPlatform() bool {
	return h.sheet.Plan != nil && h.sheet.Plan.Stack != nil && (h.step == stepSoftware || h.step == stepVirt)
}

// platformCard is all of it, and who can hand VMs to whom. It scrolls, so
// that the smallest screen shows it too.
func (a *App) platformCard() *popup {
	s := a.hub.sheet.Plan.Stack
	p := a.open(a.t("VM platform"), nil)
	for _, f := range append(a.platformFacts(), a.roomFacts()...) {
		p.body = append(p.body, line(f.style, f.label+": "+f.text))
	}
	if s.MemoryOvercommit != 100 {
		p.body = append(p.body, line(Plain, a.f("%d %% of the memory is promised to VMs", s.MemoryOvercommit)))
	}
	p.body = append(p.body, nil)
	for _, from := range slices.SortedFunc(maps.Keys(s.Migration), fleet.CompareNames) {
		to := a.t("nobody")
		if len(s.Migration[from]) > 0 {
			to = strings.Join(s.Migration[from], ", ")
		}
		p.body = append(p.body, line(Plain, a.f("%s can hand VMs to: %s", from, to)))
	}
	return p
}

func (a *App) vmNetworkText(v fleet.VMNetwork, migrations string) string {
	parts := []string{v.Name, a.f("bridge %s", v.Bridge)}
	if v.Port == "" {
		parts = append(parts, a.t("VMs of one node only"))
	} else {
		parts = append(parts, a.f("port %s", v.Port))
	}
	if v.VLAN != 0 {
		parts = append(parts, a.f("VLAN %d", v.VLAN))
	}
	if v.Name == migrations {
		parts = append(parts, a.t("for live migrations"))
	}
	return strings.Join(parts, ", ")
}

func (a *App) volumesText(s fleet.VMStorage) string {
	if s.Class == "" {
		return a.t("there is no storage class")
	}
	parts := []string{s.Class}
	if s.Path != "" {
		parts = append(parts, s.Path)
	}
	if !s.Shared {
		parts = append(parts, a.t("each on one node"))
	}
	if s.Snapshots != "" {
		parts = append(parts, a.f("snapshots by %s", s.Snapshots))
	}
	return strings.Join(parts, ", ")
}

// proofFacts tell which proofs are run, and of the others why not.
func (a *App) proofFacts(all []fleet.ProofPlan) []fact {
	var run, reasons []string
	skipped := map[string][]string{}
	for _, p := range all {
		if p.Skip == "" {
			run = append(run, string(p.Name))
			continue
		}
		if skipped[p.Skip] == nil {
			reasons = append(reasons, p.Skip)
		}
		skipped[p.Skip] = append(skipped[p.Skip], string(p.Name))
	}
	var out []fact
	if len(run) > 0 {
		out = append(out, fact{a.t("proofs"), strings.Join(run, ", "), Plain})
	}
	for _, why := range reasons {
		out = append(out, fact{a.t("not proven"), strings.Join(skipped[why], ", ") + ": " + a.engineText(why), Warn})
	}
	return out
}

// roomFacts tell what VMs get of the hypervisors.
func (a *App) roomFacts() []fact {
	if a.hub.sheet.Plan == nil || a.hub.sheet.Plan.Stack == nil {
		return nil
	}
	s := a.hub.sheet.Plan.Stack
	c := s.Capacity
	room, style := a.f("for about %d VMs of %d vCPU/%d GiB, %d with one node lost", c.VMs, c.VCPUs, c.MemoryMiB>>10, c.WithoutOne), Plain
	if c.VMs == 0 {
		room, style = a.f("for no VM of %d vCPU/%d GiB", c.VCPUs, c.MemoryMiB>>10), Warn
	}
	out := []fact{{a.t("room"), room, style}}
	switch {
	case s.Emulation:
		out = append(out, fact{a.t("CPU model"), a.t("emulated: for rehearsal only"), Warn})
	case s.CPUModel == "":
		out = append(out, fact{a.t("CPU model"), a.t("the host's own"), Plain})
	default:
		out = append(out, fact{a.t("CPU model"), s.CPUModel, Plain})
	}
	return append(out, a.moveFact(s)...)
}

// moveFact tells to whom hypervisors can hand VMs; nothing when there is one. The
// plan leaves out those of which it is not known, and lists 16 at most.
func (a *App) moveFact(s *fleet.StackPlan) []fact {
	hosts := 0
	for _, as := range a.hub.assignments() {
		if as.RunsVMs() {
			hosts++
		}
	}
	least := hosts
	for _, to := range s.Migration {
		least = min(least, len(to))
	}
	switch {
	case hosts < 2:
		return nil
	case len(s.Migration) < hosts:
		return []fact{{a.t("moves"), a.t("whether VMs can move between all hypervisors is not known: their processors differ, and do not tell"), Warn}}
	case least == 0:
		return []fact{{a.t("moves"), a.t("VMs of some hypervisors cannot move, as far as their processors tell"), Warn}}
	case least < hosts-1 && least < 16:
		return []fact{{a.t("moves"), a.t("VMs can move, but not between all hypervisors"), Warn}}
	}
	return []fact{{a.t("moves"), a.t("VMs can move between all hypervisors, as far as their processors tell"), Plain}}
}

// factRows draws facts below a step's fields.
func (a *App) factRows(b *body, facts []fact) {
	const label = 12
	for _, f := range facts {
		for i, t := range wrap(f.text, b.w-label-4) {
			head := ""
			if i == 0 {
				head = f.label
			}
			b.add(Line{{Heading, "  " + fit(head, label) + " "}, {f.style, t}})
		}
	}
}

// tellFacts reads them out.
func (a *App) tellFacts(facts []fact) {
	for _, f := range facts {
		a.lines.say(f.label + ": " + f.text)
	}
}
