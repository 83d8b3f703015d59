package images

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// Addition is a component of the VM platform that software of nodes gets besides
// what it has, from files of its makers.
type Addition struct {
	Component fleet.Component
	Version   string   // as its makers write it: "v1.2.3"
	Manifests []string // files, in the order in which they are applied
	Archives  []string // container images: OCI image layouts as tar, or what docker save writes
}

// AddComponent makes software of nodes that is the one in dir with a component
// put in, in the store; dir stays as it is. What dir has of that component already
// gives way. Archives go to all nodes.
//
// lacking are images that the component's manifests ask for and no archive of the
// result holds, sorted: nodes will ask their registries for them.
//
// Errors are faults: those of LoadPayload; KUBE-003 around an *InvalidError for an
// addition that does not fit; KUBE-004 for files that cannot be read.
func (s *Store) AddComponent(ctx context.Context, dir string, a Addition, p Progress) (e Entry, lacking []string, err error) {
	base, err := LoadPayload(ctx, dir)
	if err != nil {
		return Entry{}, nil, err
	}
	unlock, err := s.sharing(ctx)
	if err != nil {
		return Entry{}, nil, err
	}
	defer unlock()
	what := fmt.Sprintf("put %s into the nodes' software %s", a.Component, dir)
	if err := s.importBlobs(ctx, base, p); err != nil {
		return Entry{}, nil, blobError(ctx, err, what)
	}
	v := base.Value()
	v.Manifests = slices.DeleteFunc(slices.Clone(v.Manifests), func(m fleet.PayloadManifest) bool { return m.Component == a.Component })
	v.Images = slices.DeleteFunc(slices.Clone(v.Images), func(i fleet.PayloadImage) bool { return i.Component == a.Component })
	asked, err := s.addManifests(ctx, &v, a, p)
	if err != nil {
		return Entry{}, nil, blobError(ctx, err, what)
	}
	if err := s.addArchives(ctx, &v, a, p); err != nil {
		return Entry{}, nil, blobError(ctx, err, what)
	}
	if err := CheckPayload(v); err != nil {
		return Entry{}, nil, fleet.NewFault(fleet.CodePayloadInvalid, fleet.Invalid, err, "%s", what)
	}
	digest, err := fleet.Digest(v)
	if err != nil {
		return Entry{}, nil, blobError(ctx, err, what)
	}
	if e, err = s.landPayload(v, digest); err != nil {
		return Entry{}, nil, blobError(ctx, err, what)
	}
	return e, without(asked, v.Images), nil
}

// addManifests lists the manifests and tells which images they ask for.
func (s *Store) addManifests(ctx context.Context, v *fleet.Payload, a Addition, p Progress) (asked []string, err error) {
	for _, path := range a.Manifests {
		digest, size, err := s.keepFile(ctx, path, maxManifestText, p)
		if err != nil {
			return nil, err
		}
		text, err := os.ReadFile(s.blob(digest))
		if err != nil {
			return nil, err
		}
		asked = append(asked, imagesAsked(string(text))...)
		name := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		v.Manifests = append(v.Manifests, fleet.PayloadManifest{Component: a.Component, Name: name, Version: a.Version, Digest: digest, Bytes: size})
	}
	return asked, nil
}

// addArchives lists the archives under the names of the images in them.
func (s *Store) addArchives(ctx context.Context, v *fleet.Payload, a Addition, p Progress) error {
	for n, path := range a.Archives {
		digest, size, err := s.keepFile(ctx, path, maxBlob, p)
		if err != nil {
			return err
		}
		names, err := namesIn(ctx, s.blob(digest))
		if err != nil {
			return fmt.Errorf("container images %s: %w", path, err)
		}
		v.Images = append(v.Images, fleet.PayloadImage{Name: fmt.Sprintf("%s/%d", a.Component, n+1), References: names, Digest: digest, Bytes: size, Component: a.Component})
	}
	return nil
}

// namesIn reads an archive and tells what its images are called.
func namesIn(ctx context.Context, path string) ([]string, error) {
	f, _, err := openStamped(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	set := newContainers()
	if err := set.add(ctx, f); err != nil {
		return nil, err
	}
	return set.Names(), nil
}

// keepFile copies a file into the store under its digest. A file that changes
// meanwhile is refused.
func (s *Store) keepFile(ctx context.Context, path string, most int64, p Progress) (digest string, size int64, err error) {
	f, _, err := openStamped(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	sum := sha256.New()
	if size, err = copyContext(ctx, sum, io.LimitReader(f, most+1), nil); err != nil {
		return "", 0, err
	}
	if size > most {
		return "", 0, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	if size == 0 {
		return "", 0, fmt.Errorf("%s is empty", path)
	}
	digest = fmt.Sprintf("%x", sum.Sum(nil))
	open := func(blob) (*os.File, error) {
		again, _, err := openStamped(path)
		return again, err
	}
	var other *CorruptError
	if err := s.importBlob(ctx, blob{sha256: digest, bytes: size}, open, p); errors.As(err, &other) {
		return "", 0, fmt.Errorf("%s changed while it was read", path)
	} else if err != nil {
		return "", 0, err
	}
	return digest, size, nil
}

// imageField is a container's image in a manifest. That of other kinds of objects
// is found too, which only says more than is needed.
var imageField = regexp.MustCompile(`(?m)^\s*(?:- )?image:[ \t]*["']?([^"'\s#]+)`)

func imagesAsked(manifest string) []string {
	var out []string
	for _, m := range imageField.FindAllStringSubmatch(manifest, -1) {
		out = append(out, m[1])
	}
	return out
}

// without lists what is asked for and in no archive, by the names' full form.
func without(asked []string, archives []fleet.PayloadImage) []string {
	have := map[string]bool{}
	for _, a := range archives {
		for _, r := range a.References {
			if n, err := parseImageName(r); err == nil {
				have[n.String()] = true
			}
		}
	}
	var out []string
	for _, name := range asked {
		if n, err := parseImageName(name); err != nil || !have[n.String()] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
