package fleet

import "testing"

func TestForeign(t *testing.T) {
	for name, c := range map[string]struct {
		disk  Disk
		named string
		want  bool // may be erased
	}{
		"blank":                       {Disk{Serial: "A"}, "", true},
		"plain file system":           {Disk{Serial: "A", Contents: []string{"ext4"}}, "", true},
		"our own system":              {Disk{Serial: "A", Owner: "osaka"}, "", true},
		"our own system with a pool":  {Disk{Serial: "A", Owner: "osaka", Members: []string{"LVM"}}, "", true},
		"another site's":              {Disk{Serial: "A", Owner: "kobe"}, "", false},
		"another site's, given up":    {Disk{Serial: "A", Owner: "kobe"}, "A", true},
		"pool":                        {Disk{Serial: "A", Members: []string{"Ceph"}}, "", false},
		"pool, another disk given up": {Disk{Serial: "A", Members: []string{"Ceph"}}, "B", false},
		"pool without serial":         {Disk{WWN: "5", Members: []string{"Ceph"}}, "5", true},
		"pool without any name":       {Disk{Members: []string{"Ceph"}}, "", false},
	} {
		if got := len(Foreign("osaka", c.disk)) == 0 || GivenUp(c.named, c.disk); got != c.want {
			t.Errorf("%s: may be erased %v, want %v", name, got, c.want)
		}
	}
}
