package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/stream-metadata-go/stream"

	"metalrise.dev/fleet"
)

// Progress is told how a file comes along: bytes done and in all; total is 0
// while it is not known. It is called from the goroutine that works.
type Progress func(file string, done, total int64)

func (p Progress) of(file string) func(done, total int64) {
	return func(done, total int64) {
		if p != nil {
			p(file, done, total)
		}
	}
}

// Fetch brings a release into the store: every file is hashed and, where it is
// signed and keys are there, its signature checked while it is read; only then it gets
// a name in the store. A release that is there already costs nothing. What was
// interrupted is continued.
//
// Errors are faults: IMG-001 when a file is not what was promised, not signed by a
// trusted key, or not trusted at all (*UntrustedError, before anything is fetched);
// PLAN-017 when it could not be fetched.
func (s *Store) Fetch(ctx context.Context, o Offer, t Trust, d Downloader, p Progress) (Entry, error) {
	e, err := s.fetch(ctx, o, t, d.filled(), p)
	if err != nil {
		return Entry{}, imageFault(ctx, err, "fetch %s %s", o.Stream, o.Version)
	}
	return e, nil
}

func imageFault(ctx context.Context, err error, format string, args ...any) error {
	var fault *fleet.Fault
	if errors.As(err, &fault) || ctx.Err() != nil {
		return fmt.Errorf(format+": %w", append(args, err)...)
	}
	var corrupt *CorruptError
	var signature *SignatureError
	var untrusted *UntrustedError
	var bundle *bundleError
	switch {
	case errors.As(err, &untrusted), errors.As(err, &signature):
		return fleet.NewFault(fleet.CodeImageCorrupt, fleet.Denied, err, format, args...)
	case errors.As(err, &corrupt), errors.As(err, &bundle):
		return fleet.NewFault(fleet.CodeImageCorrupt, fleet.Invalid, err, format, args...)
	}
	return fleet.NewFault(fleet.CodeImageMissing, fleet.Transient, err, format, args...)
}

func (s *Store) fetch(ctx context.Context, o Offer, t Trust, d Downloader, p Progress) (Entry, error) {
	proofs := make([]Proof, len(o.Promises))
	var untrusted []error
	for i, f := range o.Promises {
		var err error
		if proofs[i], err = t.judge(f.URL, f.SHA256, f.SHA512, o.Metadata, f.Signature != ""); err != nil {
			untrusted = append(untrusted, err)
		}
	}
	if len(untrusted) > 0 {
		return Entry{}, errors.Join(untrusted...)
	}
	unlock, err := s.sharing(ctx)
	if err != nil {
		return Entry{}, err
	}
	defer unlock()
	if e, ok := s.have(o, proofs, t.Keys); ok {
		now := time.Now()
		return e, os.Chtimes(filepath.Join(e.Folder, recordName), now, now)
	}
	r := Record{APIVersion: RecordVersion, Kind: KindRelease, OS: o.OS, Stream: o.Stream, Version: o.Version, Arch: o.Arch, Metadata: o.Metadata, Added: time.Now().UTC()}
	for i, f := range o.Promises {
		got, err := s.bring(ctx, f, proofs[i], t, d, p)
		if err != nil {
			return Entry{}, err
		}
		r.Files = append(r.Files, got)
	}
	return s.landRelease(r)
}

// have finds a release that was made from the same metadata with proofs as
// good: signatures by a key that is trusted now too.
func (s *Store) have(o Offer, proofs []Proof, keys *Keyring) (Entry, bool) {
	all, _ := s.List() // what cannot be read is not found
	trusted := keys.Fingerprints()
	for _, e := range all {
		if e.Kind != KindRelease || e.Metadata != o.Metadata || e.Version != o.Version || len(e.Files) != len(proofs) {
			continue
		}
		same := true
		for i, f := range e.Files {
			same = same && f.Proof == proofs[i] && (f.Proof != BySignature || slices.Contains(trusted, f.Signer))
		}
		if same {
			return e, true
		}
	}
	return Entry{}, false
}

// bring gets one file. Two commands that want the same one do not disturb each
// other: the second waits, and finds it there.
func (s *Store) bring(ctx context.Context, f Promise, proof Proof, t Trust, d Downloader, p Progress) (RecordFile, error) {
	r := RecordFile{Role: f.Role, Format: f.Format, Name: f.Name(), SHA256: f.SHA256, Unpacked: f.Unpacked, From: f.URL, Proof: proof}
	if proof == ByChecksums {
		r.Signer = t.Listed[f.SHA256]
	}
	var begin func() *signed
	if proof == BySignature {
		text, err := d.small(ctx, f.Signature, maxSignature)
		if err != nil {
			return r, fmt.Errorf("signature: %w", err)
		}
		begin = func() *signed { return t.Keys.check(f.URL, text) }
	}
	part := filepath.Join("partial", hexSHA256([]byte(f.URL))[:32])
	unlock, err := s.lock(ctx, part+".lock", syscall.LOCK_EX)
	if err != nil {
		return r, err
	}
	defer unlock()
	part = filepath.Join(s.dir, part+".part")
	if f.SHA256 != "" && s.hasBlob(f.SHA256) {
		if r.Bytes, r.Signer, err = s.prove(ctx, f, r.Signer, begin, p); err != nil {
			return r, err
		}
		return s.finished(ctx, r, f)
	}
	got, err := d.fetch(ctx, demand{url: f.URL, sha256: f.SHA256, sha512: f.SHA512, begin: begin, progress: p.of(r.Name)}, part)
	if err != nil {
		return r, err
	}
	r.SHA256, r.Bytes = got.sha256, got.bytes
	if got.signer != "" {
		r.Signer = got.signer
	}
	if f.Format == FormatRawBz2 {
		return s.repack(ctx, r, part, p)
	}
	if err := s.keepBlob(part, got.sha256); err != nil {
		return r, err
	}
	_ = os.Remove(part + ".json")
	return s.finished(ctx, r, f)
}

// prove reads a content that is there already: it must still be right, and
// signed if that was asked for.
func (s *Store) prove(ctx context.Context, f Promise, signer string, begin func() *signed, p Progress) (int64, string, error) {
	file, err := os.Open(s.blob(f.SHA256))
	if err != nil {
		return 0, "", err
	}
	defer file.Close()
	sums := newSums(demand{begin: begin})
	defer sums.abort()
	tell := p.of(f.Name())
	if _, err := copyContext(ctx, sums, file, func(n int64) { tell(n, 0) }); err != nil {
		return 0, "", err
	}
	if got := fmt.Sprintf("%x", sums.short.Sum(nil)); got != f.SHA256 {
		return 0, "", &CorruptError{Path: file.Name(), Want: f.SHA256, Got: got, Size: sums.n}
	}
	if sig := sums.sig; sig != nil {
		sums.sig = nil
		if signer, err = sig.close(); err != nil {
			return 0, "", err
		}
	}
	return sums.n, signer, nil
}

// finished fills in what the publisher left out: old metadata give no digest of
// the unpacked disk image, which a written disk is compared with.
func (s *Store) finished(ctx context.Context, r RecordFile, f Promise) (RecordFile, error) {
	if f.Role != RoleDisk || r.Unpacked != "" {
		return r, nil
	}
	var err error
	r.Unpacked, err = unpackedDigest(ctx, s.blob(r.SHA256), f.Format)
	return r, err
}

// landRelease writes the stream metadata of what was brought.
func (s *Store) landRelease(r Record) (Entry, error) {
	formats := map[string]stream.ImageFormat{}
	for _, f := range r.Files {
		a := &stream.Artifact{Location: f.Name, Sha256: f.SHA256, UncompressedSha256: f.Unpacked}
		v := formats[string(f.Format)]
		switch f.Role {
		case RoleKernel:
			v.Kernel = a
		case RoleInitramfs:
			v.Initramfs = a
		case RoleRootfs:
			v.Rootfs = a
		default:
			v.Disk = a
		}
		formats[string(f.Format)] = v
	}
	text, err := json.MarshalIndent(stream.Stream{
		Stream: r.Stream, Metadata: stream.Metadata{LastModified: r.Added.Format(time.RFC3339), Generator: "metalrise"},
		Architectures: map[string]stream.Arch{string(r.Arch): {Artifacts: map[string]stream.PlatformArtifacts{"metal": {Release: r.Version, Formats: formats}}}},
	}, "", "  ")
	if err != nil {
		return Entry{}, err
	}
	r.Digest = releaseOf(r).Digest()
	return s.land(r, entryName(string(r.OS), r.Stream, r.Version, string(r.Arch), r.Digest[:8]), map[string][]byte{metadataName: text})
}

// releaseOf is the release that Load will read from the entry, without paths.
func releaseOf(r Record) Release {
	out := Release{Stream: r.Stream, Version: r.Version, Arch: r.Arch}
	for _, f := range r.Files {
		a := Artifact{SHA256: f.SHA256, UncompressedSHA256: f.Unpacked, Format: f.Format}
		switch f.Role {
		case RoleISO:
			out.ISO = a
		case RoleDisk:
			out.Disk = a
		default:
			if out.PXE == nil {
				out.PXE = &PXE{}
			}
			switch f.Role {
			case RoleKernel:
				out.PXE.Kernel = a
			case RoleInitramfs:
				out.PXE.Initramfs = a
			case RoleRootfs:
				out.PXE.Rootfs = a
			}
		}
	}
	return out
}

// entryName joins words; "rhcos" before the stream "rhcos-4.20" is said once.
func entryName(words ...string) string {
	out := ""
	for _, w := range words {
		if out != "" && strings.HasPrefix(w, out+"-") {
			out = w
			continue
		}
		out = strings.TrimPrefix(out+"-"+w, "-")
	}
	return strings.Map(func(r rune) rune {
		if r == '+' || r == '/' {
			return '_'
		}
		return r
	}, out)
}
