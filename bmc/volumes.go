package bmc

import (
	"context"
	"slices"
	"strings"
	"sync"

	"metalrise.dev/fleet"
)

// volumes reads what the controllers show to the system: the members of their
// collections, and those that only a drive names.
func (i *inspection) volumes(ctx context.Context, controllers, drives []node) []node {
	lists := make([][]node, len(controllers))
	var group sync.WaitGroup
	for k, c := range controllers {
		group.Go(func() { lists[k] = i.r.members(ctx, c.link("Volumes")) })
	}
	group.Wait()
	all := slices.Concat(lists...)
	known := map[string]bool{}
	for _, v := range all {
		known[same(v.path)] = true
	}
	var more []node
	for _, d := range drives {
		for _, l := range d.object("Links").links("Volumes") {
			if !known[same(l)] {
				known[same(l)] = true
				more = append(more, i.r.refs(l)...)
			}
		}
	}
	return append(all, i.r.resolve(ctx, i.sys.path, more)...)
}

func (i *inspection) volumeFacts(nodes []node) []fleet.Volume {
	var out []fleet.Volume
	for _, n := range nodes {
		v := fleet.Volume{URI: n.path, Name: firstOf(n.str("Name"), n.str("DisplayName")), Disks: n.object("Links").links("Drives"), SizeBytes: size(n), WWN: i.wwn(n)}
		if v.Disks == nil {
			v.Disks = []string{}
		}
		if isRAID(n) {
			v.RAID = firstOf(n.str("RAIDType"), n.str("VolumeType"), "RAID")
		}
		out = append(out, v)
	}
	return out
}

// hidden tells why the system does not see a drive as it is, by URI in the form
// of same: a RAID controller makes a volume of it or keeps it as a spare, or the
// drive waits to be activated. The drives stay in the facts, because they are
// there; the agent on the machine sees which disks the system has.
func hidden(drives, volumes []node) map[string]string {
	out := map[string]string{}
	for _, v := range volumes {
		if !isRAID(v) {
			continue
		}
		why := "it is part of " + firstOf(v.str("RAIDType"), v.str("VolumeType"), "RAID") + " volume " + v.path
		for _, l := range v.object("Links").links("Drives") {
			out[same(l)] = why
		}
		for _, d := range drives {
			for _, l := range d.object("Links").links("Volumes") {
				if same(l) == same(v.path) {
					out[same(d.path)] = why
				}
			}
		}
	}
	for _, d := range drives {
		if out[same(d.path)] == "" {
			if why := withheld(d); why != "" {
				out[same(d.path)] = why
			}
		}
	}
	return out
}

// withheld tells why a controller keeps a drive to itself that is in no volume.
func withheld(d node) string {
	switch d.state() {
	case "standbyoffline":
		return "it waits to be activated"
	case "standbyspare":
		return "it is a spare"
	}
	if h := strings.ToLower(d.str("HotspareType")); h != "" && h != "none" {
		return "it is a spare"
	}
	// A drive that is "Ready" behind a Dell PERC is free for volumes and not
	// shown to the system; "NonRAID" is.
	dell := d.object("Oem").object("Dell").object("DellPhysicalDisk")
	switch s := dell.str("RaidStatus"); strings.ToLower(s) {
	case "ready", "online", "spare", "foreign", "rebuilding":
		if !strings.HasPrefix(strings.ToLower(d.str("Protocol")), "nvme") && !strings.EqualFold(d.str("Protocol"), "PCIe") {
			return "its RAID controller says " + s
		}
	}
	return ""
}

// isRAID tells a volume that stands between drives and system from one that
// only repeats a drive. Old schemas say it by VolumeType, newer by RAIDType.
func isRAID(v node) bool {
	if t := v.str("RAIDType"); t != "" {
		return !strings.EqualFold(t, "None")
	}
	switch strings.ToLower(v.str("VolumeType")) {
	case "rawdevice":
		return false
	case "":
		return len(v.object("Links").links("Drives")) > 1
	}
	return true
}
