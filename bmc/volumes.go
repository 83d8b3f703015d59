package bmc

import (
	"context"
	"strings"
)

// noteHidden notes which drives the system may not see as they are: those that
// a RAID controller makes a volume of, and those that wait to be activated. They
// stay in the facts, because they are there; the agent on the machine is what
// decides which disks the system has.
func (i *inspection) noteHidden(ctx context.Context, drives []node) {
	var refs []node
	for _, d := range drives {
		if d.state() == "standbyoffline" {
			i.seen.add(d.path+"#Status", "the drive waits to be activated: the system may not see it")
		}
		refs = append(refs, i.r.refs(d.object("Links").links("Volumes")...)...)
	}
	raid := map[string]node{}
	for _, v := range i.r.resolve(ctx, i.sys.path, refs) {
		if isRAID(v) {
			raid[same(v.path)] = v
		}
	}
	for _, d := range drives {
		for _, l := range d.object("Links").links("Volumes") {
			if v, ok := raid[same(l)]; ok {
				i.seen.add(d.path+"#Links.Volumes", "the drive is part of %s volume %s: the system sees that instead",
					firstOf(v.str("RAIDType"), v.str("VolumeType")), v.path)
			}
		}
	}
}

// isRAID tells a volume that stands between drives and system from one that
// only repeats a drive. Old schemas say it by VolumeType, newer by RAIDType.
func isRAID(v node) bool {
	if t := v.str("RAIDType"); t != "" {
		return !strings.EqualFold(t, "None")
	}
	switch strings.ToLower(v.str("VolumeType")) {
	case "", "rawdevice":
		return false
	}
	return true
}
