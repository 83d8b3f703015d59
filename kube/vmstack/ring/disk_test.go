package ring

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// Where the plan has CDI, the volume is one that CDI filled: the guest must find
// what lies in its own image, and an empty volume is a failure.
func TestVolumeThatCDIFills(t *testing.T) {
	p := somePlan("w1", "w2")
	p.Stack.Components = append(p.Stack.Components, fleet.ComponentPlan{Name: fleet.ComponentCDI, Version: "v1.65.0"})
	for _, proof := range []fleet.Proof{fleet.ProofVolume, fleet.ProofSnapshot} {
		result, err := prove(t, newFake("w1", "w2"), p, proof)
		if err != nil {
			t.Fatalf("%s: %v", proof, err)
		}
		if words := strings.Join(result.Words, "\n"); !strings.Contains(words, "CDI filled a new volume of class") {
			t.Errorf("%s saw %q", proof, words)
		}
	}
	f := newFake("w1", "w2")
	f.ills.unfilled = true
	_, err := prove(t, f, p, fleet.ProofVolume)
	if fleet.CodeOf(err) != fleet.CodeVolumeFailed || !strings.Contains(err.Error(), "found nothing written on its volume instead of the disk of the guest's image") {
		t.Errorf("an empty volume: %v", err)
	}

	f = newFake("w1", "w2")
	f.ills.pending = true
	_, err = prove(t, f, p, fleet.ProofVolume)
	if fleet.CodeOf(err) != fleet.CodeVolumeFailed || !strings.Contains(err.Error(), "DataVolume metalrise-proof/volume is ImportInProgress; Running: Error: permission denied") {
		t.Errorf("an importer that fails: %v", err)
	}
}
