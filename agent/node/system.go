package node

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Source gives the contents that steps ask for.
type Source interface {
	// Open reads a content of size bytes from a byte on, over broken connections
	// where needed. An error of the connection is a fleet.Fault that says whether
	// it may pass; one with fleet.CodePayloadCorrupt says that what is served is
	// another content.
	Open(ctx context.Context, path string, from, size int64) (io.ReadCloser, error)
}

// System is the machine on which steps are done.
type System struct {
	// Root is where the machine's files begin: "/" outside of tests.
	Root string
}

// Do carries out one step; it returns at once when the step is done already.
// moved, which may be nil, hears of fetched bytes, also of those that were there.
//
// An error is a fleet.Fault whose kind says whether the same step may work
// later; OutputOf finds what a failed program wrote. A step whose context ends
// is left in a state from which it may be done again.
func (s System) Do(ctx context.Context, from Source, step callhome.Step, moved func(bytes int64)) error {
	if why := checkStep(step); why != "" {
		return fleet.NewFault(fleet.CodeNodePrepare, fleet.Invalid, nil, "step %.100q is refused: %s", step.Name, why)
	}
	if moved == nil {
		moved = func(int64) {}
	}
	switch {
	case step.Fetch != nil:
		return s.fetch(ctx, from, *step.Fetch, moved)
	case step.File != nil:
		return s.file(*step.File)
	case step.Image != nil:
		return s.image(ctx, from, *step.Image, moved)
	case step.Unit != nil:
		return s.unit(ctx, *step.Unit)
	case step.Run != nil:
		return s.runStep(ctx, *step.Run)
	case step.Claim != nil:
		return s.claim(ctx, *step.Claim)
	}
	return s.gone(*step.Gone)
}

// Bytes is how much a step fetches when nothing is there yet.
func Bytes(step callhome.Step) int64 {
	switch {
	case step.Fetch != nil:
		return step.Fetch.Bytes
	case step.Image != nil:
		return step.Image.Bytes
	}
	return 0
}

// prepare makes the usual fault of a step: the machine is not as needed.
func prepare(err error, format string, args ...any) error {
	kind := fleet.Conflict
	var f *fleet.Fault
	if errors.As(err, &f) {
		kind = f.Kind
		return fleet.NewFault(f.Code, kind, err, format, args...)
	}
	return fleet.NewFault(fleet.CodeNodePrepare, kind, err, format, args...)
}

// file writes a file or link.
func (s System) file(step callhome.FileStep) error {
	root, ok := mayWrite(step.To)
	if !ok {
		return fleet.NewFault(fleet.CodeNodePrepare, fleet.Invalid, nil, "%s", refusedPath("write", step.To))
	}
	p, err := s.open(root, step.To, true)
	if err != nil {
		return prepare(err, "write %s", step.To)
	}
	defer func() { _ = p.Close() }()
	if step.Target != "" {
		err = p.link(step.Target)
	} else {
		mode := fs.FileMode(step.Mode)
		var there bool
		if there, err = p.holdsData(step.Data, mode); err == nil && !there {
			err = p.write(step.Data, mode)
		}
	}
	if err != nil {
		return prepare(err, "write %s", step.To)
	}
	return nil
}
