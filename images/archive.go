package images

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Bounds of an archive of container images.
const (
	maxArchiveEntries = 100_000
	// maxManifest is what registries take for a manifest (OCI distribution
	// specification, "Pushing Manifests": 4 MiB).
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
	maxLayers   = 512
	// annotationName is what containerd calls an image in an OCI archive.
	annotationName = "io.containerd.image.name"
	annotationRef  = "org.opencontainers.image.ref.name"
)

// extent is where one blob's bytes are: in memory, or a part of an archive.
type extent struct {
	data   []byte // when at is nil
	at     io.ReaderAt
	offset int64
	size   int64
	kind   types.MediaType // of manifests
}

func (c extent) open() *io.SectionReader {
	if c.at == nil {
		return io.NewSectionReader(bytes.NewReader(c.data), 0, int64(len(c.data)))
	}
	return io.NewSectionReader(c.at, c.offset, c.size)
}

func (c extent) bytes(limit int64) ([]byte, error) {
	if c.size > limit {
		return nil, fmt.Errorf("has %d bytes, more than the %d it may have", c.size, limit)
	}
	return io.ReadAll(c.open())
}

// Containers is a set of container images by name, with their contents. Nothing is
// unpacked: contents are parts of the archives. It may be used by several goroutines.
type Containers struct {
	names    map[string]v1.Descriptor // "registry.k8s.io/pause:3.10.1"
	contents map[v1.Hash]extent
	files    []*os.File
}

func newContainers() *Containers {
	return &Containers{names: map[string]v1.Descriptor{}, contents: map[v1.Hash]extent{}}
}

// Close closes the archives.
func (c *Containers) Close() error {
	var errs []error
	for _, f := range c.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// Names lists the images, sorted.
func (c *Containers) Names() []string {
	out := []string{}
	for n := range c.names {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// entries of a tar by name.
type tarEntries map[string]extent

// readTar notes where the files of a tar are. Hard and symbolic links inside the archive
// are followed once, as docker writes them for layers that occur twice.
func readTar(ctx context.Context, f io.ReadSeeker, at io.ReaderAt) (tarEntries, error) {
	out, links := tarEntries{}, map[string]string{}
	r := tar.NewReader(f)
	for n := 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if n >= maxArchiveEntries {
			return nil, fmt.Errorf("more than %d entries", maxArchiveEntries)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			offset, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			if h.PAXRecords["GNU.sparse.major"] != "" {
				return nil, fmt.Errorf("%q is a sparse file", name)
			}
			out[name] = extent{at: at, offset: offset, size: h.Size}
		case tar.TypeLink:
			links[name] = path.Clean(h.Linkname)
		case tar.TypeSymlink:
			links[name] = path.Join(path.Dir(name), h.Linkname)
		}
	}
	for from, to := range links {
		if c, ok := out[to]; ok {
			out[from] = c
		}
	}
	return out, nil
}

// add reads an archive: OCI image layout, or what docker save writes. It keeps
// the file.
func (c *Containers) add(ctx context.Context, f *os.File) error {
	entries, err := readTar(ctx, f, f)
	if err != nil {
		return fmt.Errorf("read archive: %w", err)
	}
	if index, ok := entries["index.json"]; ok {
		err = c.addLayout(index, func(d v1.Hash) (extent, bool) {
			v, ok := entries["blobs/"+d.Algorithm+"/"+d.Hex]
			return v, ok
		})
	} else if list, ok := entries["manifest.json"]; ok {
		err = c.addDocker(list, entries)
	} else {
		err = errors.New("it has neither index.json nor manifest.json")
	}
	if err == nil {
		c.files = append(c.files, f)
	}
	return err
}

// ParseIndex reads index.json of an OCI image layout: at most 4 MiB. Each entry
// must carry the image's name.
func ParseIndex(text []byte) (map[string]v1.Descriptor, error) {
	if len(text) > maxManifest {
		return nil, fmt.Errorf("index.json has more than %d bytes", maxManifest)
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	out := map[string]v1.Descriptor{}
	for i, d := range index.Manifests {
		text := d.Annotations[annotationName]
		if text == "" {
			text = d.Annotations[annotationRef]
		}
		n, err := parseImageName(text)
		if err != nil {
			return nil, fmt.Errorf("index.json: manifests[%d]: %w", i, err)
		}
		if err := checkDescriptor(d); err != nil {
			return nil, fmt.Errorf("index.json: manifests[%d]: %w", i, err)
		}
		out[n.String()] = v1.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
	}
	return out, nil
}

func checkDescriptor(d v1.Descriptor) error {
	if d.Digest.Algorithm != "sha256" || !isSHA256(d.Digest.Hex) {
		return fmt.Errorf("digest %.80q is no sha256", d.Digest.String())
	}
	if d.Size <= 0 || d.Size > maxBlob {
		return fmt.Errorf("size %d of %s cannot be", d.Size, d.Digest)
	}
	return nil
}

// addLayout takes the images of an OCI layout with all they need.
func (c *Containers) addLayout(index extent, find func(v1.Hash) (extent, bool)) error {
	text, err := index.bytes(maxManifest)
	if err != nil {
		return fmt.Errorf("index.json %w", err)
	}
	names, err := ParseIndex(text)
	if err != nil {
		return err
	}
	for name, d := range names {
		if err := c.takeManifest(d, find, 0); err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
		if err := c.name(name, d); err != nil {
			return err
		}
	}
	return nil
}

// name gives an image its name; another image of that name is a fault.
func (c *Containers) name(name string, d v1.Descriptor) error {
	if had, ok := c.names[name]; ok && had.Digest != d.Digest {
		return fmt.Errorf("image %s is there twice, as %s and as %s", name, had.Digest, d.Digest)
	}
	c.names[name] = d
	return nil
}

// takeManifest takes a manifest and what it names. Manifests are hashed, because they say
// what the rest is; layers are hashed by who copies them.
func (c *Containers) takeManifest(d v1.Descriptor, find func(v1.Hash) (extent, bool), depth int) error {
	if err := checkDescriptor(d); err != nil {
		return err
	}
	got, ok := find(d.Digest)
	if !ok {
		return fmt.Errorf("manifest %s is missing", d.Digest)
	}
	text, err := got.bytes(maxManifest)
	if err != nil {
		return fmt.Errorf("manifest %s %w", d.Digest, err)
	}
	if have := hexSHA256(text); have != d.Digest.Hex || int64(len(text)) != d.Size {
		return &CorruptError{Path: "manifest " + d.Digest.String(), Want: d.Digest.Hex, Got: have, Size: int64(len(text))}
	}
	got.kind = d.MediaType
	c.contents[d.Digest] = got
	if d.MediaType.IsIndex() {
		return c.takeChildren(text, find, depth)
	}
	var m v1.Manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	if len(m.Layers) > maxLayers {
		return fmt.Errorf("manifest %s has %d layers", d.Digest, len(m.Layers))
	}
	for _, part := range append([]v1.Descriptor{m.Config}, m.Layers...) {
		if err := checkDescriptor(part); err != nil {
			return fmt.Errorf("manifest %s: %w", d.Digest, err)
		}
		v, ok := find(part.Digest)
		if !ok || v.size != part.Size {
			return fmt.Errorf("manifest %s: %s is missing, or has another size than %d", d.Digest, part.Digest, part.Size)
		}
		c.contents[part.Digest] = v
	}
	return nil
}

// takeChildren takes the images of an index that are there: archives often
// carry one architecture of many.
func (c *Containers) takeChildren(text []byte, find func(v1.Hash) (extent, bool), depth int) error {
	var index v1.IndexManifest
	if err := json.Unmarshal(text, &index); err != nil {
		return err
	}
	if depth > 2 || len(index.Manifests) > maxLayers {
		return errors.New("its index is too deep or too long")
	}
	taken := 0
	for _, child := range index.Manifests {
		if _, ok := find(child.Digest); !ok {
			continue
		}
		if err := c.takeManifest(child, find, depth+1); err != nil {
			return err
		}
		taken++
	}
	if taken == 0 {
		return errors.New("none of the images of its index is there")
	}
	return nil
}

// addDocker takes what docker save wrote (Docker Image Specification 1.2): layers
// there are plain tars, named by the configuration, so a manifest is made that names
// the same bytes.
func (c *Containers) addDocker(list extent, entries tarEntries) error {
	text, err := list.bytes(maxManifest)
	if err != nil {
		return fmt.Errorf("manifest.json %w", err)
	}
	var all []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(text, &all); err != nil {
		return fmt.Errorf("manifest.json: %w", err)
	}
	for i, m := range all {
		d, err := c.dockerImage(m.Config, m.Layers, entries)
		if err != nil {
			return fmt.Errorf("manifest.json: [%d]: %w", i, err)
		}
		for _, tag := range m.RepoTags {
			n, err := parseImageName(tag)
			if err != nil {
				return fmt.Errorf("manifest.json: [%d]: %w", i, err)
			}
			if err := c.name(n.String(), d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Containers) dockerImage(configName string, layers []string, entries tarEntries) (v1.Descriptor, error) {
	none := v1.Descriptor{}
	config, ok := entries[path.Clean(configName)]
	if !ok {
		return none, fmt.Errorf("configuration %.120q is missing", configName)
	}
	text, err := config.bytes(maxConfig)
	if err != nil {
		return none, fmt.Errorf("configuration %w", err)
	}
	var parsed v1.ConfigFile
	if err := json.Unmarshal(text, &parsed); err != nil {
		return none, fmt.Errorf("configuration: %w", err)
	}
	if len(layers) > maxLayers || len(layers) != len(parsed.RootFS.DiffIDs) {
		return none, fmt.Errorf("it has %d layers, its configuration names %d", len(layers), len(parsed.RootFS.DiffIDs))
	}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{},
		Config: v1.Descriptor{MediaType: types.OCIConfigJSON, Size: config.size, Digest: v1.Hash{Algorithm: "sha256", Hex: hexSHA256(text)}}}
	c.contents[m.Config.Digest] = config
	for i, name := range layers {
		layer, ok := entries[path.Clean(name)]
		if !ok {
			return none, fmt.Errorf("layer %.120q is missing", name)
		}
		d, err := layerOf(layer, parsed.RootFS.DiffIDs[i])
		if err == nil {
			err = checkDescriptor(d)
		}
		if err != nil {
			return none, fmt.Errorf("layer %.120q: %w", name, err)
		}
		c.contents[d.Digest] = layer
		m.Layers = append(m.Layers, d)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return none, err
	}
	d := v1.Descriptor{MediaType: m.MediaType, Size: int64(len(b)), Digest: v1.Hash{Algorithm: "sha256", Hex: hexSHA256(b)}}
	c.contents[d.Digest] = extent{data: b, size: d.Size, kind: d.MediaType}
	return d, nil
}

// layerOf describes a layer by its first bytes. The configuration names the digest
// of a plain layer; a compressed one, as some tools write, is hashed.
func layerOf(e extent, diff v1.Hash) (v1.Descriptor, error) {
	d := v1.Descriptor{MediaType: types.OCIUncompressedLayer, Size: e.size, Digest: diff}
	var magic [4]byte
	n, err := e.open().ReadAt(magic[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return d, err
	}
	switch {
	case n >= 2 && magic[0] == 0x1f && magic[1] == 0x8b:
		d.MediaType = types.OCILayer
	case n == 4 && bytes.Equal(magic[:], []byte{0x28, 0xb5, 0x2f, 0xfd}):
		d.MediaType = types.OCILayerZStd
	default:
		return d, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, e.open()); err != nil {
		return d, err
	}
	d.Digest = v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", h.Sum(nil))}
	return d, nil
}
