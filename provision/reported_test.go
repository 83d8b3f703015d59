package provision

import (
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// TestMachinesNameOnlyTheirOwnFaults: a hold with the code of a silent node would
// end by itself, which no machine may bring about.
func TestMachinesNameOnlyTheirOwnFaults(t *testing.T) {
	for said, want := range map[fleet.Code]fleet.Code{
		fleet.CodeNodeSilent: fleet.CodeAgentFailed, fleet.CodeNodeNotReady: fleet.CodeAgentFailed, "": fleet.CodeAgentFailed, "X-1": fleet.CodeAgentFailed,
		fleet.CodeWriteFailed: fleet.CodeWriteFailed, fleet.CodeDiskForeign: fleet.CodeDiskForeign,
	} {
		if got := reported(fleet.Cause{Code: said}); got.Code != want {
			t.Errorf("%q became %q, want %q", said, got.Code, want)
		}
	}
	if c := taskCause(fleet.ActJoin, callhome.TaskReport{Cause: &fleet.Cause{Code: fleet.CodeNodeSilent}}); c.Code != fleet.CodeNodeJoin {
		t.Errorf("a failed join that names %s is %s", fleet.CodeNodeSilent, c.Code)
	}
}
