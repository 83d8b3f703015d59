package bmc

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"metalrise.dev/fleet"
)

// Inspect reads what the BMC knows of one server; systemURI "" means the only
// one behind it. What cannot be read is unknown, with the reason in Problems;
// only a system that cannot be read at all is an error.
func (s *Session) Inspect(ctx context.Context, systemURI string) (fleet.Facts, error) {
	uri, err := s.resolveSystem(ctx, systemURI)
	if err != nil {
		return fleet.Facts{}, s.wrap("inspect", err)
	}
	var seen problems
	r := s.reader(&seen)
	sys, err := r.get(ctx, uri)
	if err != nil {
		return fleet.Facts{}, s.wrap("inspect "+uri+" of", err)
	}
	i := inspection{r: r, sys: sys, root: s.root, seen: &seen}
	f := i.facts(ctx)
	f.At, f.SystemURI = time.Now().UTC(), uri
	if err := ctx.Err(); err != nil {
		return fleet.Facts{}, s.wrap("inspect "+uri+" of", fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Transient, err, "cut short"))
	}
	return f, nil
}

// inspection reads the parts of one system. The parts write to different
// fields, so that they can be read at the same time.
type inspection struct {
	r    *reader
	sys  node
	root node
	seen *problems
}

func (i *inspection) facts(ctx context.Context) fleet.Facts {
	n := i.sys
	f := fleet.Facts{
		Source: fleet.SeenByBMC, Identity: identity(n),
		Manufacturer: n.text("Manufacturer"), Model: n.text("Model"), SKU: n.text("SKU"),
		BIOSVersion: n.text("BiosVersion"), Power: power(n), TPM: tpm(n),
		BootTargets: bootTargets(n.object("Boot")),
	}
	var bios node
	var managers []node
	var group sync.WaitGroup
	group.Go(func() { f.CPU = i.cpu(ctx) })
	group.Go(func() { f.MemoryMiB = i.memory(ctx) })
	group.Go(func() { f.NICs = i.nics(ctx) })
	group.Go(func() { f.Disks = i.disks(ctx) })
	group.Go(func() { f.SecureBoot = i.secureBoot(ctx) })
	group.Go(func() { bios, _ = i.r.try(ctx, n.link("Bios")) })
	group.Go(func() { f.ResetTypes = resetTypes(ctx, i.r, n) })
	group.Go(func() {
		managers = i.r.managers(ctx, n, i.root)
		f.VirtualMedia = i.media(ctx, managers)
	})
	group.Wait()
	for _, m := range managers {
		if f.BMCFirmware = m.text("FirmwareVersion"); f.BMCFirmware.IsKnown() {
			break
		}
	}
	attributes := bios.object("Attributes")
	f.BootMode = bootMode(n.object("Boot"), attributes, f.SecureBoot)
	f.CPU.Virtualization = virtualization(attributes)
	i.seen.mu.Lock()
	defer i.seen.mu.Unlock()
	f.Problems = slices.Clone(i.seen.list)
	slices.SortFunc(f.Problems, func(a, b fleet.Problem) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Text, b.Text))
	})
	return f
}

func power(n node) fleet.Maybe[fleet.PowerState] {
	s := n.str("PowerState")
	switch strings.ToLower(s) {
	case "":
		return fleet.Maybe[fleet.PowerState]{}
	case "on":
		return fleet.Known(fleet.PowerOn)
	case "off":
		return fleet.Known(fleet.PowerOff)
	case "poweringon":
		return fleet.Known(fleet.PoweringOn)
	case "poweringoff":
		return fleet.Known(fleet.PoweringOff)
	case "paused":
		return fleet.Known(fleet.PowerPaused)
	}
	n.bad("PowerState", s, "a power state")
	return fleet.Known(fleet.PowerOther)
}

func tpm(n node) fleet.Maybe[string] {
	for _, t := range n.objects("TrustedModules") {
		if s := t.state(); s == "absent" || s == "disabled" {
			continue
		}
		if kind := t.text("InterfaceType"); kind.IsKnown() {
			return kind
		}
	}
	return fleet.Maybe[string]{}
}

func bootTargets(boot node) []string {
	return boot.texts("BootSourceOverrideTarget@Redfish.AllowableValues")
}

// bootMode prefers the BIOS setting over the mode of the override, which on
// some machines only says what an override would use.
func bootMode(boot, bios node, secure fleet.Maybe[bool]) fleet.Maybe[string] {
	for _, word := range []string{bios.str("BootMode"), bios.str("BootModeSelect"), boot.str("BootSourceOverrideMode")} {
		switch w := strings.ToLower(word); {
		case strings.Contains(w, "uefi"):
			return fleet.Known("uefi")
		case strings.Contains(w, "legacy"), w == "bios":
			return fleet.Known("bios")
		}
	}
	if secure.Or(false) {
		return fleet.Known("uefi")
	}
	return fleet.Maybe[string]{}
}

// virtualization reads the vendors' names of the switch for VT-x or AMD-V: Dell
// and HPE ProcVirtualization, Cisco IntelVT and SVMMode, Lenovo and Supermicro
// the others.
func virtualization(bios node) fleet.Maybe[bool] {
	for _, key := range []string{
		"ProcVirtualization", "IntelVT", "SVMMode", "CpuVirtualization", "VMX", "SvmMode",
		"Processors_IntelVirtualizationTechnology", "Processors_SVMMode", "ProcAmdVirtualization",
		"IntelVirtualizationTechnology", "VirtualizationTechnology",
	} {
		switch strings.ToLower(bios.str(key)) {
		case "enabled", "enable":
			return fleet.Known(true)
		case "disabled", "disable":
			return fleet.Known(false)
		}
	}
	return fleet.Maybe[bool]{}
}

func (i *inspection) secureBoot(ctx context.Context) fleet.Maybe[bool] {
	n, ok := i.r.try(ctx, i.sys.link("SecureBoot"))
	if !ok {
		return fleet.Maybe[bool]{}
	}
	if now := n.str("SecureBootCurrentBoot"); now != "" {
		return fleet.Known(strings.EqualFold(now, "Enabled"))
	}
	return n.flag("SecureBootEnable")
}

// cpu adds up the processors. The summary counts accelerators and empty sockets
// on some machines, so it serves only where no processor can be read.
func (i *inspection) cpu(ctx context.Context) fleet.CPU {
	var c fleet.CPU
	var sockets, cores, threads int64
	whole := true
	for _, p := range i.r.members(ctx, i.sys.link("Processors")) {
		if kind := p.str("ProcessorType"); kind != "" && !strings.EqualFold(kind, "CPU") || p.state() == "absent" {
			continue
		}
		sockets++
		if !c.Model.IsKnown() {
			c.Model = p.text("Model")
		}
		k, okC := p.whole("TotalCores", 1, 4096).Get()
		t, okT := p.whole("TotalThreads", 1, 16384).Get()
		whole = whole && okC && okT
		cores, threads = cores+k, threads+t
	}
	sum := i.sys.object("ProcessorSummary")
	if sockets == 0 {
		c.Model = sum.text("Model")
		if n, ok := sum.whole("Count", 0, 256).Get(); ok && n > 0 {
			c.Sockets = fleet.Known(int(n))
		}
		return c
	}
	c.Sockets = fleet.Known(int(sockets))
	if whole {
		c.Cores, c.Threads = fleet.Known(int(cores)), fleet.Known(int(threads))
	}
	return c
}

const maxMemoryMiB = 1 << 30 // one pebibyte: more is a wrong unit

func (i *inspection) memory(ctx context.Context) fleet.Maybe[int64] {
	sum := i.sys.object("MemorySummary")
	if gib, ok := sum.number("TotalSystemMemoryGiB"); ok && gib > 0 {
		if mib := math.Round(gib * 1024); mib <= maxMemoryMiB {
			return fleet.Known(int64(mib))
		}
		sum.bad("TotalSystemMemoryGiB", gib, "a size in GiB")
	}
	var total int64
	for _, m := range i.r.members(ctx, i.sys.link("Memory")) {
		if m.state() == "absent" {
			continue
		}
		mib, ok := m.whole("CapacityMiB", 0, maxMemoryMiB).Get()
		if !ok {
			return fleet.Maybe[int64]{}
		}
		total += mib
	}
	if total == 0 || total > maxMemoryMiB {
		return fleet.Maybe[int64]{}
	}
	return fleet.Known(total)
}

// managers reads what manages a system: those it names, else all of the BMC
// when they can only be its own.
func (r *reader) managers(ctx context.Context, sys, root node) []node {
	if own := sys.object("Links").links("ManagedBy"); len(own) > 0 {
		return r.resolve(ctx, sys.path, r.refs(own...))
	}
	var out []node
	for _, m := range r.members(ctx, root.link("Managers")) {
		servers := m.object("Links").links("ManagerForServers")
		if len(servers) == 0 || slices.ContainsFunc(servers, func(p string) bool { return same(p) == same(sys.path) }) {
			out = append(out, m)
		}
	}
	return out
}

// resetTypes reads the allowed values of the Reset action, inline or from its
// ActionInfo.
func resetTypes(ctx context.Context, r *reader, sys node) []string {
	reset := sys.object("Actions").object("#ComputerSystem.Reset")
	if values := reset.texts("ResetType@Redfish.AllowableValues"); len(values) > 0 {
		return values
	}
	info, ok := r.try(ctx, reset.link("@Redfish.ActionInfo"))
	if !ok {
		return nil
	}
	for _, p := range info.objects("Parameters") {
		if strings.EqualFold(p.str("Name"), "ResetType") {
			return p.texts("AllowableValues")
		}
	}
	return nil
}
