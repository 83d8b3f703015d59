package provision

import (
	"strings"
	"testing"
)

// The page shows what is decided, so a decision that changes must be seen there.
func TestStatesPageOfThePlatform(t *testing.T) {
	page := StatesPage()
	for _, want := range []string{
		"| install kubevirt | it is the next of the plan | component began (kubevirt), component ended ok (kubevirt) |",
		"| hand over | all is there, and proven or left out by name | hand-over ended ok |",
		"| a component failed: denied, unsupported, conflict or invalid | held with VM-004 |",
		"| it failed, and a person waived it | install instance-types |",
		"| another proof failed for good: the others are still run, then | held with VM-012 |",
		"| a held node stands in the way of the proofs | wait for every node to be ready; only a person can end that |",
		"| a step began and did not end: the engine was killed | clear away after start |",
		"| the same while the engine is asked to end | clear away after start |",
		"| a proof switched a node off and was broken off | switch the node on again, before anything else |",
		"| the node does not come on again | held with VM-012 |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "prove snapshot") {
		t.Error("a proof that the plan leaves out is run")
	}
	for line := range strings.Lines(page) {
		if strings.Contains(line, "held with  ") || strings.Contains(line, "|  |") && !strings.Contains(line, "| done |") {
			t.Errorf("a row with a hole: %s", line)
		}
	}
}
