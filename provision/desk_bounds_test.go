package provision

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// TestReportsAreCut makes a machine say as much as a message may hold; little of
// it gets into the journal, and what everybody says stays as it is.
func TestReportsAreCut(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	b, err := json.Marshal(cutKVM(fleet.KVM{Modules: slices.Repeat([]string{long}, 64), Why: long, Flag: long}))
	if err != nil || len(b) > 20_000 {
		t.Errorf("%d bytes of KVM, %v", len(b), err)
	}
	usual := fleet.KVM{Modules: []string{"kvm", "kvm_intel", "vhost_net", "tun"}, Device: true, Usable: true, Flag: "vmx"}
	if got := cutKVM(usual); !slices.Equal(got.Modules, usual.Modules) || got.Flag != usual.Flag || !got.Usable {
		t.Errorf("%+v", got)
	}
}
