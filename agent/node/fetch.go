package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// fetch puts a content in place by its digest.
func (s System) fetch(ctx context.Context, from Source, step callhome.FetchStep, moved func(int64)) error {
	root, ok := mayWrite(step.To)
	if !ok {
		return fleet.NewFault(fleet.CodeNodePrepare, fleet.Invalid, nil, "%s", refusedPath("write", step.To))
	}
	p, err := s.open(root, step.To, true)
	if err != nil {
		return prepare(err, "fetch %s", step.To)
	}
	defer func() { _ = p.Close() }()
	c := content{from: from, path: step.Path, sum: step.SHA256, size: step.Bytes, moved: moved}
	if err := c.into(ctx, p, fs.FileMode(step.Mode)); err != nil {
		return prepare(err, "fetch %s", step.To)
	}
	return nil
}

// content is something that is known by its digest.
type content struct {
	from  Source
	path  string
	sum   string
	size  int64
	moved func(int64)
}

// into makes the file at p hold the content. What was fetched before a restart
// is kept beside it under the digest's name, and gone on from: the digest over
// the whole decides in the end.
func (c content) into(ctx context.Context, p *place, mode fs.FileMode) error {
	there, err := p.holds(c.sum, c.size, mode)
	if err != nil || there {
		c.moved(c.size)
		return err
	}
	if err := p.parents(); err != nil {
		return err
	}
	part := p.beside("." + path.Base(p.rel) + "." + c.sum[:16] + ".part")
	resumed, err := c.fill(ctx, p, part, mode)
	if err != nil && resumed && ctx.Err() == nil && fleet.CodeOf(err) == fleet.CodePayloadCorrupt {
		// What was kept may be what is wrong: once from the beginning.
		if err := p.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		_, err = c.fill(ctx, p, part, mode)
	}
	if err != nil {
		if fleet.CodeOf(err) == fleet.CodePayloadCorrupt {
			_ = p.Remove(part) // else the next try does
		}
		return err
	}
	return p.settle(part)
}

// fill makes the part file whole, flushed and checked. It tells whether it went
// on from what was kept.
func (c content) fill(ctx context.Context, p *place, part string, mode fs.FileMode) (resumed bool, err error) {
	f, err := p.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // a second close after finish is harmless
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false, errors.Join(err, fleet.NewFault(fleet.CodeNodePrepare, fleet.Conflict, nil, "%s is no regular file", part))
	}
	h := sha256.New()
	kept, err := io.Copy(h, io.LimitReader(f, c.size+1))
	if err != nil || kept > c.size {
		h, kept = sha256.New(), 0
	}
	resumed = kept > 0
	if err := f.Truncate(kept); err != nil {
		return resumed, err
	}
	if _, err := f.Seek(kept, io.SeekStart); err != nil {
		return resumed, err
	}
	before := kept
	c.moved(kept)
	if err := c.stream(ctx, f, h, kept); err != nil {
		_ = f.Sync() // what came is worth keeping; when not, it is fetched again
		return resumed, err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != c.sum {
		c.moved(-c.size)
		return resumed, fleet.NewFault(fleet.CodePayloadCorrupt, fleet.Conflict, nil, "what is served has sha256 %s, planned is %s (byte %d to %d were fetched now)", got, c.sum, before, c.size)
	}
	return resumed, finish(f, mode)
}

// stream fetches all behind the kept bytes.
func (c content) stream(ctx context.Context, f *os.File, h hash.Hash, kept int64) error {
	if kept == c.size {
		return nil
	}
	body, err := c.from.Open(ctx, c.path, kept, c.size)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	buf := make([]byte, 256<<10)
	for at := kept; ; {
		n, err := body.Read(buf)
		if at += int64(n); at > c.size {
			return fleet.NewFault(fleet.CodePayloadCorrupt, fleet.Conflict, nil, "what is served is longer than the planned %d bytes", c.size)
		}
		if n > 0 {
			_, _ = h.Write(buf[:n]) // a hash never fails
			if _, err := f.Write(buf[:n]); err != nil {
				return err
			}
			c.moved(int64(n))
		}
		switch {
		case errors.Is(err, io.EOF) && at == c.size:
			return nil
		case errors.Is(err, io.EOF):
			return fleet.NewFault(fleet.CodePayloadCorrupt, fleet.Conflict, nil, "what is served ends at byte %d, planned are %d", at, c.size)
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
	}
}
