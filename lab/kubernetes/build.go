package kubernetes

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

	"metalrise.dev/fleet"
	"metalrise.dev/lab/recipe"
)

// content is what payloads are made from besides modules and packages, and the
// code that makes them.
//
//go:embed all:_modules archive.go build.go debian.go parts.go programs.go versions.go
var content embed.FS

// payloadFile describes a payload, in its folder.
const payloadFile = "payload.json"

// builder makes one payload.
type builder struct{ *recipe.Builder }

// Build returns the folder of a payload (fleet.Payload) with everything that the
// nodes of a cluster need: payload.json and blobs/DIGEST. It is made under
// cacheDir if nothing made from the same inputs is there. The first build
// compiles Kubernetes: 10 to 20 minutes on two cores, about 2.5 GiB of memory, 4
// GiB in Go's build cache; an interrupted one goes on where it was. It needs
// root, go, a C compiler, mmdebstrap, a Go module proxy and an apt mirror.
//
// progress may be nil; it is told each step in a few words.
func Build(ctx context.Context, cacheDir string, progress func(step string)) (payloadDir string, err error) {
	r, err := recipe.New(ctx, cacheDir, progress)
	if err != nil {
		return "", err
	}
	b := &builder{r}
	programs, err := b.programs()
	if err != nil {
		return "", fmt.Errorf("build Kubernetes %s: %w", Version, err)
	}
	k := recipe.NewKey()
	k.Add("programs", filepath.Base(programs))
	k.Add("packages", debianPackages()...)
	if err := k.AddFiles(content, "."); err != nil {
		return "", err
	}
	dir, err := b.Cached("payload", k.Sum(), func(out, work string) error { return b.payload(programs, out, work) })
	if err != nil {
		return "", fmt.Errorf("build payload of Kubernetes %s: %w", Version, err)
	}
	return dir, nil
}

// payload makes the payload's folder in out.
func (b *builder) payload(programs, out, work string) error {
	tree, err := b.DebianTree(recipe.Extracted, debianPackages())
	if err != nil {
		return err
	}
	b.Say("taking programs out of Debian packages")
	d := debian{root: filepath.Join(work, "debian")}
	if err := os.Mkdir(d.root, 0o755); err != nil {
		return err
	}
	if err := b.Run(recipe.Command{Name: "tar", Args: []string{"-C", d.root, "--numeric-owner", "-xf", tree}}); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(out, "blobs"), 0o755); err != nil {
		return err
	}
	p := fleet.Payload{APIVersion: fleet.PayloadVersion, Flavour: fleet.Kubeadm, Version: Version, Architecture: "x86_64"}
	for _, f := range files(programs, d) {
		b.Say("adding " + f.name)
		if err := f.add(&p, out); err != nil {
			return fmt.Errorf("file %s: %w", f.name, err)
		}
	}
	images, err := images(programs, d)
	if err != nil {
		return err
	}
	for _, i := range images {
		b.Say("packing the image " + i.name)
		if err := i.add(&p, out, work); err != nil {
			return fmt.Errorf("image %s: %w", i.name, err)
		}
	}
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, payloadFile), append(text, '\n'), 0o644)
}

// add puts a file into the payload at dir.
func (f part) add(p *fleet.Payload, dir string) error {
	entry := fleet.PayloadFile{Name: f.name, Path: f.path, Mode: 0o755, Target: f.target}
	if f.target == "" {
		in, err := os.Open(f.source)
		if err != nil {
			return err
		}
		defer in.Close()
		// Executable, so that what needs no node can be run where it lies.
		if entry.Digest, entry.Bytes, err = keep(dir, 0o755, func(w io.Writer) error { _, err := io.Copy(w, in); return err }); err != nil {
			return err
		}
	}
	p.Files = append(p.Files, entry)
	return nil
}

// add puts an image's archive into the payload at dir.
func (i archive) add(p *fleet.Payload, dir, scratch string) error {
	digest, size, err := keep(dir, 0o644, func(w io.Writer) error { return i.image.write(w, scratch) })
	if err != nil {
		return err
	}
	p.Images = append(p.Images, fleet.PayloadImage{Name: i.name, References: i.references, Digest: digest, Bytes: size, Roles: i.roles})
	return nil
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
