package ring

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
)

// A VM that moved by another way than the one that is there for it is a fault,
// though it arrived: KubeVirt falls back to the pods' network without a word.
func TestWayOfAMigration(t *testing.T) {
	for address, good := range map[string]bool{"10.0.20.3": true, "10.244.1.7": false, "": false, "w2": false} {
		u := &unstructured.Unstructured{Object: object{"status": object{"nodeName": "w2", "migrationState": object{"targetNodeAddress": address}}}}
		r := &run{plan: somePlan("w1", "w2"), note: func(string) {}}
		v := &vm{run: r, machine: machine{name: "move"}}
		if err := v.cameBy(readInstance(u)); err != nil || len(r.result.Words) > 0 {
			t.Errorf("%q without such a network: %v, %q", address, err, r.result.Words)
		}
		r.plan.Stack.MigrationNetwork = "red"
		err := v.cameBy(readInstance(u))
		said := strings.Join(r.result.Words, " ")
		switch {
		case good && (err != nil || !strings.Contains(said, "10.0.20.3 of VM network red")):
			t.Errorf("%q: %v, %q", address, err, said)
		case !good && (fleet.CodeOf(err) != fleet.CodeMigrationFailed || !strings.Contains(err.Error(), "10.0.20.0/24")):
			t.Errorf("%q: %v", address, err)
		}
	}
}
