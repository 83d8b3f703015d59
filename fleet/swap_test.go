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
