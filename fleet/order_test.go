package fleet_test

import (
	"slices"
	"testing"

	"metalrise.dev/fleet"
)

func TestCompareNames(t *testing.T) {
	sorted := []string{"", "1", "01a", "1a", "01ab", "2", "10", "a", "a-1", "a1", "oslo-cp1", "oslo-cp2", "oslo-cp10", "oslo-w1", "oslo-w1.example.org", "oslo-w2", "oslo-w9", "oslo-w10",
		"oslo-w010a", "oslo-w18446744073709551615", "oslo-w18446744073709551616", "w007", "w07", "w7", "w7-x1", "x"}
	for i, a := range sorted {
		for j, b := range sorted {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := fleet.CompareNames(a, b); got != want {
				t.Errorf("CompareNames(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func FuzzCompareNames(f *testing.F) {
	f.Add("w2", "w10", "w1a")
	f.Add("1a", "01ab", "01")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		list := []string{a, b, c}
		slices.SortFunc(list, fleet.CompareNames)
		for i := range list {
			for j := i; j < 3; j++ {
				if fleet.CompareNames(list[i], list[j]) > 0 || fleet.CompareNames(list[j], list[i]) < 0 || (fleet.CompareNames(list[i], list[j]) == 0) != (list[i] == list[j]) {
					t.Errorf("no order among %q", list)
				}
			}
		}
	})
}
