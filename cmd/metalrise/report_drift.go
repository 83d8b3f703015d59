package main

import (
	"fmt"
	"slices"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
	"metalrise.dev/kube/vmstack"
)

// sighted is what is there now, as far as it could be seen.
type sighted struct {
	Unseen     []string // what could not be looked at, and why
	Nodes      []kube.NodeSeen
	Components []vmstack.Installed
	Facts      map[fleet.ServerID]fleet.Facts // as inspect read them last
	NodesKnown bool
	StackKnown bool
}

// drift lists what differs from a report, but for what a person accepted. It is
// pure: equal arguments give equal lines, in a fixed order.
func drift(b asBuilt, now sighted) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if now.NodesKnown && b.Cluster != nil {
		driftOfNodes(b, now, say)
	}
	if now.StackKnown {
		driftOfComponents(b, now, say)
	}
	for _, s := range b.Servers {
		if f, ok := now.Facts[s.Server]; ok {
			driftOfServer(s, f, say)
		}
	}
	accepted := map[string]bool{}
	for _, a := range b.Accepted {
		for _, d := range a.Differences {
			accepted[d] = true
		}
	}
	return slices.DeleteFunc(out, func(d string) bool { return accepted[d] })
}

func driftOfNodes(b asBuilt, now sighted, say func(string, ...any)) {
	left := map[string]bool{}
	for _, n := range now.Nodes {
		left[n.Name] = true
	}
	for _, s := range b.Servers {
		name := strings.ToLower(s.Hostname)
		i := slices.IndexFunc(now.Nodes, func(n kube.NodeSeen) bool { return n.Name == name })
		if i < 0 {
			if s.Phase == fleet.Ready {
				say("node %s is gone", name)
			}
			continue
		}
		delete(left, name)
		n := now.Nodes[i]
		if !n.Ready {
			say("node %s is not ready", name)
		} else if n.Services != nil && !n.Services.OK { // a node that is not ready says enough
			say("node %s: %s", name, n.Services.Missing)
		}
		if n.UUID != "" && s.Identity.UUID != "" && !(fleet.Identity{UUID: s.Identity.UUID}).Match(fleet.Identity{UUID: n.UUID}) {
			say("node %s is another machine: system UUID was %s, is %s", name, s.Identity.UUID, n.UUID)
		}
		if was := hostOf(s.Network.Address); n.Address != "" && was != "" && n.Address != was {
			say("node %s has another address: was %s, is %s", name, was, n.Address)
		}
		if n.Kubelet != "" && n.Kubelet != b.Cluster.Version {
			say("node %s runs another kubelet: was %s, is %s", name, b.Cluster.Version, n.Kubelet)
		}
	}
	for _, n := range now.Nodes {
		if left[n.Name] {
			say("node %s was not there when the cluster was handed over", n.Name)
		}
	}
}

func hostOf(prefix string) string {
	host, _, _ := strings.Cut(prefix, "/")
	return host
}

func driftOfComponents(b asBuilt, now sighted, say func(string, ...any)) {
	for _, c := range b.Components {
		if c.State != fleet.StepOK {
			continue
		}
		i := slices.IndexFunc(now.Components, func(x vmstack.Installed) bool { return x.Component == c.Name })
		if i < 0 {
			say("component %s is gone", c.Name)
			continue
		}
		x := now.Components[i]
		if x.Version != c.Version {
			say("component %s has another version: was %s, is %s", c.Name, orDash(c.Version), orDash(x.Version))
		}
		if x.Observed != "" && c.Version != "" && x.Observed != c.Version {
			say("component %s runs another version: was %s, is %s", c.Name, c.Version, x.Observed)
		}
		if !x.Ready {
			missing := "not all of it is ready"
			for _, k := range x.Checks {
				if !k.OK {
					missing = k.Name + ": " + k.Missing
				}
			}
			say("component %s is not ready: %s", c.Name, missing)
		}
	}
	for _, x := range now.Components {
		if !slices.ContainsFunc(b.Components, func(c builtComponent) bool { return c.Name == x.Component && c.State == fleet.StepOK }) {
			say("component %s was not there when the cluster was handed over", x.Component)
		}
	}
}

// driftOfServer compares what inspect read last. What nobody could read is no
// difference.
func driftOfServer(s builtServer, f fleet.Facts, say func(string, ...any)) {
	when := f.At.UTC().Format("2006-01-02")
	text := func(what, was string, is fleet.Maybe[string]) {
		if now, ok := is.Get(); ok && was != "" && now != was {
			say("%s has another %s: was %s, was seen as %s on %s", s.Hostname, what, was, now, when)
		}
	}
	text("BIOS", s.BIOS, f.BIOSVersion)
	text("BMC firmware", s.BMCFirmware, f.BMCFirmware)
	text("model", s.Model, f.Model)
	if f.Source == fleet.SeenByBMC {
		for _, n := range s.NICs {
			known := slices.ContainsFunc(f.NICs, func(x fleet.NIC) bool {
				return strings.EqualFold(x.MAC, n.MAC) || strings.EqualFold(x.Permanent, n.MAC)
			})
			if n.Used && len(f.NICs) > 0 && !known {
				say("%s lacks the port %s that carries its address, as seen on %s", s.Hostname, n.MAC, when)
			}
		}
		if d := s.Erased; d != nil && len(f.Disks) > 0 && !slices.ContainsFunc(f.Disks, d.Match) {
			say("%s lacks its install disk %s, as seen on %s", s.Hostname, diskText(*d), when)
		}
	}
	if now, ok := f.MemoryMiB.Get(); ok && s.MemoryMiB > 0 && f.Source == fleet.SeenByBMC && now < s.MemoryMiB*9/10 { // what a system sees is some percent less
		say("%s has less memory: was %d MiB, was seen as %d MiB on %s", s.Hostname, s.MemoryMiB, now, when)
	}
}
