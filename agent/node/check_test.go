package node

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

func task(steps ...callhome.Step) callhome.Task {
	return callhome.Task{ID: "prepare-1", Name: "prepare", Steps: steps}
}

func TestHostileOrders(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	fetch := func(from, to, sum string, bytes int64, mode uint32) callhome.Step {
		return callhome.Step{Fetch: &callhome.FetchStep{Path: from, To: to, SHA256: sum, Bytes: bytes, Mode: mode}}
	}
	image := func(refs ...string) callhome.Step {
		return callhome.Step{Image: &callhome.ImageStep{Path: "/m/key/x", SHA256: digest, Bytes: 1, References: refs}}
	}
	unit := func(verb, name string) callhome.Step {
		return callhome.Step{Unit: &callhome.UnitStep{Verb: verb, Name: name}}
	}
	claim := func(address, mac string) callhome.Step {
		return callhome.Step{Claim: &callhome.ClaimStep{Address: address, MAC: mac}}
	}
	bad := map[string]callhome.Step{
		"empty":              {},
		"two kinds":          {File: fileStep("/etc/kubernetes/x", 0o644, "").File, Gone: goneStep("/var/lib/etcd").Gone},
		"long name":          {Name: strings.Repeat("x", 300), Gone: goneStep("/var/lib/etcd").Gone},
		"disk":               fileStep("/dev/sda", 0o600, "x"),
		"boot":               fileStep("/boot/loader/entries/x.conf", 0o600, "x"),
		"proc":               fileStep("/proc/sys/kernel/core_pattern", 0o600, "x"),
		"sys":                fileStep("/sys/power/state", 0o600, "x"),
		"shadow":             fileStep("/etc/shadow", 0o600, "x"),
		"own ticket":         fileStep("/etc/metalrise/ticket.json", 0o600, "x"),
		"own key":            fileStep("/var/lib/metalrise/agent/seat.json", 0o600, "x"),
		"own program":        fileStep("/usr/local/bin/metalrise", 0o755, "x"),
		"relative":           fileStep("etc/kubernetes/x", 0o644, "x"),
		"upwards":            fileStep("/etc/kubernetes/../shadow", 0o644, "x"),
		"double slash":       fileStep("/etc//kubernetes/x", 0o644, "x"),
		"slash at end":       fileStep("/etc/kubernetes/x/", 0o644, "x"),
		"no place":           fileStep("", 0o644, "x"),
		"folder itself":      fileStep("/etc/kubernetes", 0o644, "x"),
		"begins alike":       fileStep("/etc/kubernetes2/x", 0o644, "x"),
		"control character":  fileStep("/etc/kubernetes/a\nb", 0o644, "x"),
		"NUL":                fileStep("/etc/kubernetes/a\x00b", 0o644, "x"),
		"setuid":             fileStep("/etc/kubernetes/x", 0o4755, "x"),
		"no mode":            fileStep("/etc/kubernetes/x", 0, "x"),
		"huge file":          fileStep("/etc/kubernetes/x", 0o644, strings.Repeat("x", maxFile+1)),
		"link to a disk":     linkStep("/etc/kubernetes/x", "/dev/sda"),
		"link upwards":       linkStep("/etc/kubernetes/x", "../../boot/x"),
		"link to root":       linkStep("/etc/kubernetes/x", "/"),
		"link and file":      {File: &callhome.FileStep{To: "/etc/kubernetes/x", Target: "y", Data: []byte("x")}},
		"fetch elsewhere":    fetch("https://192.0.2.1/x", "/opt/metalrise/x", digest, 1, 0o644),
		"fetch with query":   fetch("/m/x?y", "/opt/metalrise/x", digest, 1, 0o644),
		"fetch upwards":      fetch("/m/../x", "/opt/metalrise/x", digest, 1, 0o644),
		"no digest":          fetch("/m/x", "/opt/metalrise/x", "", 1, 0o644),
		"capital digest":     fetch("/m/x", "/opt/metalrise/x", strings.Repeat("AB", 32), 1, 0o644),
		"negative size":      fetch("/m/x", "/opt/metalrise/x", digest, -1, 0o644),
		"huge size":          fetch("/m/x", "/opt/metalrise/x", digest, maxBytes+1, 0o644),
		"fetch to a disk":    fetch("/m/x", "/dev/sda", digest, 1, 0o644),
		"no reference":       image(),
		"option reference":   image("--all"),
		"blank in reference": image("a b"),
		"no verb":            unit("", "x.service"),
		"verb":               unit("mask", "x.service"),
		"reboot":             unit("isolate", "reboot.target"),
		"unit option":        unit("start", "--force.service"),
		"unit path":          unit("start", "../x.service"),
		"unit without kind":  unit("start", "x"),
		"unit of ours":       unit("stop", "metalrise-report.service"),
		"reload of one":      unit("daemon-reload", "x.service"),
		"no program":         {Run: &callhome.RunStep{}},
		"relative program":   runStep("", "sh"),
		"program in proc":    runStep("", "/proc/self/exe"),
		"program in dev":     runStep("", "/dev/shm/x"),
		"program in tmp":     runStep("", "/tmp/x"),
		"NUL argument":       runStep("", "/bin/true", "a\x00b"),
		"huge argument":      runStep("", "/bin/true", strings.Repeat("x", maxArg+1)),
		"many arguments":     runStep("", append([]string{"/bin/true"}, make([]string, maxArgs)...)...),
		"for ever":           {Run: &callhome.RunStep{Argv: []string{"/bin/true"}, Timeout: 24 * time.Hour}},
		"negative time":      {Run: &callhome.RunStep{Argv: []string{"/bin/true"}, Timeout: -1}},
		"relative unless":    runStep("x", "/bin/true"),
		"remove all":         goneStep("/"),
		"remove etc":         goneStep("/etc"),
		"remove var":         goneStep("/var/lib"),
		"remove homes":       goneStep("/home/core"),
		"remove units":       goneStep("/etc/systemd/system"),
		"remove agent":       goneStep("/var/lib/metalrise"),
		"remove upwards":     goneStep("/var/lib/etcd/../../.."),
		"claim nothing":      claim("", "52:54:00:00:00:01"),
		"claim all":          claim("0.0.0.0", "52:54:00:00:00:01"),
		"claim loopback":     claim("127.0.0.1", "52:54:00:00:00:01"),
		"claim with zone":    claim("fe80::1%eth0", "52:54:00:00:00:01"),
		"claim no port":      claim("10.0.0.9", "eth0"),
		"claim group":        claim("10.0.0.9", "01:00:5e:00:00:01"),
	}
	m := newMachine(t)
	before := m.tree("")
	for name, step := range bad {
		err := Check(task(fileStep("/etc/kubernetes/good", 0o644, "x"), step))
		if fleet.CodeOf(err) != fleet.CodeNodePrepare || fleet.KindOf(err) != fleet.Invalid || !strings.Contains(err.Error(), "step 2") {
			t.Errorf("%s: %v", name, err)
		}
		if err := m.do(step); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s was carried out: %v", name, err)
		}
	}
	if after := m.tree(""); after != before {
		t.Errorf("the machine changed:\n%s", after)
	}
	for name, bad := range map[string]callhome.Task{
		"no steps":   {ID: "a"},
		"no ID":      {Steps: []callhome.Step{goneStep("/var/lib/etcd")}},
		"bad ID":     {ID: "../a", Steps: []callhome.Step{goneStep("/var/lib/etcd")}},
		"long ID":    {ID: strings.Repeat("a", 101), Steps: []callhome.Step{goneStep("/var/lib/etcd")}},
		"many steps": {ID: "a", Steps: make([]callhome.Step, maxSteps+1)},
	} {
		if Check(bad) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestTasksOfKube holds the places that tasks may touch to those that package
// kube asks for, as its golden files tell.
func TestTasksOfKube(t *testing.T) {
	files, err := filepath.Glob("../../kube/testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden tasks: %v", err)
	}
	line := regexp.MustCompile(`(?m)^== .*: (fetch|file|link|gone|unit|run) (.*)$`)
	seen := map[string]int{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range line.FindAllStringSubmatch(string(text), -1) {
			words := strings.Fields(f[2])
			var step callhome.Step
			switch f[1] {
			case "fetch":
				step = callhome.Step{Fetch: &callhome.FetchStep{Path: "/m/x", SHA256: strings.Repeat("ab", 32), To: strings.TrimSuffix(words[3], ","), Mode: 0o755}}
			case "file":
				step = fileStep(strings.TrimSuffix(words[0], ","), 0o644, "x")
			case "link":
				step = linkStep(words[0], words[2])
			case "gone":
				step = goneStep(words[0])
			case "unit":
				step.Unit = &callhome.UnitStep{Verb: words[0]}
				if len(words) > 1 {
					step.Unit.Name = words[1]
				}
			case "run":
				step = runStep("", words[0])
			}
			seen[f[1]]++
			if why := checkStep(step); why != "" {
				t.Errorf("%s: %s: %s", filepath.Base(name), f[0], why)
			}
		}
	}
	for _, kind := range []string{"fetch", "file", "link", "gone", "unit", "run"} {
		if seen[kind] == 0 {
			t.Errorf("no %s in any golden task", kind)
		}
	}
}

// Whatever an order says, it is refused or stays within its places.
func FuzzOrders(f *testing.F) {
	for _, step := range []callhome.Step{
		fileStep("/etc/kubernetes/../shadow", 0o644, "x"), linkStep("/etc/kubernetes/x", "../../boot"), goneStep("/var/lib/etcd"),
		runStep("/etc/done", "/bin/true", "x"), {Unit: &callhome.UnitStep{Verb: "start", Name: "kubelet.service"}},
		{Claim: &callhome.ClaimStep{Address: "10.0.0.9", MAC: "52:54:00:00:00:01"}}, {},
	} {
		b, err := json.Marshal(callhome.Orders{Verb: callhome.Work, Task: &callhome.Task{ID: "a-1", Steps: []callhome.Step{step}}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var o callhome.Orders
		if json.Unmarshal(b, &o) != nil || o.Task == nil || Check(*o.Task) != nil {
			return
		}
		for _, s := range o.Task.Steps {
			var at []string
			switch {
			case s.File != nil && s.File.Target != "":
				to := s.File.Target
				if !path.IsAbs(to) {
					to = path.Join(path.Dir(s.File.To), to)
				}
				for _, p := range []string{"/boot", "/dev", "/proc", "/sys"} {
					if within(path.Clean(to), p) && to != "/dev/null" {
						t.Errorf("a link to %q was accepted", to)
					}
				}
				at = append(at, s.File.To)
			case s.File != nil:
				at = append(at, s.File.To)
			case s.Fetch != nil:
				at = append(at, s.Fetch.To)
			case s.Gone != nil:
				at = append(at, s.Gone.Path)
			}
			for _, p := range at {
				if path.Clean(p) != p || !strings.HasPrefix(p, "/") || strings.Count(p, "/") < 2 || strings.Contains(p, "metalrise/agent") || strings.Contains(p, "ticket") && strings.HasPrefix(p, "/etc/metalrise/t") {
					t.Errorf("%q was accepted", p)
				}
				ok := false
				for _, r := range append(append(append(writeRoots(), removeRoots()...), removeBelow()...), writeFiles()...) {
					ok = ok || within(p, r)
				}
				if !ok {
					t.Errorf("%q was accepted", p)
				}
			}
		}
	})
}
