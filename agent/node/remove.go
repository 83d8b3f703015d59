package node

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"golang.org/x/sys/unix"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// gone removes a path with all below it. Links are removed, not followed. A
// mount point below it stops the step before anything is removed: what is
// mounted there may be somebody's data.
func (s System) gone(step callhome.RemoveStep) error {
	root, ok := mayRemove(step.Path)
	if !ok {
		return fleet.NewFault(fleet.CodeNodePrepare, fleet.Invalid, nil, "%s", refusedPath("remove", step.Path))
	}
	p, err := s.open(root, step.Path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return prepare(err, "remove %s", step.Path)
	}
	defer func() { _ = p.Close() }()
	full := path.Join(p.full, p.rel)
	mounts, err := s.mounts(full)
	if err != nil {
		return prepare(err, "remove %s: read what is mounted", step.Path)
	}
	for _, m := range mounts {
		if m != full {
			return prepare(nil, "remove %s: something is mounted on %s; stop what uses it and unmount it first", step.Path, m)
		}
	}
	if p.rel != "." {
		if err := p.RemoveAll(p.rel); err != nil && !(len(mounts) > 0 && errors.Is(err, unix.EBUSY)) {
			return prepare(err, "remove %s", step.Path)
		}
		if err := p.syncDir(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return prepare(err, "remove %s", step.Path)
		}
		return nil
	}
	if err := p.empty(); err != nil {
		return prepare(err, "remove %s", step.Path)
	}
	return nil
}

// empty removes all that is in the folder, and leaves the folder itself: others
// may have it mounted, linked to or labelled.
func (p *place) empty() error {
	d, err := p.Open(".")
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	entries, err := d.ReadDir(-1)
	for _, e := range entries {
		err = errors.Join(err, p.RemoveAll(e.Name()))
	}
	if err != nil {
		return fmt.Errorf("empty it: %w", err)
	}
	return d.Sync()
}
