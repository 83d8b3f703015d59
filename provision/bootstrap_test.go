package provision

import (
	"fmt"
	"testing"

	"metalrise.dev/fleet"
)

// TestTokenIDsStayApart has so many nodes that ids of 31 bits meet: by the
// birthday rule 120,000 of them do about three times.
func TestTokenIDsStayApart(t *testing.T) {
	var servers []fleet.ServerID
	for i := range 15_000 {
		servers = append(servers, fleet.ServerID(fmt.Sprintf("SN%05d", i)))
	}
	k := newKeyring([]byte("a secret of the site"), "plan")
	meet := func() (found []string) {
		seen := map[string]fleet.ServerID{}
		for _, id := range servers {
			for try := 1; try <= triesApart; try++ {
				name := k.bootstrapToken(id, try)[:6]
				if other, taken := seen[name]; taken {
					found = append(found, fmt.Sprintf("%s of %s and %s", name, other, id))
				}
				seen[name] = id
			}
		}
		return found
	}
	before := meet()
	if len(before) == 0 {
		t.Fatal("no ids meet by themselves: this proves nothing, take another secret")
	}
	k.keepApart(servers)
	if after := meet(); len(after) > 0 {
		t.Errorf("%d ids still meet: %v", len(after), after)
	}
	if n := len(k.skipped); n == 0 || n > len(before) {
		t.Errorf("%d nodes skip numbers, where %d ids meet", n, len(before))
	}
	again := newKeyring([]byte("a secret of the site"), "plan")
	again.keepApart(servers)
	for id, n := range k.skipped {
		if again.skipped[id] != n {
			t.Errorf("the next engine would not find the token of %s", id)
		}
	}
}
