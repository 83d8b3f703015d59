package tui

import (
	"strings"

	"metalrise.dev/fleet"
)

// A disk that carries another owner's data is only erased once a person typed
// its serial. The Disks step has a field for that on each server whose planned
// disk is such a one.

// eraseForeign is the field of a server's entry in the site file.
const eraseForeign = "eraseForeign"

// foreignFields are those of the servers whose planned disk has another owner,
// or was given up already.
func (h *hub) foreignFields() []*field {
	var out []*field
	for _, as := range h.assignments() {
		if as.Role == fleet.Excluded || as.Kept != "" || !h.foreign(as) {
			continue
		}
		out = append(out, &field{path: "servers." + string(as.Server) + "." + eraseForeign, label: say("serial"), server: as.Server, host: as.Hostname,
			help: say("The planned disk of this server carries another owner's data. To let it be erased type its serial, as shown below. To keep it choose another disk, or exclude the server.")})
	}
	return out
}

func (h *hub) foreign(as fleet.Assignment) bool {
	if as.Foreign != "" {
		return true
	}
	for _, x := range h.findings() {
		if x.Server == as.Server && strings.HasSuffix(x.Path, "."+eraseForeign) {
			return true
		}
	}
	for _, k := range h.sheet.Servers {
		for _, d := range k.Facts.Disks {
			if k.Server.ID == as.Server && as.InstallDisk.Match(d) && len(fleet.Foreign(h.sheet.Site.Name, d)) > 0 {
				return true
			}
		}
	}
	return false
}

// solves tells whether a finding is about this field.
func (f *field) solves(x fleet.Finding) bool {
	if f.server != "" {
		return x.Server == f.server && strings.HasSuffix(x.Path, "."+eraseForeign)
	}
	return x.Path == f.path
}

// label is what a field is called: with the host's name where it is one server's.
func (a *App) label(f *field) string {
	if f.host != "" {
		return f.host + ": " + a.t(f.label)
	}
	return a.t(f.label)
}

// notItsSerial refuses everything but the name of the disk that would be erased;
// nothing typed takes the permission back.
func (a *App) notItsSerial(f *field, typed string) string {
	typed = strings.TrimSpace(typed)
	as, _ := a.assignment(f.server)
	want := as.InstallDisk.Serial
	if want == "" {
		want = as.InstallDisk.WWN
	}
	if typed == "" || typed == want {
		return ""
	}
	return a.f("%q is not the disk that would be erased; that is %s", typed, want)
}

// foreignValue is what the site file says for the server in path.
func foreignValue(all []fleet.Override, path string) string {
	id := fleet.ServerID(strings.TrimSuffix(strings.TrimPrefix(path, "servers."), "."+eraseForeign))
	for _, o := range all {
		if fleet.ServerID(o.Serial) == id || fleet.NewIdentity(o.UUID, "").ID() == id {
			return o.EraseForeign
		}
	}
	return ""
}
