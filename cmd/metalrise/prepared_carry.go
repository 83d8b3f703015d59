package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"metalrise.dev/agent"
	"metalrise.dev/fleet"
	"metalrise.dev/ignition"
	"metalrise.dev/provision/store"
)

// Where a prepared install keeps its things, in the live and in the installed
// system alike.
const (
	preparedState    = ignition.CarriedDir + "/site"      // state folder of the engine
	preparedSite     = ignition.CarriedDir + "/site.yaml" // the site file
	preparedSoftware = ignition.CarriedDir + "/software"  // of the nodes, unpacked
)

// spare is what is left free in a file system that is not grown yet: its system
// must be able to start for the first time.
const spare = 96 << 20

// carry is what the agent puts into the system that it writes from a prepared
// medium: the state of the engine beside it, and the medium where it fits.
func carry(tell func(string)) (*agent.Carry, error) {
	ref, err := readMediumRef()
	if err != nil {
		return nil, err
	}
	return &agent.Carry{Medium: ref.Build, Into: func(ctx context.Context, root string) error {
		m, err := findMedium(ctx, ref, tell)
		if err != nil {
			return err
		}
		defer m.Close()
		return carryInto(ctx, m, ref, preparedState, root, tell)
	}}, nil
}

// carryInto puts state and medium below root, flushed when it returns.
func carryInto(ctx context.Context, m *medium, ref mediumRef, state, root string, tell func(string)) error {
	dir, err := carriedDir(root)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil { // of nobody: the image was just written
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	st, err := store.OpenReader(state)
	if err != nil {
		return err
	}
	defer st.Close()
	if err := st.CopyTo(ctx, filepath.Join(dir, filepath.Base(preparedState))); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(preparedSite)), []byte(m.Site), 0o600); err != nil {
		return err
	}
	if err := carryMedium(ctx, m, dir, tell); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(ignition.PendingPath)), []byte(ref.Build+"\n"), 0o600); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}

// carriedDir is ignition.CarriedDir in a root file system that is not booted:
// systems of ostree keep /var of the one deployment they have elsewhere.
func carriedDir(root string) (string, error) {
	vars, err := filepath.Glob(filepath.Join(root, "ostree/deploy/*/var"))
	if err != nil {
		return "", err
	}
	inside, err := filepath.Rel("/var", ignition.CarriedDir)
	if err != nil {
		return "", err
	}
	switch len(vars) {
	case 0:
		return filepath.Join(root, "var", inside), nil
	case 1:
		return filepath.Join(vars[0], inside), nil
	}
	return "", fleet.NewFault(fleet.CodeImageMismatch, fleet.Invalid, nil, "the image holds %d systems, want one", len(vars))
}

// carryMedium copies what the installed system needs of the medium. Without room
// for it that system reads the medium, which then must stay in.
func carryMedium(ctx context.Context, m *medium, dir string, tell func(string)) error {
	size := m.carried()
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("ask for room: %w", err)
	}
	if free := int64(fs.Bavail) * fs.Bsize; size == 0 || free < size+spare {
		tell(fmt.Sprintf("no room for %s of the medium (%s free): leave it in until this machine says that it is ready", bytesText(size), bytesText(free)))
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, filepath.Base(ignition.CarriedCopy)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, &stopping{ctx, io.NewSectionReader(m.file, m.start, size)})
	if err == nil {
		_, err = f.Write(m.index)
	}
	return errors.Join(err, f.Close())
}
