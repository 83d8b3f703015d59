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
	"time"
)

// image is one container image.
type image struct {
	name       string   // in the payload
	references []string // names in the archive, as a node asks for them
	entrypoint []string
	user       string // "" for root
	layers     []func(*layer)
}

// written is a layer on disk.
type written struct {
	file *os.File
	diff string // SHA-256 of its bytes
	size int64
}

// write writes the image as a docker archive (Docker Image Specification 1.2):
// a tar of the layers, the configuration, and manifest.json. The same image
// always gives the same bytes. Nothing is compressed, as it never travels
// further than a rack.
func (i image) write(out io.Writer, scratch string) error {
	var layers []written
	for n, fill := range i.layers {
		l, err := writeLayer(fill, scratch)
		if err != nil {
			return fmt.Errorf("layer %d: %w", n+1, err)
		}
		defer os.Remove(l.file.Name())
		defer l.file.Close()
		layers = append(layers, l)
	}
	var diffs, paths []string
	for _, l := range layers {
		diffs, paths = append(diffs, "sha256:"+l.diff), append(paths, l.diff+"/layer.tar")
	}
	config, err := i.config(diffs)
	if err != nil {
		return err
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]any{map[string]any{"Config": configName, "RepoTags": i.references, "Layers": paths}})
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	if err := put(w, configName, int64(len(config)), bytes.NewReader(config)); err != nil {
		return err
	}
	for n, l := range layers {
		if err := put(w, paths[n], l.size, l.file); err != nil {
			return err
		}
	}
	if err := put(w, "manifest.json", int64(len(manifest)), bytes.NewReader(manifest)); err != nil {
		return err
	}
	return w.Close()
}

func put(w *tar.Writer, name string, size int64, from io.Reader) error {
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: epoch()}); err != nil {
		return err
	}
	_, err := io.Copy(w, from)
	return err
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
		w.size, err = w.file.Seek(0, io.SeekCurrent)
	}
	if err == nil {
		_, err = w.file.Seek(0, io.SeekStart)
	}
	if err != nil {
		w.file.Close()
		os.Remove(w.file.Name())
		return w, err
	}
	w.diff = hex.EncodeToString(sum.Sum(nil))
	return w, nil
}

func (i image) config(diffs []string) ([]byte, error) {
	return json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": epoch().Format(time.RFC3339),
		"config": map[string]any{
			"Env":        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			"Entrypoint": i.entrypoint, "User": i.user, "WorkingDir": "/",
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
}
