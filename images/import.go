package images

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"metalrise.dev/fleet"
)

// Import copies a release that lies in a folder, as Load reads it, into the store.
// A file's signature is looked for beside it (FILE.sig); without one, or without
// keys, its digest or that of the metadata must be pinned.
func (s *Store) Import(ctx context.Context, ref string, os OS, t Trust, p Progress) (Entry, error) {
	e, err := s.importRelease(ctx, ref, os, t, p)
	if err != nil {
		return Entry{}, imageFault(ctx, err, "import %s", ref)
	}
	return e, nil
}

func (s *Store) importRelease(ctx context.Context, ref string, system OS, t Trust, p Progress) (Entry, error) {
	rel, err := Load(ctx, ref)
	if err != nil {
		return Entry{}, err
	}
	metadata := ref
	if st, err := os.Stat(ref); err == nil && st.IsDir() {
		metadata = filepath.Join(ref, metadataName)
	}
	text, err := readFile(metadata, maxMetadata)
	if err != nil {
		return Entry{}, err
	}
	r := Record{APIVersion: RecordVersion, Kind: KindRelease, OS: system, Stream: rel.Stream, Version: rel.Version, Arch: rel.Arch,
		Metadata: hexSHA256(text), Added: time.Now().UTC()}
	unlock, err := s.sharing(ctx)
	if err != nil {
		return Entry{}, err
	}
	defer unlock()
	for _, f := range rel.files() {
		got, err := s.importFile(ctx, f, r.Metadata, t, p)
		if err != nil {
			return Entry{}, err
		}
		r.Files = append(r.Files, got)
	}
	return s.landRelease(r)
}

type roleFile struct {
	role Role
	Artifact
}

// files of a release in a fixed order.
func (r Release) files() []roleFile {
	out := []roleFile{{RoleISO, r.ISO}, {RoleDisk, r.Disk}}
	if r.PXE != nil {
		out = append(out, roleFile{RoleKernel, r.PXE.Kernel}, roleFile{RoleInitramfs, r.PXE.Initramfs})
		if r.PXE.Rootfs.SHA256 != "" {
			out = append(out, roleFile{RoleRootfs, r.PXE.Rootfs})
		}
	}
	return out
}

func (s *Store) importFile(ctx context.Context, f roleFile, metadata string, t Trust, p Progress) (RecordFile, error) {
	r := RecordFile{Role: f.role, Format: f.Format, Name: string(f.role) + extension(f.Format), SHA256: f.SHA256, Unpacked: f.UncompressedSHA256, Bytes: f.Size, From: f.Path}
	signature, err := readFile(f.Path+".sig", maxSignature)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	if r.Proof, err = t.judge(f.Path, f.SHA256, "", metadata, err == nil); err != nil {
		return r, err
	}
	var begin func() *signed
	switch r.Proof {
	case BySignature:
		begin = func() *signed { return t.Keys.check(f.Path, signature) }
	case ByChecksums:
		r.Signer = t.Listed[f.SHA256]
	}
	in, _, err := openStamped(f.Path)
	if err != nil {
		return r, err
	}
	defer in.Close()
	tell := p.of(r.Name)
	signer, err := s.keepCopy(ctx, in, f.Path, f.SHA256, begin, func(n int64) { tell(n, f.Size) })
	if signer != "" {
		r.Signer = signer
	}
	return r, err
}

func extension(f Format) string {
	switch f {
	case FormatISO:
		return ".iso"
	case FormatPXE:
		return ""
	}
	return "." + string(f)
}

// ImportPayload copies software of nodes into the store. It proves itself by the digest of
// payload.json, which pin must be if it is not empty.
//
// Errors are faults: those of LoadPayload, and KUBE-004.
func (s *Store) ImportPayload(ctx context.Context, dir, pin string, p Progress) (Entry, error) {
	load, err := LoadPayload(ctx, dir)
	if err != nil {
		return Entry{}, err
	}
	if pin != "" && load.Digest() != pin {
		return Entry{}, fleet.NewFault(fleet.CodePayloadCorrupt, fleet.Invalid, nil, "import the nodes' software %s: its digest is %s, wanted is %s", dir, load.Digest(), pin)
	}
	unlock, err := s.sharing(ctx)
	if err != nil {
		return Entry{}, err
	}
	defer unlock()
	if err := s.importBlobs(ctx, load, p); err != nil {
		return Entry{}, blobError(ctx, err, "import the nodes' software "+dir)
	}
	e, err := s.landPayload(load.Value(), load.Digest())
	if err != nil {
		return Entry{}, blobError(ctx, err, "import the nodes' software "+dir)
	}
	return e, nil
}

// importBlobs copies every content of a payload into the store.
func (s *Store) importBlobs(ctx context.Context, from *Payload, p Progress) error {
	open := func(b blob) (*os.File, error) {
		f, _, err := openStamped(from.path(b.sha256))
		return f, err
	}
	for _, b := range from.blobs {
		if err := s.importBlob(ctx, b, open, p); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) importBlob(ctx context.Context, b blob, open func(blob) (*os.File, error), p Progress) error {
	if s.hasBlob(b.sha256) {
		return nil
	}
	in, err := open(b)
	if err != nil {
		return err
	}
	defer in.Close()
	tell := p.of(fleet.Blob(b.sha256)[:18])
	_, err = s.keepCopy(ctx, in, in.Name(), b.sha256, nil, func(n int64) { tell(n, b.bytes) })
	return err
}

// landPayload makes the entry; all contents are in the store.
func (s *Store) landPayload(v fleet.Payload, digest string) (Entry, error) {
	r := Record{APIVersion: RecordVersion, Kind: KindPayload, Version: v.Version, Arch: Arch(v.Architecture), Digest: digest, Added: time.Now().UTC()}
	for _, b := range blobsOf(v) {
		r.Files = append(r.Files, RecordFile{Name: fleet.Blob(b.sha256), SHA256: b.sha256, Bytes: b.bytes})
	}
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return Entry{}, err
	}
	return s.land(r, entryName(string(v.Flavour), v.Version, v.Architecture, digest[:8]), map[string][]byte{payloadName: text})
}
