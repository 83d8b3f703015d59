package fleet

import (
	"errors"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestCatalogueIsComplete(t *testing.T) {
	all := Catalogue()
	var names []Component
	for _, e := range all {
		names = append(names, e.Name)
		for field, text := range map[string]string{"Title": e.Title, "About": e.About, "Ready": e.Ready, "Proof": e.Proof, "Remove": e.Remove} {
			if text == "" {
				t.Errorf("%s: %s is empty", e.Name, field)
			}
		}
		if len(e.Gives) == 0 {
			t.Errorf("%s gives nothing", e.Name)
		}
		if !regexp.MustCompile(`^[a-z][a-z0-9-]{1,40}$`).MatchString(string(e.Name)) {
			t.Errorf("name %q", e.Name)
		}
		if !e.Own && (e.Images == 0 || e.Bytes == 0) {
			t.Errorf("%s has no size", e.Name)
		}
		if e.Own && (e.Images > 0 || e.Bytes > 0 || len(e.Versions) > 0) {
			t.Errorf("%s is our own and has images or versions of others", e.Name)
		}
		for _, v := range e.Versions {
			if _, ok := minorOf(v); !ok || !strings.HasPrefix(v, "v") {
				t.Errorf("%s: version %q", e.Name, v)
			}
		}
		// TestRealSnapshots and TestRealInstallOnCluster install these.
		if installed := []Component{ComponentSnapshots, ComponentWhereabouts}; !e.Default && e.Unproven == "" && !slices.Contains(installed, e.Name) {
			t.Errorf("%s is opt-in and called proven: no test installs it", e.Name)
		}
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(names)))); n != len(names) {
		t.Error("a name is there twice")
	}
	// The order of the catalogue is one in which all of it can be installed.
	order, err := OrderComponents(all, names)
	if err != nil || !slices.Equal(order, names) {
		t.Errorf("order %v, %v", order, err)
	}
	want := []Component{ComponentMultus, ComponentVMNetworks, ComponentKubeVirt, ComponentLocalStorage, ComponentCDI, ComponentInstanceTypes}
	if got := DefaultComponents(); !slices.Equal(got, want) {
		t.Errorf("default set %v", got)
	}
	if _, ok := CatalogueOf("nothing"); ok {
		t.Error("an entry for nothing")
	}
	if e, ok := CatalogueOf(ComponentVelero); !ok || e.Title != "Velero" {
		t.Errorf("%+v", e)
	}
}

func TestOrderComponents(t *testing.T) {
	entry := func(name Component, needs ...Component) CatalogueEntry {
		return CatalogueEntry{Name: name, Needs: needs}
	}
	entries := []CatalogueEntry{entry("d", "c", "b"), entry("a"), entry("b", "a"), entry("c", "a"), entry("x", "y"), entry("y", "z"), entry("z", "y"), entry("l", "lost")}
	for _, c := range []struct {
		wanted, want []Component
		fault        *ComponentOrderError
		text         string
	}{
		{wanted: nil, want: nil},
		{wanted: []Component{"b", "a"}, want: []Component{"a", "b"}},
		{wanted: []Component{"a", "b", "c", "d", "a"}, want: []Component{"a", "c", "b", "d"}},
		{wanted: []Component{"d", "c", "b", "a"}, want: []Component{"a", "c", "b", "d"}},
		{wanted: []Component{"d", "c", "b"}, fault: &ComponentOrderError{Component: "c", Need: "a"}, text: "component c needs a, which is not among the components"},
		{wanted: []Component{"a", "q"}, fault: &ComponentOrderError{Component: "q"}, text: `component "q" is not in the catalogue`},
		{wanted: []Component{"x", "y", "z"}, fault: &ComponentOrderError{Component: "y", Cycle: []Component{"y", "z"}}, text: "components need each other in a circle: y needs z needs y"},
		{wanted: []Component{"l"}, fault: &ComponentOrderError{Component: "l", Need: "lost"}, text: "component l needs lost, which is not among the components"},
	} {
		got, err := OrderComponents(entries, c.wanted)
		var fault *ComponentOrderError
		errors.As(err, &fault)
		if !slices.Equal(got, c.want) || !reflect.DeepEqual(fault, c.fault) {
			t.Errorf("%v: %v, %+v", c.wanted, got, fault)
		}
		if err != nil && err.Error() != c.text {
			t.Errorf("%v: %q", c.wanted, err)
		}
	}
	if got := WithNeeds(entries, []Component{"d", "q"}); !slices.Equal(got, []Component{"d", "q", "c", "b", "a"}) {
		t.Errorf("with needs: %v", got)
	}
	if got := WithNeeds(entries, []Component{"x"}); !slices.Equal(got, []Component{"x", "y", "z"}) {
		t.Errorf("a circle: %v", got)
	}
}

func TestFitOf(t *testing.T) {
	for _, c := range []struct {
		component  Component
		version    string
		kubernetes string
		want       Verdict
	}{
		{ComponentKubeVirt, "v1.6.0", "v1.34.4", FitGated},
		{ComponentKubeVirt, "v1.6.3", "1.34", FitGated},
		{ComponentKubeVirt, "v1.6.0", "v1.33.13", FitYes},
		{ComponentKubeVirt, "v1.6.0", "v1.35.0", FitNo},
		{ComponentKubeVirt, "v1.6.0", "v1.30.1", FitUnknown},
		{ComponentKubeVirt, "v1.5.2", "v1.34.4", FitNo},
		{ComponentKubeVirt, "v1.5.2", "v1.31.0", FitYes},
		{ComponentKubeVirt, "v1.7.0", "v1.34.4", FitYes},
		{ComponentKubeVirt, "v1.60.0", "v1.34.4", FitUnknown},
		{ComponentKubeVirt, "v1.6.0-rc.1", "v1.34.4+k3s1", FitGated},
		{ComponentKubeVirt, "latest", "v1.34.4", FitUnknown},
		{ComponentKubeVirt, "v1.6.0", "", FitUnknown},
		{ComponentCDI, "v1.62.0", "v1.34.4", FitUnknown},
		{ComponentCDI, "v1.65.0", "v1.34.4", FitYes},
	} {
		if got := FitOf(c.component, c.version, c.kubernetes); got.Verdict != c.want || got.Component != c.component {
			t.Errorf("%s %s on %s: %+v, want %s", c.component, c.version, c.kubernetes, got, c.want)
		}
	}
	plans := []ComponentPlan{{Name: ComponentKubeVirt, Version: "v1.6.0"}, {Name: ComponentInstanceTypes}}
	if got := KubernetesGates(plans, "v1.34.4"); !reflect.DeepEqual(got, map[string]bool{"PodObservedGenerationTracking": false}) {
		t.Errorf("gates %v", got)
	}
	if got := KubernetesGates(plans, "v1.33.0"); got != nil {
		t.Errorf("gates %v", got)
	}
	for _, f := range VersionMatrix() {
		if (f.Verdict == FitGated) != (len(f.Gates) > 0) || f.Text == "" {
			t.Errorf("%+v", f)
		}
	}
	for want, m := range map[string]Minors{"any": {}, "1.6": {"1.6", "1.6"}, "up to 1.5": {"", "1.5"}, "1.35 and later": {"1.35", ""}, "1.30 to 1.32": {"1.30", "1.32"}} {
		if m.String() != want {
			t.Errorf("%+v: %s", m, m)
		}
	}
}
