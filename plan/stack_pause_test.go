package plan_test

import (
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/plan"
)

// Local storage needs an image that does nothing: the one that the nodes' software
// has for pods. A site's own storage needs none.
func TestImageThatHasFoldersMade(t *testing.T) {
	in := readScenario(t, "testdata/stack-default/input.yaml")
	const image = "registry.k8s.io/pause:3.10.1"
	in.Payload = softwareWith("v1.6.0", "v1.34.4")
	if p := plan.Make(in); p.Stack == nil || p.Stack.Pause != "" {
		t.Errorf("from nowhere: %+v", p.Stack)
	}
	in.Payload.Images = append(in.Payload.Images, fleet.PayloadImage{Name: "pause", References: []string{image}})
	if p := plan.Make(in); p.Stack == nil || p.Stack.Pause != image {
		t.Errorf("local storage: %+v", p.Stack)
	}
	in.Site.Platform.Storage = fleet.VMStorage{Class: "gold"}
	if p := plan.Make(in); p.Stack == nil || p.Stack.Pause != "" {
		t.Errorf("own storage: %+v", p.Stack)
	}
}
