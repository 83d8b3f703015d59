package main

import (
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// TestRealApplyProbes applies a plan for a server that is well and one whose BMC
// has no licence for virtual media: the probe tells both apart before the run, the
// second one's virtual media are not tried in vain, and a retry after the licence
// came takes them again.
func TestRealApplyProbes(t *testing.T) {
	r := newRack(t, "applyprobe", 2)
	r.planned(2)
	n2 := r.labView().Servers[1].Name
	r.must("lab", "fault", "--name", r.lab, n2, "quirk name=licence-dell")
	begin := time.Now()
	r.must("apply", "--erase-disks", "2", "--detach")
	t.Logf("apply returned after %.1f s", time.Since(begin).Seconds())
	v := r.await(5*time.Minute, "one installed, one held", func(v fleet.Overview) bool { return v.Quiet })
	good, bad := statusOf(v, "LAB0001"), statusOf(v, "LAB0002")
	if good.Condition != fleet.Settled || good.Route != fleet.VirtualMedia {
		t.Errorf("the server that is well: %+v", good)
	}
	if bad.Condition != fleet.Held || bad.Route != fleet.USB || len(bad.Missed) == 0 || bad.Missed[0].Cause.Code != fleet.CodeBMCLicence ||
		!strings.Contains(strings.Join(bad.Missed[0].Cause.Chain, " "), "the probe did not arrive") {
		t.Errorf("the server without a licence: %+v %+v", bad, bad.Cause)
	}
	probes := map[fleet.ServerID]fleet.Outcome{}
	for _, e := range r.events() {
		switch {
		case e.Action == fleet.ActProbe:
			probes[e.Server] = e.Outcome
			t.Logf("%s %s: %s", e.Server, e.Outcome, e.Note)
		case e.Server == "LAB0002" && (e.Action == fleet.ActInsert || e.Action == fleet.ActPowerOff):
			t.Errorf("done to the server without a licence: %+v", e)
		}
	}
	if probes["LAB0001"] != fleet.OK || probes["LAB0002"] != fleet.Failed {
		t.Errorf("probes: %v", probes)
	}
	r.must("lab", "fault", "--name", r.lab, n2, "--clear")
	r.must("retry", "LAB0002")
	r.await(5*time.Minute, "both installed", allSettled)
	r.installedOnce()
}
