package plan_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"metalrise.dev/fleet"
	"metalrise.dev/plan"
)

var update = flag.Bool("update", false, "write the golden files of testdata")

// now is the clock of all scenarios; the facts in them are of that morning.
var now = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// scenario is testdata/<name>/input.yaml. Facts are keyed by server id.
type scenario struct {
	Site    fleet.Site                     `json:"site"`
	Servers []fleet.Server                 `json:"servers"`
	Facts   map[fleet.ServerID]fleet.Facts `json:"facts"`
	Image   *fleet.ImageRef                `json:"image"`

	Payload          *fleet.Payload   `json:"payload"`
	PayloadProblem   string           `json:"payloadProblem"`
	Manifests        string           `json:"manifests"`
	ManifestsProblem string           `json:"manifestsProblem"`
	Previous         string           `json:"previous"` // another scenario, whose plan was applied
	Done             []fleet.ServerID `json:"done"`
	Unbegun          bool             `json:"unbegun"`
}

// readScenario reads YAML by way of JSON, because the nouns have JSON forms.
// Top-level keys that begin with "x-" hold anchors.
func readScenario(t *testing.T, path string) plan.Input {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	for k := range tree {
		if strings.HasPrefix(k, "x-") {
			delete(tree, k)
		}
	}
	b, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	var s scenario
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		t.Fatal(err)
	}
	in := plan.Input{Site: s.Site, SiteDigest: "site", Servers: s.Servers, Facts: s.Facts, Image: testImage(), Now: now,
		IgnitionDigest: func(a fleet.Assignment) (string, error) { return "config-of-" + a.Hostname, nil }}
	if s.Image != nil {
		in.Image = *s.Image
	}
	in.Payload, in.PayloadProblem = s.Payload, s.PayloadProblem
	in.Manifests, in.ManifestsProblem, in.Unbegun = s.Manifests, s.ManifestsProblem, s.Unbegun
	if s.Previous != "" {
		before := plan.Make(readScenario(t, filepath.Join("testdata", s.Previous, "input.yaml")))
		in.Previous, in.Done = &before, map[fleet.ServerID]bool{}
		for _, id := range s.Done {
			in.Done[id] = true
		}
	}
	return in
}

func testImage() fleet.ImageRef {
	return fleet.ImageRef{Stream: "lab", Version: "1", ISOSHA256: strings.Repeat("a", 64), DiskSHA256: strings.Repeat("b", 64), DiskBytes: 3 << 30}
}

func TestScenarios(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*/input.yaml")
	if err != nil || len(dirs) < 10 {
		t.Fatalf("found %d scenarios (%v)", len(dirs), err)
	}
	for _, file := range dirs {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			p := plan.Make(readScenario(t, file))
			if p.ID == "" {
				t.Error("the plan has no id")
			}
			p.ID = "" // covered by the properties; here it would hide what changed
			for i, a := range p.Assignments {
				if a.Kept != "" {
					p.Assignments[i].Kept = "previous"
				}
			}
			if p.Cluster != nil && p.Cluster.Since != "" && strings.HasPrefix(filepath.Base(dir), "stack-") {
				p.Cluster.Since = "previous" // its id changes with the catalogue's words
			}
			if p.Stack != nil {
				for i := range p.Stack.Components {
					p.Stack.Components[i].Unproven = "" // the catalogue's word, covered by the properties too
				}
			}
			b, err := json.MarshalIndent(p, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join(dir, "plan.golden"), string(b)+"\n")
			golden(t, filepath.Join(dir, "findings"), transcript(p))
		})
	}
}

// transcript is what a person would read.
func transcript(p fleet.Plan) string {
	var w strings.Builder
	for _, f := range p.Findings {
		fmt.Fprintf(&w, "%s %s %s %s\n    %s\n    -> %s\n", f.Severity, f.Code, f.Server, f.Path, f.Text, f.Remedy)
	}
	if c := p.Cluster; c != nil {
		fmt.Fprintf(&w, "\n%s %s, pods %s, services %s, %s, API at %s %s port %d id %d\n", c.Flavour, c.Version, c.PodCIDR, c.ServiceCIDR, c.CNI, c.Endpoint.Kind, c.Endpoint.Address, c.Endpoint.Port, c.Endpoint.VRRP)
	}
	if s := p.Stack; s != nil {
		fmt.Fprintf(&w, "\nVM platform: model %q, overcommit %d, storage %+v, guest %q, gates %v, gates of the cluster %v\n", s.CPUModel, s.MemoryOvercommit, s.Storage, s.Guest, s.FeatureGates, p.Cluster.Gates)
		for _, c := range s.Components {
			fmt.Fprintf(&w, "    %s %s %v\n", c.Name, c.Version, c.Manifests)
		}
		for _, x := range s.Proofs {
			fmt.Fprintf(&w, "    proof %s: %s\n", x.Name, x.Skip)
		}
		fmt.Fprintf(&w, "    room for %+v, who can move where: %v\n", s.Capacity, s.Migration)
	}
	for _, a := range p.Assignments {
		fmt.Fprintf(&w, "\n%s %s %s %s\n", a.Server, a.Role, a.Hostname, a.Network.Address)
		if a.Kept != "" {
			fmt.Fprintf(&w, "    (kept)\n")
		}
		if n := a.Node; n != nil {
			fmt.Fprintf(&w, "    (node %s, initial %v, %v, taints %v, reserved %v, static CPUs %v)\n", n.Name, n.Initial, n.Labels, n.Taints, n.SystemReserved, n.StaticCPUs)
		}
		for _, r := range a.Reasons {
			fmt.Fprintf(&w, "    %s\n", r)
		}
	}
	return w.String()
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (run with -update if this is meant) -want +got:\n%s", path, diff)
	}
}
