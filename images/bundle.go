package images

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"

	"metalrise.dev/fleet"
)

// BundleVersion is the version of bundle.json this code writes and reads.
const BundleVersion = "metalrise.dev/bundle/v1"

// Names within a bundle. A bundle is an OCI image layout with two more files, as a
// folder or as a tar of it: tools for container images can read those of a bundle.
const (
	bundleName    = "bundle.json"
	bundleSigName = "bundle.json.sig"
	layoutName    = "oci-layout"
	indexName     = "index.json"
	// maxBundle: a hundred images of some ten layers are 100 KiB.
	maxBundle = 16 << 20
)

// Bundle is what a site needs to be installed without a network, everything by
// digest. bundle.json is signed; it leaves no other choice for any byte of the rest.
type Bundle struct {
	APIVersion string          `json:"apiVersion"`
	Site       string          `json:"site"`
	Release    BundleRelease   `json:"release"`
	Payload    *fleet.Payload  `json:"payload,omitempty"` // nil: the site makes no cluster
	Images     []NamedImage    `json:"images,omitempty"`  // container images, sorted by name
	Archives   []BundleArchive `json:"archives,omitempty"`
	Files      []BundleFile    `json:"files,omitempty"`
	Contents   []BundleContent `json:"contents"` // sorted by digest
}

// BundleRelease is the operating system.
type BundleRelease struct {
	OS      OS           `json:"os"`
	Stream  string       `json:"stream"`
	Version string       `json:"version"`
	Arch    Arch         `json:"architecture"`
	Digest  string       `json:"digest"`
	Files   []RecordFile `json:"files"`
}

func (r BundleRelease) record() Record {
	return Record{APIVersion: RecordVersion, Kind: KindRelease, OS: r.OS, Stream: r.Stream, Version: r.Version, Arch: r.Arch, Files: r.Files}
}

// BundleArchive says how an archive of the payload is made of contents: the
// bundle carries each layer once, and no archive.
type BundleArchive struct {
	Digest   string   `json:"sha256"`
	Bytes    int64    `json:"bytes"`
	Images   []string `json:"images"`   // names, as in Bundle.Images
	Contents []string `json:"contents"` // digests
}

// FileKind is what a file of a bundle is for.
type FileKind string

const (
	SiteFile     FileKind = "site"     // the site file; one at most
	CNIManifest  FileKind = "cni"      // what cluster.cniManifests names; one at most
	ManifestFile FileKind = "manifest" // others, such as those of KubeVirt
)

// BundleFile is a file that is carried as it is.
type BundleFile struct {
	Kind   FileKind `json:"kind"`
	Name   string   `json:"name"` // a plain file name
	SHA256 string   `json:"sha256"`
	Bytes  int64    `json:"bytes"`
}

// BundleContent is one content.
type BundleContent struct {
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// Bytes is the size of all contents.
func (b Bundle) Bytes() int64 {
	var n int64
	for _, c := range b.Contents {
		n += c.Bytes
	}
	return n
}

// ParseBundle reads bundle.json: at most 16 MiB, no unknown fields. The error
// is an *InvalidError with all faults at once.
func ParseBundle(text []byte) (Bundle, error) {
	bad := func(why string) error {
		return &InvalidError{Faults: []Fault{{Path: bundleName, Why: why, Remedy: "take the bundle again from where it was made, or a metalrise as new as what made it"}}}
	}
	if len(text) > maxBundle {
		return Bundle{}, bad(fmt.Sprintf("has more than %d bytes", maxBundle))
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var b Bundle
	if err := d.Decode(&b); err != nil {
		return Bundle{}, bad("cannot be read: " + err.Error())
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Bundle{}, bad("goes on behind its end")
	}
	if err := b.check(); err != nil {
		return Bundle{}, err
	}
	return b, nil
}

// bundleChecker gathers faults; sizes has the contents.
type bundleChecker struct {
	offering
	sizes map[string]int64
}

const bundleRemedy = "take the bundle again from where it was made"

func (b Bundle) check() error {
	c := &bundleChecker{sizes: map[string]int64{}}
	if b.APIVersion != BundleVersion {
		c.fault("apiVersion", b.APIVersion, "is not "+BundleVersion, "use a metalrise that knows it")
	}
	if !isWord(b.Site, 64, "") {
		c.fault("site", b.Site, "is no name of a site", bundleRemedy)
	}
	c.contents(b.Contents)
	c.release(b.Release)
	c.images(b)
	seen := map[FileKind]bool{}
	for i, f := range b.Files {
		at := fmt.Sprintf("files[%d]", i)
		c.listed(at, f.SHA256, f.Bytes)
		if !isWord(f.Name, 255, "+~") {
			c.fault(at+".name", f.Name, "is no plain file name", bundleRemedy)
		}
		if f.Kind != SiteFile && f.Kind != CNIManifest && f.Kind != ManifestFile || f.Kind != ManifestFile && seen[f.Kind] {
			c.fault(at+".kind", string(f.Kind), "is not known, or there twice", bundleRemedy)
		}
		seen[f.Kind] = true
	}
	return c.err()
}

func (c *bundleChecker) contents(list []BundleContent) {
	var total int64
	last := ""
	for i, v := range list {
		at := fmt.Sprintf("contents[%d]", i)
		if !isSHA256(v.SHA256) || v.SHA256 <= last {
			c.fault(at+".sha256", v.SHA256, "is no SHA-256, or not in order", bundleRemedy)
			return
		}
		if v.Bytes < 0 || v.Bytes > maxBlob {
			c.fault(at+".bytes", fmt.Sprint(v.Bytes), "cannot be", bundleRemedy)
			return
		}
		last = v.SHA256
		c.sizes[v.SHA256] = v.Bytes
		if total += v.Bytes; total > maxTotal {
			c.fault("contents", fmt.Sprint(total), "are more than a TiB", bundleRemedy)
			return
		}
	}
}

// listed holds that a digest is among the contents with that size.
func (c *bundleChecker) listed(at, digest string, size int64) {
	if have, ok := c.sizes[digest]; !ok || have != size {
		c.fault(at, digest, fmt.Sprintf("with %d bytes is not among the contents", size), bundleRemedy)
	}
}

func (c *bundleChecker) release(r BundleRelease) {
	for _, f := range []struct{ at, value string }{{"os", string(r.OS)}, {"stream", r.Stream}, {"version", r.Version}, {"architecture", string(r.Arch)}} {
		if !isWord(f.value, 64, "+") {
			c.fault("release."+f.at, f.value, "is no plain word", bundleRemedy)
		}
	}
	names := map[string]bool{}
	for i, f := range r.Files {
		at := fmt.Sprintf("release.files[%d]", i)
		c.listed(at, f.SHA256, f.Bytes)
		if !isWord(f.Name, 255, "+~") || names[f.Name] || f.Name == metadataName || f.Name == recordName {
			c.fault(at+".name", f.Name, "is no plain file name, or there twice", bundleRemedy)
		}
		names[f.Name] = true
		if f.Unpacked != "" && !isSHA256(f.Unpacked) {
			c.fault(at+".unpackedSHA256", f.Unpacked, "is no SHA-256", bundleRemedy)
		}
	}
	if got := releaseOf(r.record()).Digest(); got != r.Digest {
		c.fault("release.digest", r.Digest, "is not that of its files, "+got, bundleRemedy)
	}
}

// images checks the payload and what its archives are made of.
func (c *bundleChecker) images(b Bundle) {
	named := map[string]NamedImage{}
	for i, n := range b.Images {
		at := fmt.Sprintf("images[%d]", i)
		v, err := parseImageName(n.Name)
		if err != nil || v.String() != n.Name {
			c.fault(at+".name", n.Name, "is no full name of a container image", bundleRemedy)
		}
		if d, err := n.descriptor(); err != nil {
			c.fault(at, n.Digest, err.Error(), bundleRemedy)
		} else {
			c.listed(at, d.Digest.Hex, n.Bytes)
		}
		named[n.Name] = n
	}
	made := map[string]int64{}
	for i, a := range b.Archives {
		at := fmt.Sprintf("archives[%d]", i)
		if !isSHA256(a.Digest) || a.Bytes <= 0 || a.Bytes > maxBlob {
			c.fault(at, a.Digest, "is no digest and size of an archive", bundleRemedy)
		}
		made[a.Digest] = a.Bytes
		for _, n := range a.Images {
			if _, ok := named[n]; !ok {
				c.fault(at+".images", n, "is not among the images", bundleRemedy)
			}
		}
		for _, d := range a.Contents {
			if _, ok := c.sizes[d]; !ok {
				c.fault(at+".contents", d, "is not among the contents", bundleRemedy)
			}
		}
	}
	if b.Payload == nil {
		return
	}
	var invalid *InvalidError
	if err := CheckPayload(*b.Payload); errors.As(err, &invalid) {
		for _, f := range invalid.Faults {
			c.fault("payload."+f.Path, f.Value, f.Why, f.Remedy)
		}
	}
	for i, f := range b.Payload.Files {
		if f.Digest != "" {
			c.listed(fmt.Sprintf("payload.files[%d]", i), f.Digest, f.Bytes)
		}
	}
	for i, m := range b.Payload.Manifests {
		c.listed(fmt.Sprintf("payload.manifests[%d]", i), m.Digest, m.Bytes)
	}
	for i, m := range b.Payload.Images {
		if size, ok := made[m.Digest]; !ok || size != m.Bytes {
			c.fault(fmt.Sprintf("payload.images[%d]", i), m.Digest, "is not among the archives", bundleRemedy)
		}
	}
}

// recipe is how one archive is made.
func (b Bundle) recipe(a BundleArchive) recipe {
	r := recipe{contents: map[string]int64{}}
	for _, n := range b.Images {
		if slices.Contains(a.Images, n.Name) {
			r.images = append(r.images, n)
		}
	}
	for _, c := range b.Contents {
		if slices.Contains(a.Contents, c.SHA256) {
			r.contents[c.SHA256] = c.Bytes
		}
	}
	return r
}

// documents are the files before the contents, in the order of the tar.
func (b Bundle) documents(text, signature []byte) ([]bundleDocument, error) {
	index, err := indexOf(b.Images)
	if err != nil {
		return nil, err
	}
	return []bundleDocument{{bundleName, text}, {bundleSigName, signature}, {layoutName, []byte(layoutText)}, {indexName, index}}, nil
}

type bundleDocument struct {
	name string
	text []byte
}

// fileNameOf makes a plain file name of a path.
func fileNameOf(p string) string {
	name := path.Base(p)
	if !isWord(name, 255, "+~") {
		return "manifest-" + hexSHA256([]byte(p))[:8] + ".yaml"
	}
	return name
}
