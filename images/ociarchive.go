package images

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// layoutText is the file oci-layout (OCI image specification, image-layout).
const layoutText = `{"imageLayoutVersion":"1.0.0"}`

// NamedImage is one image of an archive or a bundle.
type NamedImage struct {
	Name      string          `json:"name"` // as container runtimes know it
	MediaType types.MediaType `json:"mediaType"`
	Digest    string          `json:"digest"` // "sha256:…" of its manifest
	Bytes     int64           `json:"bytes"`  // of its manifest
}

func (n NamedImage) descriptor() (v1.Descriptor, error) {
	h, err := v1.NewHash(n.Digest)
	d := v1.Descriptor{MediaType: n.MediaType, Digest: h, Size: n.Bytes}
	if err == nil {
		err = checkDescriptor(d)
	}
	return d, err
}

// recipe is all that an OCI archive is made of. Equal recipes give equal bytes,
// in every version of metalrise that knows bundle/v1: the digests of archives that a
// bundle makes again on the other side depend on it.
type recipe struct {
	images   []NamedImage     // sorted by name
	contents map[string]int64 // sizes by sha256, images' manifests among them
}

// recipeOf says what an archive of some images of the set holds.
func (c *Containers) recipeOf(names []string) (recipe, error) {
	r := recipe{contents: map[string]int64{}}
	for _, s := range slices.Compact(slices.Sorted(slices.Values(names))) {
		n, err := parseImageName(s)
		if err != nil {
			return r, err
		}
		d, ok := c.names[n.String()]
		if !ok {
			return r, fmt.Errorf("image %s is missing", n)
		}
		r.images = append(r.images, NamedImage{n.String(), d.MediaType, d.Digest.String(), d.Size})
		if err := c.closure(d.Digest, r.contents); err != nil {
			return r, fmt.Errorf("image %s: %w", n, err)
		}
	}
	return r, nil
}

// closure adds a manifest and all that it names and that is there.
func (c *Containers) closure(d v1.Hash, into map[string]int64) error {
	e, ok := c.contents[d]
	if !ok {
		return fmt.Errorf("%s is missing", d)
	}
	into[d.Hex] = e.size
	if e.kind == "" {
		return nil
	}
	text, err := e.bytes(maxManifest)
	if err != nil {
		return fmt.Errorf("manifest %s %w", d, err)
	}
	if e.kind.IsIndex() {
		var index v1.IndexManifest
		if err := json.Unmarshal(text, &index); err != nil {
			return err
		}
		for _, child := range index.Manifests {
			if _, ok := c.contents[child.Digest]; ok {
				if err := c.closure(child.Digest, into); err != nil {
					return err
				}
			}
		}
		return nil
	}
	var m v1.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	for _, part := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if err := c.closure(part.Digest, into); err != nil {
			return err
		}
	}
	return nil
}

// index is index.json of the archive. Both annotations are written: containerd
// reads the first, other tools the second.
func indexOf(images []NamedImage) ([]byte, error) {
	out := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
	for _, n := range images {
		d, err := n.descriptor()
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", n.Name, err)
		}
		tag := n.Name[strings.LastIndexByte(n.Name, ':')+1:]
		d.Annotations = map[string]string{annotationName: n.Name, annotationRef: tag}
		out.Manifests = append(out.Manifests, d)
	}
	return json.Marshal(out)
}

// write writes the archive: oci-layout, contents by digest, index.json last.
func (r recipe) write(ctx context.Context, w io.Writer, open func(sha256 string) (io.ReadCloser, error)) error {
	t := tar.NewWriter(w)
	index, err := indexOf(r.images)
	if err != nil {
		return err
	}
	if err := tarText(t, "oci-layout", []byte(layoutText)); err != nil {
		return err
	}
	for _, digest := range slices.Sorted(maps.Keys(r.contents)) {
		if err := tarContent(ctx, t, digest, r.contents[digest], open); err != nil {
			return err
		}
	}
	if err := tarText(t, "index.json", index); err != nil {
		return err
	}
	return t.Close()
}

func tarHeader(name string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o444}
}

func tarText(t *tar.Writer, name string, b []byte) error {
	if err := t.WriteHeader(tarHeader(name, int64(len(b)))); err != nil {
		return err
	}
	_, err := t.Write(b)
	return err
}

// tarContent writes one content while it is hashed: what is damaged does not get
// into an archive unnoticed.
func tarContent(ctx context.Context, t *tar.Writer, digest string, size int64, open func(sha256 string) (io.ReadCloser, error)) error {
	in, err := open(digest)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := t.WriteHeader(tarHeader(blobPath(digest), size)); err != nil {
		return err
	}
	h := sha256.New()
	n, err := copyContext(ctx, io.MultiWriter(t, h), in, nil)
	if err != nil {
		return fmt.Errorf("content %s: %w", digest, err)
	}
	if got := fmt.Sprintf("%x", h.Sum(nil)); got != digest || n != size {
		return &CorruptError{Path: "content of container images", Want: digest, Got: got, Size: n}
	}
	return nil
}

// blobPath is a content's place in an OCI image layout.
func blobPath(sha256 string) string { return "blobs/sha256/" + sha256 }

// opener reads contents of the set by digest.
func (c *Containers) opener(digest string) (io.ReadCloser, error) {
	e, ok := c.contents[v1.Hash{Algorithm: "sha256", Hex: digest}]
	if !ok {
		return nil, fmt.Errorf("content %s is missing", digest)
	}
	return io.NopCloser(e.open()), nil
}

// measure makes an archive without keeping it, to learn its digest and size.
func (r recipe) measure(ctx context.Context, open func(sha256 string) (io.ReadCloser, error)) (digest string, size int64, err error) {
	h := sha256.New()
	n := &counter{}
	if err := r.write(ctx, io.MultiWriter(h, n), open); err != nil {
		return "", 0, err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), n.n, nil
}

type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}
