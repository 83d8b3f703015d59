package tui

import (
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// handOff tells what there is now and how to use it, and plainly what is not
// built or not proven.
func (a *App) handOff(b *body) {
	r := &a.run
	settled, held := r.count()
	c := r.view.Cluster
	switch {
	case !r.seen || r.view.Plan == "":
		b.text(Warn, a.t("Nothing was installed yet."))
	case c != nil:
		b.text(handOffStyle(settled, r), a.f("%d of %d nodes are ready, %d held.", settled, len(r.view.Servers), held))
		a.handOffCluster(b, c)
	default:
		b.text(handOffStyle(settled, r), a.f("%d of %d servers are installed, %d held.", settled, len(r.view.Servers), held))
	}
	a.buttonRow(b, pasteButton)
	if emulated := r.emulated(); len(emulated) > 0 && c != nil {
		b.text(Warn, "! "+a.f("%d nodes have no KVM: their VMs are emulated, which is slow and only for rehearsal.", len(emulated)))
	}
	switch s := r.view.Stack; {
	case s != nil:
		a.handOffPlatform(b, *s)
	case c != nil:
		b.text(Plain, a.t("This plan ends with ready nodes: it has no VM platform, because the software has no KubeVirt or the site file says so. Nothing of that was done or checked; that VMs run is not proven."))
	default:
		b.text(Plain, a.t("This plan ends with installed hypervisors: no cluster was asked for (cluster.software), so there is no VM platform. Nothing of that was done or checked; that VMs run is not proven."))
	}
	if len(r.view.Servers) > 0 {
		a.handOffTable(b)
	}
}

func handOffStyle(settled int, r *run) Style {
	if settled < len(r.view.Servers) {
		return Warn
	}
	return Good
}

// handOffCluster is the cluster in a few lines.
func (a *App) handOffCluster(b *body, c *fleet.ClusterStatus) {
	reach := "✓ " + a.t("answers")
	if !c.Reachable {
		reach = "✗ " + a.t("does not answer")
	}
	joined, planes := a.run.controlPlanes()
	row := func(label, text string) {
		for i, t := range wrap(text, b.w-14) {
			head := ""
			if i == 0 {
				head = a.t(label)
			}
			b.add(Line{{Heading, fit(head, 12) + " "}, {Plain, t}})
		}
	}
	row(say("API"), c.Endpoint+"  "+reach)
	row(say("version"), "Kubernetes "+c.Version+", "+a.f("control planes %d/%d", joined, planes))
	if c.Kubeconfig == "" {
		row(say("kubeconfig"), a.t("not written yet"))
	} else {
		row(say("kubeconfig"), c.Kubeconfig)
	}
	for _, x := range c.Checks {
		if !x.OK {
			text := "✗ " + a.t(x.Name) + ": " + a.engineText(x.Missing)
			b.under(Bad, strings.TrimRight(fit(text, 2*(b.w-10)), " ")) // the run screen has all of it
		}
	}
}

// handOffTable lists all servers that are done, and says of the others that they
// are not.
func (a *App) handOffTable(b *body) {
	host := 13 + min(max(b.w-66, 0), 12)
	cols := []column{{say("HOST"), host + 3}, {say("ADDRESS"), 19}, {say("IS"), 10}, {"KVM", max(b.w-host-34, 9)}}
	a.heading(b, cols)
	for _, s := range a.run.view.Servers {
		address := "?"
		if as, ok := a.assignment(s.Server); ok {
			address = as.Network.Address
		}
		kvm, style := a.t("unknown"), Warn
		if v, ok := s.KVM.Get(); ok && v.Usable {
			kvm, style = a.t("works"), Good
		} else if ok {
			if kvm = a.f("not usable: %s", v.Why); width(kvm) > cols[3].w {
				kvm = a.t("not usable")
			}
		}
		mark, is := conditionMark(s)
		state := a.t(string(s.Phase))
		if s.Condition == fleet.Held {
			state = a.t(string(s.Condition))
		}
		here, point := b.item()
		names := Span{Plain, fit(name(s), host)}
		if here {
			names.Style = Selected
		}
		b.add(Line{{Plain, point}, {is, mark + " "}, names, {Plain, " " + fit(address, 18) + " " + fit(state, 9) + " "}, {style, fit(kvm, cols[3].w)}})
	}
}

// emulated lists the servers without KVM that are done all the same.
func (r *run) emulated() []fleet.ServerID {
	var out []fleet.ServerID
	for _, s := range r.view.Servers {
		if kvm, ok := s.KVM.Get(); ok && !kvm.Usable && s.Condition == fleet.Settled {
			out = append(out, s.Server)
		}
	}
	return out
}

// pasteCard holds the commands that lead on, as wide as the screen so that they
// can be copied.
func (a *App) pasteCard() *popup {
	p := a.open(a.t("Commands to paste"), nil)
	add := func(why string, commands ...string) {
		p.body = append(p.body, line(Heading, why))
		for _, c := range commands {
			p.body = append(p.body, line(Plain, c))
		}
		p.body = append(p.body, nil)
	}
	if c := a.run.view.Cluster; c != nil && c.Kubeconfig != "" {
		path := c.Kubeconfig
		if strings.ContainsAny(path, " '\"$`\\*?;&|<>()") {
			path = "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
		}
		add(a.t("Use the cluster; the file is the administrator's key, keep it:"), "export KUBECONFIG="+path, "kubectl get nodes -o wide", "kubectl get pods -A")
		add(a.t("Add a server by its BMC, take one away, look at certificates:"), "metalrise node add ADDRESS -f "+a.hub.sheet.Path, "metalrise node remove NODE -f "+a.hub.sheet.Path,
			"metalrise cluster certificates -f "+a.hub.sheet.Path)
	}
	if i := slices.IndexFunc(a.run.view.Servers, func(s fleet.Status) bool { return phaseAtLeast(s.Phase, fleet.Installed) }); i >= 0 {
		address := "ADDRESS"
		if as, ok := a.assignment(a.run.view.Servers[i].Server); ok {
			if at, ok := bare(as.Network.Address); ok {
				address = at
			}
		}
		add(a.t("Log in to a server with the key of Software:"), "ssh core@"+address)
	}
	if s := a.run.view.Stack; s != nil {
		add(a.t("The whole hand-off with a first VM, the report to sign, and later what differs from it:"), "metalrise handover -f "+a.hub.sheet.Path,
			"metalrise report as-built FOLDER -f "+a.hub.sheet.Path, "metalrise verify -f "+a.hub.sheet.Path)
		if s.Held {
			add(a.t("Try again what failed of the VM platform:"), "metalrise retry --platform -f "+a.hub.sheet.Path)
		}
	}
	add(a.t("Watch the run again, and gather what a helper needs:"), "metalrise attach -f "+a.hub.sheet.Path, "metalrise report -f "+a.hub.sheet.Path)
	return p
}
