package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"metalrise.dev/fleet"
)

const (
	payloadName = "payload.json"
	// maxPayload: a hundred entries of some 300 bytes are 30 KiB.
	maxPayload = 1 << 20
)

// Payload is the folder of the nodes' software. It hands out only contents that
// payload.json lists and that were verified. It may be used by several
// goroutines.
type Payload struct {
	dir    string // absolute
	value  fleet.Payload
	digest string
	blobs  []blob // each once, in the order of payload.json

	mu       sync.Mutex
	verified map[string]Verified // by digest
	refused  map[string]stamp    // what was read again and is another content, by digest

	rereading sync.Mutex // one content at a time
}

// blob is one content of the payload.
type blob struct {
	sha256 string
	bytes  int64
	at     string // field of payload.json that lists it first
}

// LoadPayload reads payload.json in the folder dir and looks whether every
// content that it lists is there with its size. Nothing is hashed yet.
//
// Errors are faults: KUBE-003 around an *InvalidError, which has all that is
// wrong at once, or around an error of the file system; KUBE-004 when payload.json is
// good and files of the folder are missing or have another size.
func LoadPayload(ctx context.Context, dir string) (*Payload, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("load the nodes' software %s: %w", dir, err)
	}
	invalid := func(err error) error {
		return fleet.NewFault(fleet.CodePayloadInvalid, fleet.Invalid, err, "load the nodes' software %s", dir)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, invalid(err)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, invalid(err)
	}
	defer root.Close()
	text, err := readPayload(root)
	if err != nil {
		return nil, invalid(err)
	}
	value, err := ParsePayload(text)
	if err != nil {
		return nil, invalid(err)
	}
	p := &Payload{dir: abs, value: value, blobs: blobsOf(value), verified: map[string]Verified{}, refused: map[string]stamp{}}
	if p.digest, err = fleet.Digest(value); err != nil {
		return nil, invalid(err)
	}
	if faults := missingBlobs(root, p.blobs); len(faults) > 0 {
		return nil, fleet.NewFault(fleet.CodePayloadCorrupt, fleet.Invalid, &InvalidError{Faults: faults}, "load the nodes' software %s", dir)
	}
	return p, nil
}

func readPayload(root *os.Root) ([]byte, error) {
	st, err := root.Stat(payloadName)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() { // opening a named pipe would wait for ever
		return nil, fmt.Errorf("%s is not a regular file", payloadName)
	}
	f, err := root.Open(payloadName)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPayload+1))
	if err == nil && len(b) > maxPayload {
		err = fmt.Errorf("%s has more than %d bytes: this is no list of the nodes' software", payloadName, maxPayload)
	}
	return b, err
}

// blobsOf lists the contents of a payload, each once.
func blobsOf(p fleet.Payload) []blob {
	var out []blob
	seen := map[string]bool{}
	add := func(sha256 string, bytes int64, at string) {
		if sha256 != "" && !seen[sha256] {
			seen[sha256] = true
			out = append(out, blob{sha256, bytes, at})
		}
	}
	for i, f := range p.Files {
		add(f.Digest, f.Bytes, fmt.Sprintf("files[%d].sha256", i))
	}
	for i, m := range p.Images {
		add(m.Digest, m.Bytes, fmt.Sprintf("images[%d].sha256", i))
	}
	for i, m := range p.Manifests {
		add(m.Digest, m.Bytes, fmt.Sprintf("manifests[%d].sha256", i))
	}
	return out
}

// missingBlobs tells which contents are not there. os.Root refuses links that
// lead out of the folder.
func missingBlobs(root *os.Root, blobs []blob) []Fault {
	var out []Fault
	for _, b := range blobs {
		name := fleet.Blob(b.sha256)
		st, err := root.Stat(filepath.FromSlash(name))
		why := ""
		switch {
		case errors.Is(err, fs.ErrNotExist):
			why = "does not exist"
		case err != nil:
			why = "cannot be used: " + err.Error()
		case !st.Mode().IsRegular():
			why = "is not a regular file"
		case st.Size() != b.bytes:
			why = fmt.Sprintf("has %d bytes, %s says %d", st.Size(), payloadName, b.bytes)
		default:
			continue
		}
		out = append(out, Fault{Path: b.at, Value: name, Why: why, Remedy: "copy the folder again from where it came"})
	}
	return out
}

// Value is the content of payload.json. Its lists must not be changed.
func (p *Payload) Value() fleet.Payload { return p.value }

// Digest is the digest of Value, by which a plan names the software.
func (p *Payload) Digest() string { return p.digest }

// Bytes is the size of all contents, each counted once.
func (p *Payload) Bytes() int64 {
	var n int64
	for _, b := range p.blobs {
		n += b.bytes
	}
	return n
}

// Verify compares every content with its digest; v remembers what is verified
// and unchanged. progress may be nil; it is called from this goroutine with
// bytes done and in all, at least once.
//
// Errors are faults with code KUBE-004; an ended ctx is returned as it is.
func (p *Payload) Verify(ctx context.Context, v Verifier, progress func(done, total int64)) error {
	total, done := p.Bytes(), int64(0)
	report := func(n int64) {
		if progress != nil {
			progress(min(n, total), total)
		}
	}
	for _, b := range p.blobs {
		path := p.path(b.sha256)
		got, err := v.verify(ctx, Artifact{Path: path, SHA256: b.sha256}, func(n, _ int64) { report(done + n) })
		if err != nil {
			return blobError(ctx, err, "verify "+path+" of the nodes' software")
		}
		p.mu.Lock()
		p.verified[b.sha256] = got
		p.mu.Unlock()
		done += b.bytes
	}
	report(done)
	return nil
}

// ErrNotVerified: the content was not verified yet. Call Verify first.
var ErrNotVerified = errors.New("it was not verified yet")

// Open opens one content by its digest and gives its size in bytes. Only a
// content that payload.json lists, that Verify has hashed and that is unchanged since is
// given out. One whose file is not as it was is read once more first: a link to it or a
// backup touches the file and not what is in it, and nodes wait for it. Errors are
// faults: KUBE-003 when it is not listed, KUBE-004 otherwise.
func (p *Payload) Open(sha256 string) (*os.File, int64, error) {
	listed := false
	for _, b := range p.blobs {
		listed = listed || b.sha256 == sha256
	}
	if !listed {
		return nil, 0, fleet.NewFault(fleet.CodePayloadInvalid, fleet.Invalid, nil, "open %.80q of the nodes' software: %s does not list it", sha256, payloadName)
	}
	p.mu.Lock()
	v, ok := p.verified[sha256]
	p.mu.Unlock()
	what := "open " + p.path(sha256) + " of the nodes' software"
	if !ok {
		return nil, 0, fleet.NewFault(fleet.CodePayloadCorrupt, fleet.Conflict, ErrNotVerified, "%s", what)
	}
	f, now, err := openStamped(v.artifact.Path)
	if err == nil && now != v.stamp {
		f.Close()
		f, now, err = p.reread(sha256)
	}
	if err != nil {
		return nil, 0, blobError(context.Background(), err, what)
	}
	return f, now.Size, nil
}

// reread hashes a content whose file is not as it was, and opens it if it is the
// same still.
func (p *Payload) reread(sha256 string) (*os.File, stamp, error) {
	p.rereading.Lock()
	defer p.rereading.Unlock()
	f, now, err := openStamped(p.path(sha256))
	if err != nil {
		return nil, now, err
	}
	p.mu.Lock()
	known, refused := p.verified[sha256].stamp == now, p.refused[sha256] == now
	p.mu.Unlock()
	if known { // somebody else just read it
		return f, now, nil
	}
	f.Close()
	if refused {
		return nil, now, ErrChanged
	}
	again, err := Verifier{}.verify(context.Background(), Artifact{Path: p.path(sha256), SHA256: sha256}, nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	var corrupt *CorruptError
	switch {
	case errors.As(err, &corrupt):
		p.refused[sha256] = now
		return nil, now, ErrChanged
	case err != nil:
		return nil, now, err
	}
	p.verified[sha256] = again
	f, now, err = openStamped(again.artifact.Path)
	if err == nil && now != again.stamp {
		f.Close()
		return nil, now, ErrChanged
	}
	return f, now, err
}

func (p *Payload) path(sha256 string) string {
	return filepath.Join(p.dir, filepath.FromSlash(fleet.Blob(sha256)))
}

func blobError(ctx context.Context, err error, what string) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, ErrChanged):
		return fleet.NewFault(fleet.CodePayloadCorrupt, fleet.Conflict, err, "%s", what)
	}
	return fleet.NewFault(fleet.CodePayloadCorrupt, fleet.Invalid, err, "%s", what)
}
