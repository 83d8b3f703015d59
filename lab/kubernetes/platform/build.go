package platform

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/lab/kubernetes"
	"metalrise.dev/lab/recipe"
)

// content is what the platform is made from besides modules and packages, and
// the code that makes it.
//
//go:embed all:_modules archive.go build.go cdi.go csi.go guest.go launcher.go layer.go manifests.go multus.go programs.go standin.go versions.go whereabouts.go
var content embed.FS

// payloadFile describes a payload, in its folder.
const payloadFile = "payload.json"

// builder makes one payload.
type builder struct{ *recipe.Builder }

// part is one component of the payload, compiled.
type part struct {
	// made is the folder in the cache with what was compiled, and packages are the
	// Debian packages that its images hold: with either, the payload changes.
	made     string
	packages []string
	// pack puts the part's images, manifests and programs into the payload.
	pack func(p *packing) error
}

// parts are all components, in the order in which they are made.
func (b *builder) parts() []func() (part, error) {
	return []func() (part, error){b.kubevirt, b.multus, b.whereabouts, b.cdi, b.snapshots, b.csiDriver, b.guest}
}

// Build returns the folder of a payload (fleet.Payload) with everything that
// kubernetes.Build puts into one, and the VM platform. It is made under cacheDir
// if nothing made from the same inputs is there. The first build also compiles
// KubeVirt: about six minutes on two cores besides the time of Kubernetes; an
// interrupted one goes on where it was. Beyond what kubernetes.Build needs, it
// needs libvirt's header files.
//
// progress may be nil; it is told each step in a few words.
func Build(ctx context.Context, cacheDir string, progress func(step string)) (payloadDir string, err error) {
	plain, err := kubernetes.Build(ctx, cacheDir, progress)
	if err != nil {
		return "", err
	}
	r, err := recipe.New(ctx, cacheDir, progress)
	if err != nil {
		return "", err
	}
	b := &builder{r}
	k := recipe.NewKey()
	k.Add("made", filepath.Base(plain))
	var parts []part
	for _, compile := range b.parts() {
		p, err := compile()
		if err != nil {
			return "", err
		}
		k.Add("made", filepath.Base(p.made))
		k.Add("packages", p.packages...)
		parts = append(parts, p)
	}
	if err := k.AddFiles(content, "."); err != nil {
		return "", err
	}
	dir, err := b.Cached("platform", k.Sum(), func(out, work string) error { return b.payload(plain, parts, out, work) })
	if err != nil {
		return "", fmt.Errorf("build payload of the VM platform: %w", err)
	}
	return dir, nil
}

// payload makes the payload's folder in out.
func (b *builder) payload(plain string, parts []part, out, work string) error {
	shared, err := share(plain, out)
	if err != nil {
		return fmt.Errorf("share %s: %w", plain, err)
	}
	p := &packing{builder: b, payload: shared, out: out, work: work}
	for _, part := range parts {
		images, manifests := len(p.payload.Images), len(p.payload.Manifests)
		if err := part.pack(p); err != nil {
			return err
		}
		p.own(images, manifests)
	}
	list, err := json.MarshalIndent(p.payload, "", "  ")
	if err != nil {
		return err
	}
	return write(filepath.Join(out, payloadFile), string(list)+"\n")
}

// own says whose the images are that a part put in behind the first ones: a part
// with manifests of a component brings that component's images.
func (p *packing) own(images, manifests int) {
	for _, m := range p.payload.Manifests[manifests:] {
		for i := range p.payload.Images[images:] {
			p.payload.Images[images+i].Component = m.Component
		}
	}
}

// packing is a payload while its parts are put in.
type packing struct {
	*builder
	payload fleet.Payload
	out     string // folder of the payload
	work    string // folder for what is needed only while it is made
}

// images puts container images in, for all nodes.
func (p *packing) images(all ...image) error {
	for _, i := range all {
		p.Say("packing the image " + i.name)
		var references []string
		digest, size, err := keep(p.out, 0o644, func(w io.Writer) (err error) { references, err = i.write(w, p.work); return err })
		if err != nil {
			return fmt.Errorf("image %s: %w", i.name, err)
		}
		p.payload.Images = append(p.payload.Images, fleet.PayloadImage{Name: i.name, References: references, Digest: digest, Bytes: size})
	}
	return nil
}

// program puts a program for the nodes in.
func (p *packing) program(name, source string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	digest, size, err := keep(p.out, 0o755, func(w io.Writer) error { _, err := io.Copy(w, in); return err })
	if err != nil {
		return fmt.Errorf("file %s: %w", name, err)
	}
	p.payload.Files = append(p.payload.Files, fleet.PayloadFile{Name: name, Path: filepath.Join(kubernetes.BinDir, name), Mode: 0o755, Digest: digest, Bytes: size})
	return nil
}

// manifest puts a manifest of a component in.
func (p *packing) manifest(c fleet.Component, name, version, text string) error {
	digest, size, err := keep(p.out, 0o644, func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
	if err != nil {
		return fmt.Errorf("manifest %s of %s: %w", name, c, err)
	}
	p.payload.Manifests = append(p.payload.Manifests, fleet.PayloadManifest{Component: c, Name: name, Version: version, Digest: digest, Bytes: size})
	return nil
}

// goVersion is the compiler's, which is a part of the key of all it makes.
func (b *builder) goVersion() (string, error) {
	version, err := b.Output(recipe.Command{Name: "go", Args: []string{"env", "GOVERSION"}})
	if err != nil {
		return "", fmt.Errorf("ask for the Go version: %w", err)
	}
	return strings.TrimSpace(version), nil
}

// share makes a payload with the contents of another one, without a copy.
func share(from, to string) (fleet.Payload, error) {
	var p fleet.Payload
	text, err := os.ReadFile(filepath.Join(from, payloadFile))
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(text, &p); err != nil {
		return p, err
	}
	if err := os.Mkdir(filepath.Join(to, "blobs"), 0o755); err != nil {
		return p, err
	}
	blobs, err := os.ReadDir(filepath.Join(from, "blobs"))
	if err != nil {
		return p, err
	}
	for _, e := range blobs {
		name := fleet.Blob(e.Name())
		if err := os.Link(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return p, err
		}
	}
	return p, nil
}

// keep writes one content under its digest.
func keep(dir string, mode os.FileMode, write func(io.Writer) error) (digest string, size int64, err error) {
	f, err := os.CreateTemp(filepath.Join(dir, "blobs"), "new-")
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	sum := sha256.New()
	if err := write(io.MultiWriter(f, sum)); err != nil {
		return "", 0, err
	}
	if err := f.Chmod(mode); err != nil {
		return "", 0, err
	}
	if size, err = f.Seek(0, io.SeekCurrent); err != nil {
		return "", 0, err
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	return digest, size, os.Rename(f.Name(), filepath.Join(dir, fleet.Blob(digest)))
}

func write(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }
