package fleet

import (
	"maps"
	"strconv"
	"strings"
)

// Verdict says whether a component's version goes with one of Kubernetes.
type Verdict string

const (
	FitUnknown Verdict = "unknown"      // nothing is known of this pair
	FitYes     Verdict = "fits"         // its makers publish so
	FitGated   Verdict = "with-gates"   // only with the rule's feature gates of Kubernetes
	FitNo      Verdict = "does-not-fit" // its makers do not test it, and there is a reason for doubt
)

// Minors is a range of versions by their first two numbers, both ends included;
// "" leaves an end open.
type Minors struct{ From, To string }

// Fit is one row of the version matrix.
type Fit struct {
	Component  Component
	Versions   Minors // of the component
	Kubernetes Minors
	Verdict    Verdict
	// Gates are feature gates that the API server, the controllers and the
	// kubelets must have; only with FitGated.
	Gates map[string]bool
	Text  string // why, one sentence
	// Seen tells that metalrise's tests saw it; else its makers publish it.
	Seen bool
}

// VersionMatrix lists what is known of versions that go together or do not. The
// first row that matches counts.
func VersionMatrix() []Fit {
	tested := func(version, from, to string) Fit {
		return Fit{Component: ComponentKubeVirt, Versions: Minors{version, version}, Kubernetes: Minors{from, to}, Verdict: FitYes,
			Text: "KubeVirt's makers test each release with the three releases of Kubernetes that are the newest at its time."}
	}
	return []Fit{
		{
			Component: ComponentKubeVirt, Versions: Minors{"1.6", "1.6"}, Kubernetes: Minors{"1.34", "1.34"}, Verdict: FitGated,
			Gates: map[string]bool{"PodObservedGenerationTracking": false}, Seen: true,
			Text: "Since Kubernetes 1.34 the conditions of pods carry observedGeneration. KubeVirt 1.6 drops that field and then does not get its own patch of a pod through, so every VM stays Pending.",
		},
		{
			Component: ComponentKubeVirt, Versions: Minors{"", "1.5"}, Kubernetes: Minors{"1.34", ""}, Verdict: FitNo,
			Text: "KubeVirt's makers did not test 1.5 and earlier with Kubernetes 1.34, which changed the conditions of pods that KubeVirt patches.",
		},
		{
			Component: ComponentKubeVirt, Versions: Minors{"1.6", "1.6"}, Kubernetes: Minors{"1.35", ""}, Verdict: FitNo,
			Text: "KubeVirt 1.6 needs a feature gate for Kubernetes 1.34 already, and its makers did not test it with a newer one.",
		},
		tested("1.5", "1.30", "1.32"),
		tested("1.6", "1.31", "1.33"),
		tested("1.7", "1.32", "1.34"),
		tested("1.8", "1.33", "1.35"),
		{
			Component: ComponentCDI, Versions: Minors{"1.65", "1.65"}, Kubernetes: Minors{"1.34", "1.34"}, Verdict: FitYes, Seen: true,
			Text: "The tests of metalrise run them together.",
		},
	}
}

// FitOf tells what is known of a component's version with one of Kubernetes.
// Both are written as "v1.34.4" or "1.34". The component of the answer is set
// also where nothing is known.
func FitOf(c Component, version, kubernetes string) Fit {
	for _, f := range VersionMatrix() {
		if f.Component == c && f.Versions.has(version) && f.Kubernetes.has(kubernetes) {
			return f
		}
	}
	return Fit{Component: c, Verdict: FitUnknown}
}

// KubernetesGates are the feature gates that the components' versions need of
// Kubernetes; nil when none does.
func KubernetesGates(components []ComponentPlan, kubernetes string) map[string]bool {
	var out map[string]bool
	for _, c := range components {
		f := FitOf(c.Name, c.Version, kubernetes)
		if f.Verdict != FitGated {
			continue
		}
		if out == nil {
			out = map[string]bool{}
		}
		maps.Copy(out, f.Gates)
	}
	return out
}

func (m Minors) has(version string) bool {
	v, ok := minorOf(version)
	if !ok {
		return false
	}
	from, low := minorOf(m.From)
	to, high := minorOf(m.To)
	return (!low || from <= v) && (!high || v <= to)
}

func (m Minors) String() string {
	switch {
	case m.From == m.To && m.From == "":
		return "any"
	case m.From == m.To:
		return m.From
	case m.From == "":
		return "up to " + m.To
	case m.To == "":
		return m.From + " and later"
	}
	return m.From + " to " + m.To
}

// minorOf makes the first two numbers of a version comparable.
func minorOf(version string) (n int, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	if len(parts) < 2 {
		return 0, false
	}
	major, err := strconv.ParseUint(parts[0], 10, 16)
	if err != nil {
		return 0, false
	}
	end := strings.IndexFunc(parts[1], func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(parts[1])
	}
	minor, err := strconv.ParseUint(parts[1][:end], 10, 16)
	if err != nil {
		return 0, false
	}
	return int(major)<<16 | int(minor), true
}
