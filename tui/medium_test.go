package tui

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// TestRungTellsTheMedium: the same way to boot goes on with another medium.
func TestRungTellsTheMedium(t *testing.T) {
	s := fleet.Status{Route: fleet.VirtualMedia, Medium: fleet.MinimalMedium, Missed: []fleet.RouteFault{{
		Route: fleet.VirtualMedia, Medium: fleet.FullMedium, Cause: fleet.Cause{Code: fleet.CodeMediumSlow, Chain: []string{"the BMC gets the full medium at 1 Mbit/s: all 904.0 MB would take 2h1m0s, and a boot may take 20m0s"}}}}}
	for lang, want := range map[Language][]string{
		English:  {"full medium left: ", "1 Mbit/s", "used by this attempt, with the minimal medium"},
		Japanese: {"完全な媒体を断念", "1 Mbit/s", "最小媒体"},
	} {
		a := New(Options{Sheet: &Sheet{}, Language: lang})
		mark, _, why := a.rung(s, fleet.RouteOffer{Route: fleet.VirtualMedia})
		for _, w := range want {
			if mark != "●" || !strings.Contains(why, w) {
				t.Errorf("%v: %s %q lacks %q", lang, mark, why, w)
			}
		}
	}
}
