package ignition_test

import (
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/ignition"
)

// One server's installed config, validated: a site of 1,000 makes this many of
// them three times (plan, medium, orders).
func BenchmarkInstalled(b *testing.B) {
	in := installedInput(b, fleet.Worker, "vlan", fleet.ProfilePassthrough)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ignition.Installed(in); err != nil {
			b.Fatal(err)
		}
	}
}
