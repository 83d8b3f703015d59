package provision

import (
	"context"
	"testing"
	"testing/synctest"
)

func TestSeatsGoByRank(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := seats{free: 1}
		if !s.take(t.Context(), waiting) {
			t.Fatal("a free seat was not given")
		}
		got := make(chan string, 3)
		ask := func(ctx context.Context, name string, r rank) {
			go func() {
				if s.take(ctx, r) {
					got <- name
				}
			}()
			synctest.Wait()
		}
		gone, leave := context.WithCancel(t.Context())
		ask(gone, "gone", waiting)
		ask(t.Context(), "first", waiting)
		ask(t.Context(), "begun", underWay)
		leave()
		synctest.Wait()
		for _, want := range []string{"begun", "first"} {
			s.give()
			if name := <-got; name != want {
				t.Errorf("the seat went to %q, want %q", name, want)
			}
		}
		s.give()
		if s.free != 1 {
			t.Errorf("%d seats are free, want 1", s.free)
		}
	})
}
