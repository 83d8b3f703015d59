package provision

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// Fit compares what the agent sees on a machine with what was planned for it,
// before anything is written. It gives nil, or every difference at once.
func Fit(site string, a fleet.Assignment, f fleet.Facts) *fleet.Cause {
	var code fleet.Code
	var chain []string
	wrong := func(c fleet.Code, format string, args ...any) {
		if code == "" {
			code = c
		}
		chain = append(chain, fmt.Sprintf(format, args...))
	}
	if !a.Identity.Match(f.Identity) {
		wrong(fleet.CodeIdentityMismatch, "planned serial %q uuid %q, the machine says serial %q uuid %q", a.Identity.Serial, a.Identity.UUID, f.Identity.Serial, f.Identity.UUID)
	}
	fitDisk(site, a, f, wrong)
	macs := []string{a.Network.MAC}
	if a.Network.Bond != nil {
		macs = a.Network.Bond.MACs
	}
	for _, mac := range macs {
		if !slices.ContainsFunc(f.NICs, func(n fleet.NIC) bool { return n.MAC == mac }) {
			wrong(fleet.CodeFactsDiffer, "planned network port %s is not on the machine", mac)
		}
	}
	if chain == nil {
		return nil
	}
	return &fleet.Cause{Code: code, Kind: fleet.Conflict, Chain: chain}
}

func fitDisk(site string, a fleet.Assignment, f fleet.Facts, wrong func(fleet.Code, string, ...any)) {
	var found []fleet.Disk
	for _, d := range f.Disks {
		if a.InstallDisk.Match(d) {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		wrong(fleet.CodeDiskChanged, "planned disk %s: %d disks of the machine match", a.InstallDisk, len(found))
		return
	}
	d := found[0]
	if d.Removable {
		wrong(fleet.CodeDiskChanged, "planned disk %s is removable", a.InstallDisk)
	}
	if foreign := fleet.Foreign(site, d); len(foreign) > 0 && !fleet.GivenUp(a.Foreign, d) {
		wrong(fleet.CodeDiskForeign, "disk %s carries %s", a.InstallDisk, strings.Join(foreign, ", "))
	}
}

// clockOff says by how much a machine's clock is wrong, or "".
func clockOff(f fleet.Facts, now time.Time) string {
	at, ok := f.Clock.Get()
	if !ok {
		return ""
	}
	if off := at.Sub(now).Round(time.Second); off.Abs() > time.Minute {
		return fmt.Sprintf("%s its clock is off by %s", fleet.CodeClockSkew, off)
	}
	return ""
}
