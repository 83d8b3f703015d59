package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"metalrise.dev/fleet"
)

// printStack tells what the VM platform will be; nothing where there is none.
func printStack(out io.Writer, p fleet.Plan) {
	s := p.Stack
	if s == nil {
		return
	}
	fmt.Fprintln(out, "VM platform, installed in this order once the nodes are ready:")
	for _, c := range s.Components {
		fmt.Fprintln(out, strings.TrimRight(fmt.Sprintf("  %-22s %-13s %-26s %s", c.Name, cmp.Or(c.Version, "by metalrise"), imagesText(c.Size), unproven(c)), " "))
	}
	row := func(label, format string, args ...any) {
		fmt.Fprintf(out, "  %-13s %s\n", label, fmt.Sprintf(format, args...))
	}
	row("images", "%s on each node, besides those of the cluster", totalText(s.Components))
	for _, v := range s.Networks {
		row("VM network", "%s", networkText(v, s.MigrationNetwork))
	}
	row("volumes", "%s", storageText(s.Storage))
	if s.Emulation {
		row("processor", "emulated: for rehearsal only")
	} else {
		row("CPU model", "%s", cmp.Or(s.CPUModel, "the host's own"))
	}
	for _, text := range moveTexts(p) {
		row("moves", "%s", text)
	}
	if s.MemoryOvercommit != 100 {
		row("memory", "%d %% of it is promised to VMs", s.MemoryOvercommit)
	}
	row("room", "%s", roomText(s.Capacity))
	run, skipped := proofTexts(s.Proofs)
	row("proofs", "%s", cmp.Or(strings.Join(run, ", "), "none"))
	for _, text := range skipped {
		row("not proven", "%s", text)
	}
}

// imagesText tells what a component's images take.
func imagesText(s *fleet.ComponentSize) string {
	switch {
	case s == nil:
		return "no images"
	case s.Images == 1:
		return "1 image, " + about(*s)
	}
	return fmt.Sprintf("%d images, %s", s.Images, about(*s))
}

func about(s fleet.ComponentSize) string {
	if s.Estimated {
		return "about " + bytesText(s.Bytes)
	}
	return bytesText(s.Bytes)
}

// totalText is the sum over all components.
func totalText(all []fleet.ComponentPlan) string {
	return about(fleet.TotalSize(all))
}

func unproven(c fleet.ComponentPlan) string {
	if c.Unproven == "" {
		return ""
	}
	return "unproven: " + c.Unproven
}

// networkText describes a VM network on one line.
func networkText(v fleet.VMNetwork, migrations string) string {
	text := v.Name + " on bridge " + v.Bridge
	if v.Port == "" {
		text += ", which leads nowhere: VMs of one node only"
	} else {
		text += ", port " + v.Port
	}
	if v.VLAN != 0 {
		text += fmt.Sprintf(", VLAN %d", v.VLAN)
	}
	if v.Name == migrations {
		text += ", for live migrations"
	}
	return text
}

// storageText describes where volumes lie on one line.
func storageText(s fleet.VMStorage) string {
	if s.Class == "" {
		return "none: there is no storage class"
	}
	text := "class " + s.Class
	if s.Path != "" {
		text += " in " + s.Path
	}
	if !s.Shared {
		text += ", each on one node"
	}
	if s.Snapshots != "" {
		text += ", snapshots by " + s.Snapshots
	}
	return text
}

// mostListed bounds lists of hypervisors; plan lists no more than 16 for each.
const mostListed = 16

// moveTexts tell to whom hypervisors can hand VMs: in one line where it is to
// all, else one for each.
func moveTexts(p fleet.Plan) []string {
	var hosts []string
	all := true
	for _, a := range p.Assignments {
		if a.RunsVMs() {
			hosts = append(hosts, a.Node.Name)
		}
	}
	for _, h := range hosts {
		all = all && len(p.Stack.Migration[h]) == min(len(hosts)-1, mostListed)
	}
	switch {
	case len(hosts) < 2:
		return nil
	case all:
		return []string{"VMs can move between all hypervisors, as far as their processors tell"}
	}
	var out []string
	for i, h := range hosts {
		to, known := p.Stack.Migration[h]
		switch {
		case i == mostListed:
			return append(out, fmt.Sprintf("and %d more; --output json has all", len(hosts)-i))
		case !known:
			out = append(out, h+" to nobody knows whom: processors differ, and do not tell")
		case len(to) == 0:
			out = append(out, h+" to nobody")
		default:
			out = append(out, h+" to "+strings.Join(to, ", "))
		}
	}
	return out
}

// roomText is the capacity line.
func roomText(c fleet.Capacity) string {
	size := fmt.Sprintf("%d vCPU/%d GiB", c.VCPUs, c.MemoryMiB>>10)
	if c.VMs == 0 {
		return "for no VM of " + size
	}
	return fmt.Sprintf("for about %d VMs of %s, %d with one node lost", c.VMs, size, c.WithoutOne)
}

// proofTexts lists the proofs that are run, and the others by reason.
func proofTexts(all []fleet.ProofPlan) (run, skipped []string) {
	var reasons []string
	names := map[string][]string{}
	for _, p := range all {
		if p.Skip == "" {
			run = append(run, string(p.Name))
			continue
		}
		if names[p.Skip] == nil {
			reasons = append(reasons, p.Skip)
		}
		names[p.Skip] = append(names[p.Skip], string(p.Name))
	}
	for _, r := range reasons {
		skipped = append(skipped, strings.Join(names[r], ", ")+": "+r)
	}
	return run, skipped
}
