package agent

import (
	"context"
	"errors"
	"testing"
	"time"
)

// sparse is a disk of any size that knows only where it was zeroed.
type sparse struct {
	Disk
	size  int64
	zeros []Span
}

func (d *sparse) Size() int64                { return d.size }
func (d *sparse) SectorSize() int64          { return 512 }
func (d *sparse) Sync() error                { return nil }
func (d *sparse) Rescan()                    {}
func (d *sparse) Discard(int64, int64) error { return errors.ErrUnsupported }
func (d *sparse) Zero(off, n int64) error {
	d.zeros = append(d.zeros, Span{off, n})
	return nil
}
func (d *sparse) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

// TestEraseWithoutTime is the method for disks that would take hours.
func TestEraseWithoutTime(t *testing.T) {
	d := &sparse{size: 20 << 40}
	e := eraser{disk: d, until: time.Now().Add(-time.Second)}
	if err := e.run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if e.method != byEdges || e.bytes != edgeStart+edgeEnd || len(d.zeros) != 2 || d.zeros[1] != (Span{d.size - edgeEnd, edgeEnd}) {
		t.Errorf("%s, %d bytes, zeroed %v", e.method, e.bytes, d.zeros)
	}
}

func TestCovered(t *testing.T) {
	for name, c := range map[string]struct {
		edges []Span
		done  int64
		want  int64
	}{
		"nothing":          {nil, 0, 0},
		"apart":            {[]Span{{100, 10}, {0, 10}}, 0, 20},
		"over each other":  {[]Span{{0, 10}, {5, 10}, {7, 2}}, 0, 15},
		"partly done":      {[]Span{{0, 10}, {20, 10}}, 25, 30},
		"all done already": {[]Span{{0, 10}}, 100, 100},
	} {
		if got := covered(c.edges, c.done); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
