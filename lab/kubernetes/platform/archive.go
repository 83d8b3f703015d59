package platform

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// image is one container image.
type image struct {
	name       string   // in the payload
	references []string // names in the archive, as a node asks for them
	// pinned names the image by its digest too. KubeVirt asks for that name of an
	// image that a VM uses when the VM moves: what was seen at its first node must
	// be what the next one takes.
	pinned     bool
	entrypoint []string
	// starts is for programs that share an image: the entrypoint by name, where it
	// is another one than entrypoint.
	starts map[string][]string
	user   string // "" for root
	layers []func(*layer)
}

// written is a layer on disk.
type written struct {
	file *os.File
	descriptor
}

// descriptor names a content (OCI Image Specification 1.1, descriptor).
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// Media types of the OCI Image Specification 1.1. Layers are plain: they travel
// no further than a rack.
const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
)

// layout says which version of the specification the archive follows.
const layout = `{"imageLayoutVersion":"1.0.0"}`

// write writes the image as a tar of an OCI image layout, and returns the names
// it has there. The same image always gives the same bytes.
func (i image) write(out io.Writer, scratch string) (references []string, err error) {
	layers := []descriptor{}
	w := tar.NewWriter(out)
	if err := put(w, "oci-layout", strings.NewReader(layout), int64(len(layout))); err != nil {
		return nil, err
	}
	for n, fill := range i.layers {
		l, err := writeLayer(fill, scratch)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", n+1, err)
		}
		err = put(w, blob(l.Digest), l.file, l.Size)
		l.file.Close()
		os.Remove(l.file.Name())
		if err != nil {
			return nil, err
		}
		layers = append(layers, l.descriptor)
	}
	manifests, references, err := i.manifests(w, layers)
	if err != nil {
		return nil, err
	}
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": manifests})
	if err != nil {
		return nil, err
	}
	if err := put(w, "index.json", bytes.NewReader(index), int64(len(index))); err != nil {
		return nil, err
	}
	return references, w.Close()
}

// manifests writes a manifest for each entrypoint, and returns them once for each
// name.
func (i image) manifests(w *tar.Writer, layers []descriptor) (all []descriptor, references []string, err error) {
	done := map[string]descriptor{}
	for n, reference := range i.references {
		start, own := i.starts[reference]
		if !own {
			start = i.entrypoint
		}
		key := strings.Join(start, "\x00")
		if _, made := done[key]; !made {
			config, err := putJSON(w, configType, i.config(start, layers))
			if err != nil {
				return nil, nil, err
			}
			if done[key], err = putJSON(w, manifestType, map[string]any{"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": layers}); err != nil {
				return nil, nil, err
			}
		}
		names := []string{reference}
		if i.pinned && n == 0 {
			repository, _, _ := strings.Cut(reference, ":")
			names = append(names, repository+"@"+done[key].Digest)
		}
		all, references = append(all, named(done[key], names)...), append(references, names...)
	}
	return all, references, nil
}

// named lists a manifest once for each name. containerd reads the first
// annotation; the second is the specification's own.
func named(manifest descriptor, references []string) []descriptor {
	var all []descriptor
	for _, name := range references {
		d := manifest
		d.Annotations = map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name[strings.LastIndexByte(name, ':')+1:]}
		all = append(all, d)
	}
	return all
}

// blob is the place of a content in a layout.
func blob(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

func put(w *tar.Writer, name string, from io.Reader, size int64) error {
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: epoch()}); err != nil {
		return err
	}
	_, err := io.Copy(w, from)
	return err
}

// putJSON writes a value under its digest.
func putJSON(w *tar.Writer, mediaType string, value any) (descriptor, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return descriptor{}, err
	}
	d := descriptor{MediaType: mediaType, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(text)), Size: int64(len(text))}
	return d, put(w, blob(d.Digest), bytes.NewReader(text), d.Size)
}

// writeLayer writes a layer to a file in scratch, which the caller closes and
// removes, and which is at its beginning.
func writeLayer(fill func(*layer), scratch string) (w written, err error) {
	if w.file, err = os.CreateTemp(scratch, "layer-"); err != nil {
		return w, err
	}
	sum := sha256.New()
	l := newLayer(io.MultiWriter(w.file, sum))
	fill(l)
	if err = l.close(); err == nil {
		w.Size, err = w.file.Seek(0, io.SeekCurrent)
	}
	if err == nil {
		_, err = w.file.Seek(0, io.SeekStart)
	}
	if err != nil {
		w.file.Close()
		os.Remove(w.file.Name())
		return w, err
	}
	w.MediaType, w.Digest = layerType, "sha256:"+hex.EncodeToString(sum.Sum(nil))
	return w, nil
}

// config is the image's configuration with one entrypoint. Layers are not
// compressed, so their digests are those of their contents.
func (i image) config(entrypoint []string, layers []descriptor) map[string]any {
	diffs := []string{}
	for _, l := range layers {
		diffs = append(diffs, l.Digest)
	}
	return map[string]any{
		"architecture": "amd64", "os": "linux", "created": epoch().Format(time.RFC3339),
		"config": map[string]any{
			"Env":        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			"Entrypoint": entrypoint, "User": i.user, "WorkingDir": "/",
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	}
}
