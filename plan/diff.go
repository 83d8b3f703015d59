package plan

import (
	"fmt"
	"reflect"

	"metalrise.dev/fleet"
)

// Diff tells people what changed from one plan to the next, one short line per
// change: in the order of the new plan, servers that left at the end. Equal
// plans give nothing. Endpoints, reasons and findings are not compared.
func Diff(before, after fleet.Plan) []string {
	var out []string
	if before.Image != after.Image {
		out = append(out, fmt.Sprintf("image: %s %s → %s %s", before.Image.Stream, before.Image.Version, after.Image.Stream, after.Image.Version))
	}
	for _, b := range after.Assignments {
		a, ok := before.Assignment(b.Server)
		if !ok {
			out = append(out, fmt.Sprintf("%s: new, %s %s", b.Server, b.Role, b.Hostname))
			continue
		}
		out = append(out, diffAssignment(a, b)...)
	}
	for _, a := range before.Assignments {
		if _, ok := after.Assignment(a.Server); !ok {
			out = append(out, fmt.Sprintf("%s: gone, was %s %s", a.Server, a.Role, a.Hostname))
		}
	}
	return out
}

func diffAssignment(a, b fleet.Assignment) []string {
	var out []string
	line := func(what string, old, now any) {
		if !reflect.DeepEqual(old, now) {
			out = append(out, fmt.Sprintf("%s: %s %v → %v", b.Server, what, old, now))
		}
	}
	line("role", a.Role, b.Role)
	line("host name", a.Hostname, b.Hostname)
	line("address", a.Network.Address, b.Network.Address)
	line("network port", a.Network.MAC, b.Network.MAC)
	line("install disk", a.InstallDisk, b.InstallDisk)
	if len(out) == 0 && a.Ignition != b.Ignition {
		out = append(out, fmt.Sprintf("%s: configuration", b.Server))
	}
	return out
}
