package bmc

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"metalrise.dev/fleet"
)

// inspectTimeout bounds one inspection, however slowly a BMC answers: 85 requests,
// four at a time, of 60 s each would take 21 minutes.
const inspectTimeout = 30 * time.Minute

// Inspect reads what the BMC knows of one server; systemURI "" means the only
// one behind it. What cannot be read is unknown, with the reason in Problems;
// only a system that cannot be read at all is an error.
func (s *Session) Inspect(ctx context.Context, systemURI string) (fleet.Facts, error) {
	uri, err := s.resolveSystem(ctx, systemURI)
	if err != nil {
		return fleet.Facts{}, s.wrap("inspect", err)
	}
	ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
	defer cancel()
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
		Manufacturer: n.label("Manufacturer"), Model: n.label("Model"), SKU: n.label("SKU"),
		BIOSVersion: n.label("BiosVersion"), Power: power(n),
		BootTargets: bootTargets(n.object("Boot")),
	}
	f.TPM, f.TPMEnabled = tpm(n)
	var bios node
	var managers []node
	var secureBoot, arm bool
	var group sync.WaitGroup
	group.Go(func() { f.CPU, arm = i.cpu(ctx) })
	group.Go(func() { f.MemoryMiB, f.MemoryModules = i.memory(ctx) })
	group.Go(func() { f.NICs = i.nics(ctx) })
	group.Go(func() { f.Disks, f.Volumes = i.disks(ctx) })
	group.Go(func() { f.SecureBoot, secureBoot = i.secureBoot(ctx) })
	group.Go(func() { bios, _ = i.r.try(ctx, n.link("Bios")) })
	group.Go(func() { f.ResetTypes = resetTypes(ctx, i.r, n) })
	group.Go(func() {
		managers = i.r.managers(ctx, n, i.root)
		f.VirtualMedia = i.media(ctx, managers)
	})
	group.Wait()
	attributes := bios.object("Attributes")
	if !secureBoot {
		f.SecureBoot = secureBootAttribute(attributes)
	}
	f.BootMode = bootMode(n.object("Boot"), attributes, f.SecureBoot.Or(false) || arm)
	f.BIOSSettings = i.biosSettings(ctx, bios, f.CPU.Model.Or(""))
	f.CPU.Virtualization = virtualization(f.BIOSSettings)
	f.Sources = i.sources(&f, bios, managers, secureBoot)
	i.seen.mu.Lock()
	defer i.seen.mu.Unlock()
	f.Problems = slices.Clone(i.seen.list)
	slices.SortFunc(f.Problems, func(a, b fleet.Problem) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Text, b.Text))
	})
	return f
}

// sources fills in the BMC's firmware version and names where the facts came
// from that have no source of their own. What is not named came from the system.
func (i *inspection) sources(f *fleet.Facts, bios node, managers []node, secureBoot bool) map[string]string {
	out := map[string]string{"system": i.sys.path}
	for _, m := range managers {
		if f.BMCFirmware = m.label("FirmwareVersion"); f.BMCFirmware.IsKnown() {
			out["bmcFirmware"] = m.path
			break
		}
	}
	set := func(field, path string) {
		if path != "" {
			out[field] = path
		}
	}
	if f.CPU.Cores.IsKnown() || f.CPU.Sockets.IsKnown() {
		set("cpu", i.sys.path)
		if f.CPU.Cores.IsKnown() {
			set("cpu", i.sys.link("Processors"))
		}
	}
	switch {
	case secureBoot:
		set("secureBoot", i.sys.link("SecureBoot"))
	case f.SecureBoot.IsKnown():
		set("secureBoot", bios.path)
	}
	if f.BootMode.IsKnown() && bootModeAttribute(bios.object("Attributes")) != "" {
		set("bootMode", bios.path)
	}
	if len(f.BIOSSettings) > 0 {
		set("virtualization", bios.path)
	}
	return out
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

// tpm reads the kind of the first trusted module that is there, and whether it
// is switched on.
func tpm(n node) (kind fleet.Maybe[string], on fleet.Maybe[bool]) {
	for _, t := range n.objects("TrustedModules") {
		state := t.state()
		if kind = t.text("InterfaceType"); state == "absent" || !kind.IsKnown() {
			kind = fleet.Maybe[string]{}
			continue
		}
		switch state {
		case "enabled":
			on = fleet.Known(true)
		case "disabled":
			on = fleet.Known(false)
		}
		return kind, on
	}
	return kind, on
}

func bootTargets(boot node) []string {
	return boot.texts("BootSourceOverrideTarget@Redfish.AllowableValues")
}

// secureBoot reads whether the system verified what it last started; known is
// false where there is no such resource.
func (i *inspection) secureBoot(ctx context.Context) (on fleet.Maybe[bool], known bool) {
	n, ok := i.r.try(ctx, i.sys.link("SecureBoot"))
	if !ok {
		return on, false
	}
	switch now := n.str("SecureBootCurrentBoot"); strings.ToLower(now) {
	case "enabled":
		return fleet.Known(true), true
	case "disabled":
		return fleet.Known(false), true
	case "":
	default:
		n.bad("SecureBootCurrentBoot", now, "Enabled or Disabled")
	}
	on = n.flag("SecureBootEnable")
	return on, on.IsKnown()
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
