package container

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestDeniedDevices(t *testing.T) {
	const devices = "Character devices:\n  1 mem\n  4 tty\n  5 /dev/tty\n 10 misc\n136 pts\n245 hidraw\n\nBlock devices:\n  7 loop\n  8 sd\n136 odd\n254 virtblk\n"
	const misc = "237 loop-control\n200 tun\n229 fuse\n232 kvm\n 58 vsock\n"
	rules := deniedDevices(devices, misc)
	for _, want := range []string{"b 8:* rw", "b 254:* rw", "b 136:* rw", "c 4:* rw", "c 245:* rw", "c 10:58 rw", "c 1:1 rw"} {
		if !slices.Contains(rules, want) {
			t.Errorf("no rule %q in %q", want, rules)
		}
	}
	for _, not := range []string{"b 7:* rw", "c 1:* rw", "c 5:* rw", "c 136:* rw", "c 10:* rw", "c 10:200 rw", "c 10:229 rw", "c 10:237 rw", "c 10:232 rw", "c 1:3 rw"} {
		if slices.Contains(rules, not) {
			t.Errorf("rule %q closes what machines need", not)
		}
	}
}

func TestGrownRoot(t *testing.T) {
	const mib = 1 << 20
	boot, root := partition{Name: "boot", Start: 10 * mib, Size: 100 * mib}, partition{Name: "root", Start: 110 * mib, Size: 500 * mib}
	for name, c := range map[string]struct {
		parts []partition
		disk  int64
		want  int64
	}{
		"a larger disk":         {[]partition{boot, root}, 4096 * mib, (4096 - 1 - 110) * mib},
		"the disk of the image": {[]partition{boot, root}, 611 * mib, 500 * mib},
		"hardly larger":         {[]partition{boot, root}, 620 * mib, 500 * mib},
		"somebody's data after": {[]partition{boot, root, {Name: "data", Start: 700 * mib, Size: mib}}, 4096 * mib, 500 * mib},
	} {
		if got := grownRoot(c.parts, root, c.disk); got != c.want {
			t.Errorf("%s: got %d MiB, want %d", name, got/mib, c.want/mib)
		}
	}
}

func TestLimitsAreOnlyRaised(t *testing.T) {
	path := filepath.Join(t.TempDir(), "limit")
	for _, c := range []struct{ now, then string }{{"128\n", "8192"}, {"100000\n", "100000\n"}} {
		if err := os.WriteFile(path, []byte(c.now), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := raise(path, wantedInotify); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != c.then {
			t.Errorf("from %q: got %q, want %q", c.now, got, c.then)
		}
	}
}
