package bmc

import (
	"context"
	"math"
	"strings"

	"metalrise.dev/fleet"
)

// cpu adds up the processors. The summary counts accelerators and empty sockets
// on some machines, so it serves only where no processor can be read.
// arm tells that the processors are Arm ones.
func (i *inspection) cpu(ctx context.Context) (c fleet.CPU, arm bool) {
	sum := i.sys.object("ProcessorSummary")
	arm = isArm(sum)
	var sockets, cores, threads int64
	whole := true
	for _, p := range i.r.members(ctx, i.sys.link("Processors")) {
		if kind := p.str("ProcessorType"); kind != "" && !strings.EqualFold(kind, "CPU") || p.state() == "absent" {
			continue
		}
		sockets++
		arm = arm || isArm(p)
		if !c.Model.IsKnown() {
			c.Model = p.text("Model")
		}
		k, okC := p.whole("TotalCores", 1, 4096).Get()
		t, okT := p.whole("TotalThreads", 1, 16384).Get()
		whole = whole && okC && okT
		cores, threads = cores+k, threads+t
	}
	if sockets == 0 {
		return summary(sum), arm
	}
	c.Sockets = fleet.Known(int(sockets))
	if whole {
		c.Cores, c.Threads = fleet.Known(int(cores)), fleet.Known(int(threads))
	}
	return c, arm
}

// summary stands in where no processor can be read.
func summary(sum node) fleet.CPU {
	c := fleet.CPU{Model: sum.text("Model")}
	for _, f := range []struct {
		key  string
		most int64
		to   *fleet.Maybe[int]
	}{{"Count", 256, &c.Sockets}, {"CoreCount", 65536, &c.Cores}, {"LogicalProcessorCount", 262144, &c.Threads}} {
		if n, ok := sum.whole(f.key, 0, f.most).Get(); ok && n > 0 {
			*f.to = fleet.Known(int(n))
		}
	}
	return c
}

func isArm(p node) bool {
	for _, key := range []string{"InstructionSet", "ProcessorArchitecture", "Model"} {
		if w := strings.ToLower(p.str(key)); strings.HasPrefix(w, "armv") || strings.HasPrefix(w, "arm-") || w == "arm" {
			return true
		}
	}
	return false
}

const maxMemoryMiB = 1 << 30 // one pebibyte: more is a wrong unit

// memory reads the total and the modules that are plugged in. Nil modules mean
// that they could not be read.
func (i *inspection) memory(ctx context.Context) (total fleet.Maybe[int64], modules []fleet.MemoryModule) {
	var sum int64
	whole := true
	for _, m := range i.r.members(ctx, i.sys.link("Memory")) {
		mib, known := m.whole("CapacityMiB", 0, maxMemoryMiB).Get()
		if m.state() == "absent" || known && mib == 0 {
			continue
		}
		d := fleet.MemoryModule{Name: firstOf(m.str("DeviceLocator"), m.str("Id"), m.str("Name")), Source: m.path}
		if known {
			d.SizeMiB = fleet.Known(mib)
		}
		modules = append(modules, d)
		whole, sum = whole && known, sum+mib
	}
	s := i.sys.object("MemorySummary")
	if gib, ok := s.number("TotalSystemMemoryGiB"); ok && gib > 0 {
		if mib := math.Round(gib * 1024); mib <= maxMemoryMiB {
			return fleet.Known(int64(mib)), modules
		}
		s.bad("TotalSystemMemoryGiB", s.m["TotalSystemMemoryGiB"], "a size in GiB")
	}
	if whole && sum > 0 && sum <= maxMemoryMiB {
		total = fleet.Known(sum)
	}
	return total, modules
}
