package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// shelf is a source of byte strings by path. It breaks as told.
type shelf struct {
	items map[string][]byte
	opens int
	sent  int64
	cut   int64 // each opened content fails after so many bytes; 0: never
}

func (s *shelf) Open(_ context.Context, path string, from, size int64) (io.ReadCloser, error) {
	s.opens++
	b, ok := s.items[path]
	if !ok {
		return nil, fleet.NewFault(fleet.CodeNodePrepare, fleet.Transient, nil, "status 404")
	}
	if from > int64(len(b)) {
		return nil, fleet.NewFault(fleet.CodePayloadCorrupt, fleet.Invalid, nil, "shorter than %d bytes", from)
	}
	var r io.Reader = bytes.NewReader(b[from:])
	if s.cut > 0 && int64(len(b))-from > s.cut {
		r = io.MultiReader(io.LimitReader(r, s.cut), broken{})
	}
	return io.NopCloser(&counter{r, &s.sent}), nil
}

type counter struct {
	r io.Reader
	n *int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}

type broken struct{}

func (broken) Read([]byte) (int, error) {
	return 0, fleet.NewFault(fleet.CodeNodePrepare, fleet.Transient, nil, "connection broken")
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// machine is a machine that is a folder, with a system's usual links, and a
// container runtime and a systemctl that are scripts.
type machine struct {
	System
	t     *testing.T
	shelf *shelf
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	root := t.TempDir()
	m := &machine{System: System{Root: root}, t: t, shelf: &shelf{items: map[string][]byte{}}}
	for _, dir := range []string{"etc", "var/opt", "var/usrlocal/bin", "usr/bin", "usr/sbin", "boot", "dev", "home"} {
		m.must(os.MkdirAll(filepath.Join(root, dir), 0o755))
	}
	// As on CoreOS.
	m.must(os.Symlink("var/opt", filepath.Join(root, "opt")))
	m.must(os.Symlink("../var/usrlocal", filepath.Join(root, "usr/local")))
	// ctr keeps "images" as lines of a file; an archive is a list of them.
	m.script("/usr/bin/ctr", `
root='`+root+`'
store="$root/images"
echo "$*" >>"$root/ctr.log"
case "$*" in
"-n k8s.io images ls -q")
	if [ -e "$root/starting" ]; then rm "$root/starting"; echo "ctr: connection refused" >&2; exit 1; fi
	cat "$store" 2>/dev/null; exit 0 ;;
"-n k8s.io images import "*) shift 4; cat "$root$1" >>"$store" ;;
"-n k8s.io images label "*) grep -qx "$5" "$store" ;;
*) echo "ctr: what is $*?" >&2; exit 2 ;;
esac
`)
	m.script("/usr/bin/systemctl", `
root='`+root+`'
echo "$*" >>"$root/systemctl.log"
case "$*" in
*"show --property=LoadState"*absent*) echo not-found ;;
*bad.service) echo "Job for bad.service failed." >&2; exit 1 ;;
*) exit 0 ;;
esac
`)
	return m
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) script(path, text string) {
	m.t.Helper()
	at := filepath.Join(m.Root, path)
	m.must(os.MkdirAll(filepath.Dir(at), 0o755))
	m.must(os.WriteFile(at, []byte("#!/bin/sh\n"+text), 0o755))
}

func (m *machine) do(step callhome.Step) error {
	return m.Do(m.t.Context(), m.shelf, step, nil)
}

func (m *machine) read(path string) string {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.Root, path))
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return string(b)
}

// tree lists all regular files and links below a path.
func (m *machine) tree(path string) string {
	m.t.Helper()
	var b strings.Builder
	_ = filepath.WalkDir(filepath.Join(m.Root, path), func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			b.WriteString(strings.TrimPrefix(p, m.Root) + "\n")
		}
		return nil
	})
	return b.String()
}

func (m *machine) serve(path string, b []byte) (sha256 string, size int64) {
	m.shelf.items[path] = b
	return sum(b), int64(len(b))
}

func fetchStep(m *machine, to string, b []byte) callhome.Step {
	s, n := m.serve("/m/key/"+filepath.Base(to), b)
	return callhome.Step{Name: "fetch", Fetch: &callhome.FetchStep{Path: "/m/key/" + filepath.Base(to), SHA256: s, Bytes: n, To: to, Mode: 0o755}}
}

func fileStep(to string, mode uint32, data string) callhome.Step {
	return callhome.Step{Name: "file", File: &callhome.FileStep{To: to, Mode: mode, Data: []byte(data)}}
}

func linkStep(to, target string) callhome.Step {
	return callhome.Step{Name: "link", File: &callhome.FileStep{To: to, Target: target}}
}

func goneStep(path string) callhome.Step {
	return callhome.Step{Name: "gone", Gone: &callhome.RemoveStep{Path: path}}
}

func runStep(unless string, argv ...string) callhome.Step {
	return callhome.Step{Name: "run", Run: &callhome.RunStep{Argv: argv, Unless: unless}}
}
