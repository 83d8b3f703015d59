package platform

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"
)

// epoch is the time of everything in an archive, so that equal content gives
// equal bytes.
func epoch() time.Time { return time.Unix(1_700_000_000, 0).UTC() }

// layer is one layer of an image while it is written. Its first error stays,
// and is told at its end.
type layer struct {
	tar  *tar.Writer
	made map[string]bool // paths without a leading slash
	err  error
}

func newLayer(out io.Writer) *layer {
	return &layer{tar: tar.NewWriter(out), made: map[string]bool{".": true}}
}

// close ends the layer.
func (l *layer) close() error {
	if l.err != nil {
		return l.err
	}
	return l.tar.Close()
}

func (l *layer) header(h tar.Header) {
	if l.err == nil {
		h.ModTime = epoch()
		l.err = l.tar.WriteHeader(&h)
	}
}

// folder makes a folder and those it lies in.
func (l *layer) folder(name string, mode int64) {
	if l.made[name] {
		return
	}
	l.folder(path.Dir(name), 0o755)
	l.made[name] = true
	l.header(tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode})
}

// text writes a file with this content.
func (l *layer) text(name, text string, mode int64) {
	l.folder(path.Dir(name), 0o755)
	l.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(text))})
	if l.err == nil {
		_, l.err = io.WriteString(l.tar, text)
	}
}

// link makes a symbolic link.
func (l *layer) link(name, target string) {
	l.folder(path.Dir(name), 0o755)
	l.header(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
}

// file copies a file of this computer. Capabilities are those of the program,
// as the kernel keeps them with a file; "" for none.
func (l *layer) file(name, source string, mode int64, capabilities string) {
	if l.err != nil {
		return
	}
	in, err := os.Open(source)
	if err != nil {
		l.err = err
		return
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		l.err = err
		return
	}
	l.folder(path.Dir(name), 0o755)
	h := tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: st.Size()}
	if capabilities != "" {
		h.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": capabilities}
	}
	l.header(h)
	if l.err == nil {
		_, l.err = io.Copy(l.tar, in)
	}
}

// program copies a program of this computer, to be run by anyone.
func (l *layer) program(name, source string) { l.file(name, source, 0o755, "") }

// tree takes over the members of a tar that keep wants, with owners and modes,
// but neither times nor device nodes.
func (l *layer) tree(source string, keep func(name string) bool) {
	if l.err != nil {
		return
	}
	f, err := os.Open(source)
	if err != nil {
		l.err = err
		return
	}
	defer f.Close()
	for in := tar.NewReader(f); l.err == nil; {
		h, err := in.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			l.err = fmt.Errorf("%s: %w", source, err)
			return
		}
		l.member(in, h, keep)
	}
}

func (l *layer) member(in io.Reader, h *tar.Header, keep func(string) bool) {
	name := clean(h.Name)
	if name == "." || !keep(name) {
		return
	}
	copied := tar.Header{Typeflag: h.Typeflag, Name: name, Mode: h.Mode, Uid: h.Uid, Gid: h.Gid, PAXRecords: xattrs(h)}
	switch h.Typeflag {
	case tar.TypeDir:
		copied.Name += "/"
	case tar.TypeReg:
		copied.Size = h.Size
	case tar.TypeSymlink:
		copied.Linkname = h.Linkname
	case tar.TypeLink:
		if copied.Linkname = clean(h.Linkname); !keep(copied.Linkname) {
			l.err = fmt.Errorf("%s is a hard link to %s, which is left out", name, copied.Linkname)
			return
		}
	default:
		return
	}
	l.made[name] = true
	l.header(copied)
	if l.err == nil && h.Typeflag == tar.TypeReg {
		_, l.err = io.Copy(l.tar, in)
	}
}

func clean(name string) string { return path.Clean(strings.TrimPrefix(name, "/")) }

// xattrs are the extended attributes of a tar's member, as PAX records.
func xattrs(h *tar.Header) map[string]string {
	var all map[string]string
	for key, value := range h.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.") {
			if all == nil {
				all = map[string]string{}
			}
			all[key] = value
		}
	}
	return all
}
