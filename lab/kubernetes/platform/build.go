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

	"metalrise.dev/fleet"
	"metalrise.dev/lab/kubernetes"
	"metalrise.dev/lab/recipe"
)

// content is what the platform is made from besides modules and packages, and
// the code that makes it.
//
//go:embed all:_modules archive.go build.go guest.go launcher.go layer.go manifests.go multus.go programs.go versions.go
var content embed.FS

// payloadFile describes a payload, in its folder.
const payloadFile = "payload.json"

// builder makes one payload.
type builder struct{ *recipe.Builder }

// Build returns the folder of a payload (fleet.Payload) with everything that
// kubernetes.Build puts into one, KubeVirt and Multus. It is made under cacheDir if
// nothing made from the same inputs is there. The first build also compiles
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
	kv, err := b.kubevirt()
	if err != nil {
		return "", fmt.Errorf("build KubeVirt %s: %w", Version, err)
	}
	multus, err := b.multus()
	if err != nil {
		return "", fmt.Errorf("build Multus %s: %w", MultusVersion, err)
	}
	init, err := b.guestProgram()
	if err != nil {
		return "", fmt.Errorf("build the guest of the proofs: %w", err)
	}
	k := recipe.NewKey()
	for _, made := range []string{plain, kv.root, multus, filepath.Dir(init)} {
		k.Add("made", filepath.Base(made))
	}
	k.Add("packages", append(launcherPackages(), kernelPackages()...)...)
	if err := k.AddFiles(content, "."); err != nil {
		return "", err
	}
	dir, err := b.Cached("platform", k.Sum(), func(out, work string) error { return b.payload(plain, kv, multus, out, work) })
	if err != nil {
		return "", fmt.Errorf("build payload of KubeVirt %s: %w", Version, err)
	}
	return dir, nil
}

// payload makes the payload's folder in out.
func (b *builder) payload(plain string, kv built, multus, out, work string) error {
	p, err := share(plain, out)
	if err != nil {
		return fmt.Errorf("share %s: %w", plain, err)
	}
	if err := addFile(&p, out, "virtctl", kv.static("virtctl")); err != nil {
		return err
	}
	launcher, err := b.launcher(kv)
	if err != nil {
		return err
	}
	guest, err := b.guest(work)
	if err != nil {
		return err
	}
	for _, i := range []image{controllers(kv), launcher, multusIn(multus), guest} {
		b.Say("packing the image " + i.name)
		var references []string
		digest, size, err := keep(out, 0o644, func(w io.Writer) (err error) { references, err = i.write(w, work); return err })
		if err != nil {
			return fmt.Errorf("image %s: %w", i.name, err)
		}
		p.Images = append(p.Images, fleet.PayloadImage{Name: i.name, References: references, Digest: digest, Bytes: size})
	}
	text, err := b.operator(kv, work)
	if err != nil {
		return err
	}
	if err := addManifest(&p, out, fleet.PayloadManifest{Component: fleet.ComponentKubeVirt, Name: "operator", Version: Version}, text); err != nil {
		return err
	}
	daemonset, err := os.ReadFile(filepath.Join(multus, multusYAML))
	if err != nil {
		return err
	}
	if err := addManifest(&p, out, fleet.PayloadManifest{Component: fleet.ComponentMultus, Name: "daemonset", Version: MultusVersion}, string(daemonset)); err != nil {
		return err
	}
	list, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return write(filepath.Join(out, payloadFile), string(list)+"\n")
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

// addFile puts a program for the nodes into the payload at dir.
func addFile(p *fleet.Payload, dir, name, source string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	digest, size, err := keep(dir, 0o755, func(w io.Writer) error { _, err := io.Copy(w, in); return err })
	if err != nil {
		return fmt.Errorf("file %s: %w", name, err)
	}
	p.Files = append(p.Files, fleet.PayloadFile{Name: name, Path: filepath.Join(kubernetes.BinDir, name), Mode: 0o755, Digest: digest, Bytes: size})
	return nil
}

// addManifest puts a manifest into the payload at dir; m has its names only.
func addManifest(p *fleet.Payload, dir string, m fleet.PayloadManifest, text string) (err error) {
	m.Digest, m.Bytes, err = keep(dir, 0o644, func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
	if err != nil {
		return fmt.Errorf("manifest %s of %s: %w", m.Name, m.Component, err)
	}
	p.Manifests = append(p.Manifests, m)
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

func write(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }
