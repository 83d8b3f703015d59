package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

const (
	erasedName = "erased.json"

	// Where tables, boot code and signatures lie: LUKS2 keeps its keys within the
	// first 16 MiB by default, RAID and ZFS keep theirs within the last MiB.
	edgeStart = 16 << 20
	edgeEnd   = headSize
	// maxEdges bounds partitions; the table itself allows no more.
	maxEdges = maxGPTEntries

	// zeroingLasts bounds how long a disk that cannot discard is written over: at
	// 200 MB/s that is 120 GB, and a disk of 20 TB would take more than a day.
	zeroingLasts = 10 * time.Minute
)

// The methods that an eraser tells of.
const (
	byDiscard = "discard"
	byZero    = "zero"
	byEdges   = "zero of tables and signatures"
)

// erase does the other destructive thing: it takes what a server had away.
func (s *session) erase(ctx context.Context, o callhome.EraseOrder) (callhome.Erased, error) {
	var none callhome.Erased
	switch {
	case o.Disk.WWN == "" && o.Disk.Serial == "":
		return none, fleet.NewFault(fleet.CodeWriteFailed, fleet.Invalid, nil, "order to erase: the disk has neither WWN nor serial")
	case o.Owner == "":
		return none, fleet.NewFault(fleet.CodeWriteFailed, fleet.Invalid, nil, "order to erase: no owner, so any disk would do")
	case !s.ticket.Identity.Match(s.facts.Identity):
		return none, fleet.NewFault(fleet.CodeFactsDiffer, fleet.Conflict, nil,
			"this machine is %+v, the ticket was made for %+v", s.facts.Identity, s.ticket.Identity)
	}
	began := time.Now()
	disk, err := s.host.OpenDisk(ctx, o.Disk)
	if err != nil {
		return none, fmt.Errorf("find disk %s: %w", o.Disk, err)
	}
	defer func() { _ = disk.Close() }()
	if err := mayTake(disk, o.Disk, o.Owner, ""); err != nil {
		return none, err
	}
	e := eraser{disk: disk, until: began.Add(zeroingLasts)}
	if err := e.run(ctx); err != nil {
		return none, writeFault(err, "erase disk %s", o.Disk)
	}
	seen := disk.Seen()
	out := callhome.Erased{
		Instance: s.seat.instance,
		Disk:     fleet.DiskRef{WWN: seen.WWN, Serial: seen.Serial, SizeBytes: disk.Size(), Model: seen.Model},
		Method:   e.method,
		Bytes:    e.bytes,
		Seconds:  time.Since(began).Seconds(),
	}
	b, err := json.Marshal(out)
	if err == nil {
		err = s.host.Keep(erasedName, b)
	}
	if err != nil {
		s.say("remember that the disk is erased: %v", err) // costs only a restarted agent's memory
	}
	s.say("erased %s by %s, %d of %d bytes in %.0f s", o.Disk, out.Method, out.Bytes, disk.Size(), out.Seconds)
	return out, nil
}

// erased reports the erased disk and stays until the power is cut.
func (s *session) erased(ctx context.Context, e callhome.Erased) error {
	for {
		orders, err := s.ask(ctx, callhome.PathErased, e)
		if err != nil {
			return err
		}
		if orders.Verb == callhome.Hold && orders.Why == "" {
			orders.Why = "the disk is erased; waiting until the power is cut"
		}
		if err := s.wait(ctx, orders); err != nil {
			return err
		}
	}
}

// recallErased finds out whether an agent before us, in the same boot, had
// erased the disk.
func (s *session) recallErased() (callhome.Erased, bool) {
	var e callhome.Erased
	b, err := s.host.Recall(erasedName)
	if errors.Is(err, fs.ErrNotExist) {
		return e, false
	}
	if err != nil || json.Unmarshal(b, &e) != nil || e.Instance != s.seat.instance {
		return e, false
	}
	return e, true
}

// eraser takes the content of one open disk away.
type eraser struct {
	disk  Disk
	until time.Time // zeroing the whole disk ends here

	method string
	bytes  int64
}

// run clears the edges first, so that a disk that loses power in the middle has
// no table and no keys, then the rest as well as the disk can, and reads back
// what can be read back: a disk may answer anything where it was told to discard
// (Linux gives no promise since 4.12), so the edges are zeroed again after it.
func (e *eraser) run(ctx context.Context) error {
	edges := e.edges()
	if err := e.zero(edges); err != nil {
		return err
	}
	switch err := e.discard(ctx); {
	case err == nil:
		e.method, e.bytes = byDiscard, e.disk.Size()
		if err := e.zero(edges); err != nil {
			return err
		}
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default: // whatever it says, a disk that does not discard can be written over
		if err := e.overwrite(ctx, edges); err != nil {
			return err
		}
	}
	if err := e.verify(ctx, edges); err != nil {
		return err
	}
	e.disk.Rescan()
	return nil
}

// edges are the start and end of the disk and of each partition.
func (e *eraser) edges() []Span {
	size := e.disk.Size()
	var out []Span
	add := func(s Span) {
		if s.Offset < 0 || s.Size <= 0 || s.Offset >= size {
			return
		}
		end := min(s.Offset+s.Size, size)
		start := Span{s.Offset, min(edgeStart, end-s.Offset)}
		tail := max(end-edgeEnd, s.Offset)
		out = append(out, start, Span{tail, end - tail})
	}
	add(Span{0, size})
	head := make([]byte, min(headSize, size))
	if readFull(e.disk, head, 0) != nil {
		return out
	}
	table, err := parseGPT(head, e.disk.SectorSize())
	if err != nil {
		for _, p := range mbrParts(head) {
			add(p.Span)
		}
		return out
	}
	for i, p := range table.parts {
		if i < maxEdges {
			add(p.Span)
		}
	}
	return out
}

func (e *eraser) zero(spans []Span) error {
	for _, s := range spans {
		if err := e.disk.Zero(s.Offset, s.Size); err != nil {
			return fmt.Errorf("zero %d bytes at byte %d: %w", s.Size, s.Offset, err)
		}
	}
	if err := e.disk.Sync(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// pieceOfErase bounds one request, so that an order to stop is heard.
const pieceOfErase = 1 << 30

func (e *eraser) discard(ctx context.Context) error {
	for off := int64(0); off < e.disk.Size(); off += pieceOfErase {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := e.disk.Discard(off, min(pieceOfErase, e.disk.Size()-off)); err != nil {
			return fmt.Errorf("discard at byte %d: %w", off, err)
		}
	}
	return e.disk.Sync()
}

// overwrite zeroes the disk from its start for as long as there is time.
func (e *eraser) overwrite(ctx context.Context, edges []Span) error {
	done := int64(0)
	for done < e.disk.Size() && time.Now().Before(e.until) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n := min(maxZeros, e.disk.Size()-done)
		if err := e.disk.Zero(done, n); err != nil {
			return fmt.Errorf("zero %d bytes at byte %d: %w", n, done, err)
		}
		done += n
	}
	if err := e.disk.Sync(); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	if e.method, e.bytes = byZero, done; done < e.disk.Size() {
		e.method, e.bytes = byEdges, covered(edges, done)
	}
	return nil
}

// covered counts the bytes of the first done ones and of the edges behind them,
// each once.
func covered(edges []Span, done int64) int64 {
	sum, at := done, done
	for _, s := range sorted(edges) {
		from, to := max(s.Offset, at), s.Offset+s.Size
		if to > from {
			sum, at = sum+to-from, to
		}
	}
	return sum
}

func sorted(spans []Span) []Span {
	return slices.SortedFunc(slices.Values(spans), func(a, b Span) int { return cmp.Compare(a.Offset, b.Offset) })
}

// verify reads the edges back.
func (e *eraser) verify(ctx context.Context, edges []Span) error {
	buf := make([]byte, headSize)
	for _, s := range edges {
		for off := s.Offset; off < s.Offset+s.Size; off += headSize {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			p := buf[:min(headSize, s.Offset+s.Size-off)]
			if err := readFull(e.disk, p, off); err != nil {
				return fmt.Errorf("read back at byte %d: %w", off, err)
			}
			if !isZero(p) {
				return fmt.Errorf("the disk returns other bytes than zeros near byte %d", off)
			}
		}
	}
	return nil
}
