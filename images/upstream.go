package images

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	oci "github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/klauspost/compress/gzip"

	"metalrise.dev/fleet"
)

// mirrored sends the requests of the registry client to mirrors.
type mirrored struct {
	next    http.RoundTripper
	mirrors Mirrors
}

func (m mirrored) RoundTrip(q *http.Request) (*http.Response, error) {
	at := q.URL.String()
	if to := m.mirrors.rewrite(at); to != at {
		u, err := url.Parse(to)
		if err != nil {
			return nil, err
		}
		there := q.Clone(q.Context())
		there.URL, there.Host = u, ""
		resp, err := m.next.RoundTrip(there)
		if err == nil {
			resp.Request = q // the client goes on with the address it asked
		}
		return resp, err
	}
	return m.next.RoundTrip(q)
}

func (d Downloader) registry(ctx context.Context) []oci.Option {
	next := d.Client.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	return []oci.Option{oci.WithContext(ctx), oci.WithTransport(mirrored{next, d.Mirrors}), oci.WithUserAgent("metalrise")}
}

// Lock asks upstream, or mirrors, for the digests of releases. What it gives is as
// good as the connections it was asked over: a person is to read it.
func (d Downloader) Lock(ctx context.Context, u Upstream) (PayloadLock, error) {
	d = d.filled()
	l := PayloadLock{APIVersion: LockVersion, Version: u.Kubernetes, Architecture: u.Architecture}
	fail := func(err error) (PayloadLock, error) {
		return l, fleet.NewFault(fleet.CodePayloadInvalid, fleet.Invalid, err, "pin the nodes' software %s", u.Kubernetes)
	}
	arch, ok := platforms()[u.Architecture]
	if !ok || !isRelease(u.Kubernetes) {
		return fail(fmt.Errorf("architecture %q or version %q is not known", u.Architecture, u.Kubernetes))
	}
	for _, s := range u.sources() {
		text, err := d.small(ctx, s.checksum, maxChecksums)
		if err == nil {
			s.SHA256, err = parseChecksum(text, path.Base(s.URL))
		}
		if err != nil {
			return fail(err)
		}
		l.Sources = append(l.Sources, s.LockSource)
	}
	list, err := u.images()
	if err != nil {
		return fail(err)
	}
	for _, m := range list {
		ref, err := name.NewTag(m.Reference)
		if err != nil {
			return fail(err)
		}
		img, err := oci.Image(ref, append(d.registry(ctx), oci.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))...)
		if err != nil {
			return fail(fmt.Errorf("image %s: %w", m.Reference, err))
		}
		digest, err := img.Digest()
		if err != nil {
			return fail(fmt.Errorf("image %s: %w", m.Reference, err))
		}
		m.Digest = digest.String()
		l.Images = append(l.Images, m)
	}
	if err := l.check(); err != nil {
		return fail(err)
	}
	return l, nil
}

// MakePayload fetches what a lock pins and makes software of nodes of it, in the store.
// What is there is not fetched again. Errors are faults: KUBE-004 when something is not
// what the lock says, KUBE-003 otherwise.
func (s *Store) MakePayload(ctx context.Context, l PayloadLock, d Downloader, p Progress) (Entry, error) {
	unlock, err := s.sharing(ctx)
	if err != nil {
		return Entry{}, err
	}
	defer unlock()
	m := &maker{store: s, d: d.filled(), progress: p, set: newContainers()}
	defer m.set.Close()
	e, err := m.make(ctx, l)
	if err == nil {
		return e, nil
	}
	var corrupt *CorruptError
	switch {
	case ctx.Err() != nil:
		return e, fmt.Errorf("make the nodes' software %s: %w", l.Version, err)
	case errors.As(err, &corrupt):
		return e, fleet.NewFault(fleet.CodePayloadCorrupt, fleet.Invalid, err, "make the nodes' software %s", l.Version)
	}
	return e, fleet.NewFault(fleet.CodePayloadInvalid, fleet.Invalid, err, "make the nodes' software %s", l.Version)
}

// maker makes one payload.
type maker struct {
	store    *Store
	d        Downloader
	progress Progress
	set      *Containers
}

func (m *maker) make(ctx context.Context, l PayloadLock) (Entry, error) {
	if err := l.check(); err != nil {
		return Entry{}, err
	}
	v := fleet.Payload{APIVersion: fleet.PayloadVersion, Flavour: fleet.Kubeadm, Version: l.Version, Architecture: l.Architecture}
	for _, src := range l.Sources {
		files, err := m.source(ctx, src)
		if err != nil {
			return Entry{}, err
		}
		v.Files = append(v.Files, files...)
	}
	for _, i := range l.Images {
		got, err := m.image(ctx, i)
		if err != nil {
			return Entry{}, fmt.Errorf("image %s: %w", i.Reference, err)
		}
		v.Images = append(v.Images, got)
	}
	if err := CheckPayload(v); err != nil {
		return Entry{}, err
	}
	digest, err := fleet.Digest(v)
	if err != nil {
		return Entry{}, err
	}
	return m.store.landPayload(v, digest)
}

// source fetches one download and takes its programs out.
func (m *maker) source(ctx context.Context, src LockSource) ([]fleet.PayloadFile, error) {
	f := Promise{URL: src.URL, SHA256: src.SHA256}
	if _, err := m.store.bring(ctx, f, ByPin, Trust{}, m.d, m.progress); err != nil {
		return nil, err
	}
	out := make([]fleet.PayloadFile, len(src.Files))
	members := map[string]int{}
	for i, f := range src.Files {
		out[i] = fleet.PayloadFile{Name: f.Name, Path: f.Path, Mode: 0o755}
		if f.Member != "" {
			members[f.Member] = i
			continue
		}
		st, err := os.Stat(m.store.blob(src.SHA256))
		if err != nil {
			return nil, err
		}
		out[i].Digest, out[i].Bytes = src.SHA256, st.Size()
	}
	if len(members) == 0 {
		return out, nil
	}
	return out, m.extract(ctx, src, members, out)
}

func (m *maker) extract(ctx context.Context, src LockSource, members map[string]int, out []fleet.PayloadFile) error {
	in, err := os.Open(m.store.blob(src.SHA256))
	if err != nil {
		return err
	}
	defer in.Close()
	z, err := gzip.NewReader(in)
	if err != nil {
		return fmt.Errorf("%s: %w", src.URL, err)
	}
	t := tar.NewReader(z)
	for n := 0; len(members) > 0; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) || n > maxArchiveEntries {
			missing := slices.Sorted(maps.Keys(members))
			return fmt.Errorf("%s has no %s", src.URL, strings.Join(missing, ", "))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", src.URL, err)
		}
		name := path.Clean(h.Name)
		i, ok := members[name]
		if !ok || h.Typeflag != tar.TypeReg || h.Size > maxBlob {
			continue
		}
		delete(members, name)
		if out[i].Digest, err = m.store.keepNew(ctx, t); err != nil {
			return err
		}
		out[i].Bytes = h.Size
	}
	return nil
}

// keepNew keeps a content whose digest is not known yet, but which comes out of
// something verified.
func (s *Store) keepNew(ctx context.Context, r io.Reader) (string, error) {
	tmp, err := os.CreateTemp(filepath.Join(s.dir, "partial"), "copy-*.part")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name()) // in vain once renamed
	defer tmp.Close()
	sums := newSums(demand{})
	if _, err := copyContext(ctx, io.MultiWriter(tmp, sums), r, nil); err != nil {
		return "", err
	}
	digest := fmt.Sprintf("%x", sums.short.Sum(nil))
	if err := tmp.Sync(); err != nil {
		return "", err
	}
	return digest, s.keepBlob(tmp.Name(), digest)
}

// image pulls one image by digest and packs it as an archive that containerd imports.
func (m *maker) image(ctx context.Context, i LockImage) (fleet.PayloadImage, error) {
	none := fleet.PayloadImage{}
	n, err := parseImageName(i.Reference)
	if err != nil {
		return none, err
	}
	ref, err := name.NewDigest(n.host + "/" + n.repository + "@" + i.Digest)
	if err != nil {
		return none, err
	}
	img, err := oci.Image(ref, m.d.registry(ctx)...)
	if err != nil {
		return none, err
	}
	if err := m.keepImage(ctx, img, n.String()); err != nil {
		return none, err
	}
	r, err := m.set.recipeOf([]string{n.String()})
	if err != nil {
		return none, err
	}
	digest, size, err := r.measure(ctx, m.set.opener)
	if err != nil {
		return none, err
	}
	if !m.store.hasBlob(digest) {
		pr, pw := io.Pipe()
		go func() { pw.CloseWithError(r.write(ctx, pw, m.set.opener)) }()
		_, err := m.store.keepCopy(ctx, pr, i.Reference, digest, nil, nil)
		pr.CloseWithError(errors.New("stopped"))
		if err != nil {
			return none, err
		}
	}
	return fleet.PayloadImage{Name: i.Name, References: []string{n.String()}, Digest: digest, Bytes: size, Roles: i.Roles}, nil
}

// keepImage brings manifest, configuration and layers into the store, each
// compared with its digest, and takes them into the set.
func (m *maker) keepImage(ctx context.Context, img v1.Image, called string) error {
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	text, err := img.RawManifest()
	if err != nil {
		return err
	}
	kind, err := img.MediaType()
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	memory := map[v1.Hash]extent{}
	for _, b := range [][]byte{text, config} {
		memory[v1.Hash{Algorithm: "sha256", Hex: hexSHA256(b)}] = extent{data: b, size: int64(len(b))}
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for n, l := range layers {
		if err := m.layer(ctx, l, fmt.Sprintf("%s layer %d of %d", called, n+1, len(layers))); err != nil {
			return err
		}
	}
	d := v1.Descriptor{MediaType: kind, Digest: digest, Size: int64(len(text))}
	if err := m.set.takeManifest(d, func(h v1.Hash) (extent, bool) {
		if e, ok := memory[h]; ok {
			return e, true
		}
		return m.stored(h)
	}, 0); err != nil {
		return err
	}
	return m.set.name(called, d)
}

func (m *maker) layer(ctx context.Context, l v1.Layer, what string) error {
	digest, err := l.Digest()
	if err != nil {
		return err
	}
	// One command at a time for one layer; the others find it there.
	unlock, err := m.store.lock(ctx, filepath.Join("partial", digest.Hex[:32]+".lock"), syscall.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if m.store.hasBlob(digest.Hex) {
		return nil
	}
	size, err := l.Size()
	if err != nil {
		return err
	}
	in, err := l.Compressed() // as it is in the registry, packed or not
	if err != nil {
		return err
	}
	defer in.Close()
	tell := m.progress.of(what)
	_, err = m.store.keepCopy(ctx, io.LimitReader(in, maxBlob), what, digest.Hex, nil, func(n int64) { tell(n, size) })
	return err
}

// stored gives a content of the store; its file stays open with the set.
func (m *maker) stored(h v1.Hash) (extent, bool) {
	f, st, err := openStamped(m.store.blob(h.Hex))
	if err != nil {
		return extent{}, false
	}
	m.set.files = append(m.set.files, f)
	return extent{at: f, size: st.Size}, true
}
