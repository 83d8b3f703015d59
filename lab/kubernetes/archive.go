package kubernetes

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// epoch is the time of everything in an archive, so that equal content gives
// equal bytes.
func epoch() time.Time { return time.Unix(1_700_000_000, 0).UTC() }

// image is one container image of a single layer.
type image struct {
	entrypoint []string
	references []string // names in the archive, as a node asks for them
	files      []imageFile
}

// imageFile is one file of an image: a copy of one that is on disk, a text, or a
// link.
type imageFile struct {
	path   string // in the image, without a leading slash
	source string // on disk; "" for text and link
	text   string // "" for a link
	target string // of a link
}

// write writes the image as a docker archive (Docker Image Specification 1.2):
// a tar of the layer, its configuration, and manifest.json. The same image
// always gives the same bytes: names are sorted, times and owners are fixed, and
// nothing is compressed, as it never travels further than a rack.
func (i image) write(out io.Writer, scratch string) error {
	layer, err := os.CreateTemp(scratch, "layer-")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	sum := sha256.New()
	if err := writeLayer(io.MultiWriter(layer, sum), i.files); err != nil {
		return fmt.Errorf("layer: %w", err)
	}
	diff := hex.EncodeToString(sum.Sum(nil))
	config, err := i.config(diff)
	if err != nil {
		return err
	}
	configName := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]any{map[string]any{"Config": configName, "RepoTags": i.references, "Layers": []string{diff + "/layer.tar"}}})
	if err != nil {
		return err
	}
	size, err := layer.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return err
	}
	w := tar.NewWriter(out)
	for _, member := range []struct {
		name string
		size int64
		from io.Reader
	}{
		{configName, int64(len(config)), bytes.NewReader(config)},
		{diff + "/layer.tar", size, layer},
		{"manifest.json", int64(len(manifest)), bytes.NewReader(manifest)},
	} {
		header := tar.Header{Typeflag: tar.TypeReg, Name: member.name, Mode: 0o644, Size: member.size, ModTime: epoch()}
		if err := w.WriteHeader(&header); err != nil {
			return err
		}
		if _, err := io.Copy(w, member.from); err != nil {
			return err
		}
	}
	return w.Close()
}

func (i image) config(diff string) ([]byte, error) {
	return json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux", "created": epoch().Format(time.RFC3339),
		"config": map[string]any{
			"Env":        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			"Entrypoint": i.entrypoint, "WorkingDir": "/",
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + diff}},
	})
}

// writeLayer writes files, sorted, each after the folders it lies in.
func writeLayer(out io.Writer, files []imageFile) error {
	w := tar.NewWriter(out)
	sorted := slices.SortedFunc(slices.Values(files), func(a, b imageFile) int { return strings.Compare(a.path, b.path) })
	made := map[string]bool{".": true}
	var folder func(string) error
	folder = func(dir string) error {
		if made[dir] {
			return nil
		}
		made[dir] = true
		if err := folder(path.Dir(dir)); err != nil {
			return err
		}
		mode := int64(0o755)
		if dir == "tmp" {
			mode = 0o1777
		}
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: mode, ModTime: epoch()})
	}
	for _, dir := range []string{"run", "tmp"} {
		if err := folder(dir); err != nil {
			return err
		}
	}
	for n, f := range sorted {
		if n > 0 && sorted[n-1].path == f.path {
			continue // two programs share a library
		}
		if err := folder(path.Dir(f.path)); err != nil {
			return err
		}
		if err := writeMember(w, f); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return w.Close()
}

func writeMember(w *tar.Writer, f imageFile) error {
	if f.text != "" {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.path, Mode: 0o644, Size: int64(len(f.text)), ModTime: epoch()}); err != nil {
			return err
		}
		_, err := io.WriteString(w, f.text)
		return err
	}
	if f.source == "" {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: f.path, Linkname: f.target, Mode: 0o777, ModTime: epoch()})
	}
	in, err := os.Open(f.source)
	if err != nil {
		return err
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	mode := int64(0o644)
	if st.Mode()&0o111 != 0 {
		mode = 0o755
	}
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.path, Mode: mode, Size: st.Size(), ModTime: epoch()}); err != nil {
		return err
	}
	_, err = io.Copy(w, in)
	return err
}
