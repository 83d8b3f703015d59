package main

import (
	"path/filepath"

	"metalrise.dev/images"
	"metalrise.dev/iso"
)

// library opens what machines fetch. Without a release, missing says why: what is
// installed needs none, and a finished site may have lost the folder.
func (d *daemon) library(folder string) (*library, images.Release, error) {
	lib := &library{media: iso.NewCache(mostMedia, mostMediaBytes)}
	var err error
	if lib.agentFile, lib.agentPath, err = ownProgram(); err != nil {
		return nil, images.Release{}, err
	}
	release, err := d.release(lib, folder)
	if d.ctx.Err() != nil {
		return nil, images.Release{}, err
	}
	if err != nil {
		d.log.Warn("nothing can be installed: the release is not there", "folder", folder, "error", err)
		lib.missing, lib.noMinimal = err, "the release is not there"
		return lib, images.Release{}, nil
	}
	return lib, release, nil
}

// release verifies the release: nothing is ever served that was not.
func (d *daemon) release(lib *library, folder string) (images.Release, error) {
	r, err := images.Load(d.ctx, folder)
	if err != nil {
		return r, err
	}
	v := images.Verifier{Cache: filepath.Join(d.store.Dir(), "verified")}
	for _, a := range []images.Artifact{r.ISO, r.Disk} {
		verified, err := v.Verify(d.ctx, a, nil)
		if err != nil {
			return r, err
		}
		if a.Path == r.Disk.Path {
			lib.disk = verified
		}
	}
	if lib.base, err = iso.OpenVerified(r.ISO.Path, r.ISO.SHA256); err != nil {
		return r, err
	}
	lib.findMinimal()
	return r, nil
}

// size is that of the base; 0 without one.
func (l *library) size() int64 {
	if l.base == nil {
		return 0
	}
	return l.base.Size()
}
