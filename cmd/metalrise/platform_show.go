package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"metalrise.dev/fleet"
	"metalrise.dev/provision"
	"metalrise.dev/provision/store"
)

// printPlatform prints how far the VM platform is.
func (o *options) printPlatform(view fleet.Overview) {
	if view.Stack == nil {
		return
	}
	o.printf("\nVM platform: %s\n", platformText(*view.Stack))
	w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	for _, s := range view.Stack.Steps {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", stepName(s), s.State, stepText(s))
	}
	_ = w.Flush()
	for _, s := range view.Stack.Steps {
		if s.State == fleet.StepFailed && s.Cause != nil {
			page, _ := fleet.Page(s.Cause.Code)
			o.printf("\n%s failed: %s %s\n", stepName(s), s.Cause.Code, page.Title)
			for _, c := range s.Cause.Chain {
				o.printf("    because: %s\n", c)
			}
			o.printf("    what to do: %s\n", page.Remedy)
		}
		if s.State == fleet.StepRunning {
			for _, k := range s.Checks {
				if !k.OK {
					o.printf("  %s lacks %s: %s\n", stepName(s), k.Name, k.Missing)
				}
			}
		}
	}
	if view.Stack.Done {
		o.printf("  metalrise handover shows how to use it\n")
	}
}

// platformText says in a few words how the platform stands.
func platformText(s fleet.StackStatus) string {
	ok, left := 0, 0
	for _, x := range s.Steps {
		switch x.State {
		case fleet.StepOK:
			ok++
		case fleet.StepSkipped:
			left++
		}
	}
	text := fmt.Sprintf("%d of %d steps done", ok, len(s.Steps))
	if left > 0 {
		text += fmt.Sprintf(", %d left out", left)
	}
	switch {
	case s.Held:
		text += ", held: a person must act; then metalrise retry --platform"
	case s.Done && left > 0:
		text += ", all others are there and proven"
	case s.Done:
		text += ", all are there and proven"
	}
	return text
}

func stepName(s fleet.StackStep) string {
	if s.Component != "" {
		return string(s.Component)
	}
	return "proof " + string(s.Proof)
}

// stepText is what one line can say of a step.
func stepText(s fleet.StackStep) string {
	var parts []string
	if s.Version != "" {
		parts = append(parts, s.Version)
	}
	if s.State == fleet.StepOK && s.Took > 0 {
		parts = append(parts, fmt.Sprintf("%.0f s", s.Took))
	}
	if s.Result != nil && s.State == fleet.StepOK {
		parts = append(parts, figures(s.Result.Measured))
	}
	if s.Tries > 1 {
		parts = append(parts, fmt.Sprintf("%d tries", s.Tries))
	}
	parts = append(parts, s.Note)
	return strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), ", ")
}

// figures prints what a proof measured: "ping 0.4 ms, restart 95 s".
func figures(m map[string]float64) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		label, unit := name, ""
		for _, end := range [][2]string{{"Milliseconds", "ms"}, {"Seconds", "s"}, {"MiB", "MiB"}, {"Percent", "%"}} {
			if l, ok := strings.CutSuffix(name, end[0]); ok {
				label, unit = l, " "+end[1]
				break
			}
		}
		out = append(out, fmt.Sprintf("%s %.4g%s", cmp.Or(label, name), m[name], unit))
	}
	return strings.Join(out, ", ")
}

// stepOfEvent names the component or proof that an event is about, "" for others.
func stepOfEvent(e fleet.Event) string {
	if e.Action != fleet.ActComponent && e.Action != fleet.ActProve {
		return ""
	}
	var d provision.StepData
	if json.Unmarshal(e.Data, &d) != nil {
		return ""
	}
	return d.String()
}

// refuseDark keeps a person from leaving a server off that a proof switched off.
func refuseDark(ctx context.Context, st *store.Store) error {
	dark, err := provision.SwitchedOff(ctx, st, st)
	if err != nil || len(dark) == 0 {
		return err
	}
	return fleet.NewFault(fleet.CodeFencingFailed, fleet.Conflict, nil,
		"%s was switched off for a proof and is still off: metalrise apply switches it on again, then take the consent back", strings.Join(dark, ", "))
}
