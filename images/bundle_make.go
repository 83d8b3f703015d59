package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"metalrise.dev/fleet"
)

// Packing is a bundle that is ready to be written: everything was verified and
// all digests are known.
type Packing struct {
	Bundle Bundle

	text  []byte
	opens map[string]func() (io.ReadCloser, error)
	set   *Containers
}

// Wanted names what goes into a bundle.
type Wanted struct {
	Site    string // its name
	Image   string // as Load takes it
	Payload string // folder; "" if the site makes no cluster
	Files   []WantedFile
}

// WantedFile is a file to be carried.
type WantedFile struct {
	Kind FileKind
	Path string
	Text []byte
}

// Pack gathers and verifies what a bundle is to hold. The caller closes it.
// Errors are those of Load, LoadPayload and their Verify.
func Pack(ctx context.Context, w Wanted, v Verifier, p Progress) (*Packing, error) {
	k := &Packing{opens: map[string]func() (io.ReadCloser, error){}}
	k.Bundle = Bundle{APIVersion: BundleVersion, Site: w.Site}
	sizes := map[string]int64{}
	err := k.release(ctx, w.Image, v, p, sizes)
	if err == nil && w.Payload != "" {
		err = k.payload(ctx, w.Payload, v, p, sizes)
	}
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	names := map[string]bool{}
	for _, f := range w.Files {
		b := BundleFile{Kind: f.Kind, Name: fileNameOf(f.Path), SHA256: hexSHA256(f.Text), Bytes: int64(len(f.Text))}
		if names[b.Name] {
			b.Name = b.SHA256[:8] + "-" + b.Name
		}
		names[b.Name] = true
		k.Bundle.Files = append(k.Bundle.Files, b)
		sizes[b.SHA256] = b.Bytes
		k.opens[b.SHA256] = extent{data: f.Text, size: b.Bytes}.reader
	}
	for _, d := range slices.Sorted(maps.Keys(sizes)) {
		k.Bundle.Contents = append(k.Bundle.Contents, BundleContent{d, sizes[d]})
	}
	if k.text, err = json.MarshalIndent(k.Bundle, "", " "); err == nil {
		_, err = ParseBundle(k.text) // what is written must be readable
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a bundle: %w", err), k.Close())
	}
	return k, nil
}

func (e extent) reader() (io.ReadCloser, error) { return io.NopCloser(e.open()), nil }

// Close closes the archives that were opened.
func (k *Packing) Close() error {
	if k.set == nil {
		return nil
	}
	return k.set.Close()
}

func (k *Packing) release(ctx context.Context, ref string, v Verifier, p Progress, sizes map[string]int64) error {
	rel, err := Load(ctx, ref)
	if err != nil {
		return err
	}
	b := BundleRelease{OS: OtherOS, Stream: rel.Stream, Version: rel.Version, Arch: rel.Arch}
	known := recordBeside(ref)
	if known.OS != "" {
		b.OS = known.OS
	}
	for _, f := range rel.files() {
		name := string(f.role) + extension(f.Format)
		got, err := v.Verify(ctx, f.Artifact, p.of(name))
		if err != nil {
			return err
		}
		r := RecordFile{Role: f.role, Format: f.Format, Name: name, SHA256: f.SHA256, Unpacked: f.UncompressedSHA256, Bytes: got.Artifact().Size}
		if i := slices.IndexFunc(known.Files, func(k RecordFile) bool { return k.SHA256 == f.SHA256 && k.Role == f.role }); i >= 0 {
			r = known.Files[i] // with its provenance
		}
		b.Files = append(b.Files, r)
		sizes[r.SHA256] = r.Bytes
		k.opens[r.SHA256] = func() (io.ReadCloser, error) { return got.Open() }
	}
	b.Digest = releaseOf(b.record()).Digest()
	k.Bundle.Release = b
	return nil
}

// recordBeside reads the store's record of a release, if it lies in a store.
func recordBeside(ref string) Record {
	dir := ref
	if st, err := os.Stat(ref); err == nil && !st.IsDir() {
		dir = filepath.Dir(ref)
	}
	var r Record
	if b, err := readFile(filepath.Join(dir, recordName), maxRecord); err != nil || json.Unmarshal(b, &r) != nil || r.Kind != KindRelease {
		return Record{}
	}
	return r
}

// payload takes programs as they are, and container images out of their archives. The
// archives get the digests of those that will be made of the contents on the other side.
func (k *Packing) payload(ctx context.Context, dir string, v Verifier, p Progress, sizes map[string]int64) error {
	load, err := LoadPayload(ctx, dir)
	if err != nil {
		return err
	}
	if err := load.Verify(ctx, v, p.of("software of nodes")); err != nil {
		return err
	}
	if k.set, err = load.Containers(ctx); err != nil {
		return err
	}
	out := load.Value()
	out.Images = slices.Clone(out.Images)
	for _, f := range out.Files {
		if f.Digest != "" {
			sizes[f.Digest] = f.Bytes
			k.opens[f.Digest] = func() (io.ReadCloser, error) { file, _, err := load.Open(f.Digest); return file, err }
		}
	}
	for _, m := range out.Manifests {
		sizes[m.Digest] = m.Bytes
		k.opens[m.Digest] = func() (io.ReadCloser, error) { file, _, err := load.Open(m.Digest); return file, err }
	}
	for i, m := range out.Images {
		a, err := k.archive(ctx, m, sizes)
		if err != nil {
			return fleet.NewFault(fleet.CodePayloadCorrupt, fleet.Invalid, err, "pack the container images %s", m.Name)
		}
		p.of(m.Name)(a.Bytes, a.Bytes)
		out.Images[i].Digest, out.Images[i].Bytes = a.Digest, a.Bytes
	}
	slices.SortFunc(k.Bundle.Images, func(a, b NamedImage) int { return compareText(a.Name, b.Name) })
	k.Bundle.Images = slices.Compact(k.Bundle.Images)
	k.Bundle.Payload = &out
	return nil
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (k *Packing) archive(ctx context.Context, m fleet.PayloadImage, sizes map[string]int64) (BundleArchive, error) {
	r, err := k.set.recipeOf(m.References)
	if err != nil {
		return BundleArchive{}, err
	}
	// This also hashes every content of the archive.
	digest, size, err := r.measure(ctx, k.set.opener)
	if err != nil {
		return BundleArchive{}, err
	}
	a := BundleArchive{Digest: digest, Bytes: size, Contents: slices.Sorted(maps.Keys(r.contents))}
	for _, n := range r.images {
		a.Images = append(a.Images, n.Name)
	}
	for d, n := range r.contents {
		sizes[d] = n
		k.opens[d] = func() (io.ReadCloser, error) { return k.set.opener(d) }
	}
	k.Bundle.Images = append(k.Bundle.Images, r.images...)
	if !slices.ContainsFunc(k.Bundle.Archives, func(o BundleArchive) bool { return o.Digest == digest }) {
		k.Bundle.Archives = append(k.Bundle.Archives, a)
	}
	return a, nil
}

func (k *Packing) open(digest string) (io.ReadCloser, error) {
	o, ok := k.opens[digest]
	if !ok {
		return nil, fmt.Errorf("content %s is missing", digest)
	}
	return o()
}

// Form is what a bundle is written as.
type Form string

const (
	AsFile   Form = "file"   // one tar
	AsFolder Form = "folder" // an OCI image layout
)

// Write writes the bundle, signed. What an interrupted call left is read and
// continued. The result gets its name, or in a folder its signature, last.
func (k *Packing) Write(ctx context.Context, to string, form Form, key BundleKey, p Progress) error {
	docs, err := k.Bundle.documents(k.text, key.sign(k.text))
	if err != nil {
		return fmt.Errorf("write bundle %s: %w", to, err)
	}
	if form == AsFolder {
		err = k.writeFolder(ctx, to, docs, p)
	} else {
		err = k.writeFile(ctx, to, docs, p)
	}
	if err != nil {
		return fmt.Errorf("write bundle %s: %w", to, err)
	}
	return nil
}
