package bmctest_test

import (
	"fmt"
	"slices"
	"testing"
)

// proof is one thing shown of a row. One with a gap is known not to work, and
// says why; it fails when it works after all. Without run nothing can be asked.
type proof struct {
	name string
	gap  string
	run  func(t *testing.T) error
}

// row is one thing that BMCs of the field do.
type row struct {
	n      int
	quirk  string // what BMCs do
	does   string // what becomes of it here, one sentence
	proofs []proof
}

type result string

const (
	pass    result = "pass"    // every proof holds
	partial result = "partial" // some do
	open    result = "open"    // none does
)

func (r row) result() result {
	gaps := 0
	for _, p := range r.proofs {
		if p.gap != "" {
			gaps++
		}
	}
	switch {
	case len(r.proofs) == 0 || gaps == len(r.proofs):
		return open
	case gaps > 0:
		return partial
	}
	return pass
}

func (r row) test() string { return fmt.Sprintf("row%02d", r.n) }

func rows() []row {
	return slices.Concat(connectionRows(), loginRows(), readingRows(), sizeRows(), powerRows(), bootRows(), mediaRows(), slotRows())
}

// TestQuirks holds every row of docs/compatibility.md to what is recorded of it.
func TestQuirks(t *testing.T) {
	for i, r := range rows() {
		if r.n != i+1 {
			t.Fatalf("row %d stands at place %d", r.n, i+1)
		}
		t.Run(r.test(), func(t *testing.T) {
			for _, p := range r.proofs {
				t.Run(p.name, func(t *testing.T) {
					t.Parallel()
					hold(t, p)
				})
			}
		})
	}
}

func hold(t *testing.T, p proof) {
	if p.run == nil {
		if p.gap == "" {
			t.Error("nothing is run, and no gap says why")
		}
		return
	}
	switch err := p.run(t); {
	case err != nil && p.gap == "":
		t.Error(err)
	case err == nil && p.gap != "":
		t.Errorf("it works, though the record says %q: take the gap away", p.gap)
	case err != nil:
		t.Logf("known gap (%s): %v", p.gap, err)
	}
}
