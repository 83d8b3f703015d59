package fleet

import "testing"

func TestSameUUIDInBothByteOrders(t *testing.T) {
	bmc := NewIdentity("00112233-4455-6677-8899-aabbccddeeff", "")
	system := NewIdentity("33221100-5544-7766-8899-AABBCCDDEEFF", "")
	if !bmc.Match(system) || !system.Match(bmc) {
		t.Error("the two byte orders of one UUID do not match")
	}
	other := NewIdentity("33221100-5544-7766-8899-aabbccddee00", "")
	if bmc.Match(other) {
		t.Error("another UUID matches")
	}
}

func TestPlaceholderUUIDIsUnknown(t *testing.T) {
	for _, u := range []string{"03000200-0400-0500-0006-000700080009", "00020003-0004-0005-0006-000700080009", "00000000-0000-0000-0000-000000000000"} {
		if got := NewIdentity(u, "").UUID; got != "" {
			t.Errorf("%s is taken for a UUID", got)
		}
	}
}
