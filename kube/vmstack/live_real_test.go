package vmstack

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

// TestRealInstallOnCluster installs components on the cluster that
// METALRISE_KUBECONFIG names: those of METALRISE_COMPONENTS ("local-storage,cdi"),
// for the plan in the file METALRISE_PLAN, with manifests of the payload
// METALRISE_PAYLOAD. With METALRISE_REMOVE=1 it removes them first.
func TestRealInstallOnCluster(t *testing.T) {
	wanted, dir := os.Getenv("METALRISE_COMPONENTS"), os.Getenv("METALRISE_PAYLOAD")
	if os.Getenv("METALRISE_REAL") == "" || wanted == "" {
		t.Skip("skipped: real parts run with METALRISE_REAL=1, a cluster in METALRISE_KUBECONFIG and METALRISE_COMPONENTS, METALRISE_PLAN, METALRISE_PAYLOAD")
	}
	var p fleet.Plan
	text, err := os.ReadFile(os.Getenv("METALRISE_PLAN"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &p); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(os.Getenv("METALRISE_KUBECONFIG"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := kube.Connect(config, p)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	i, said := warningsOf(New(c, p, software(t, dir)))
	begun := time.Now()
	for _, name := range strings.Split(wanted, ",") {
		plan, _ := platformOf(t, dir, fleet.Component(name))
		last := ""
		tell := func(note string, checks []fleet.Check) {
			if line := note + " " + waiting(checks); line != last {
				t.Logf("%6.1f %s: %s", time.Since(begun).Seconds(), name, line)
				last = line
			}
		}
		if os.Getenv("METALRISE_REMOVE") != "" {
			if err := i.Remove(t.Context(), plan.Name, tell); err != nil {
				t.Fatal(err)
			}
		}
		if err := i.Install(t.Context(), plan, tell); err != nil {
			t.Fatal(err)
		}
		t.Logf("%6.1f %s: ready", time.Since(begun).Seconds(), name)
	}
	for _, w := range said() {
		t.Errorf("the API warns: %s", w)
	}
}
