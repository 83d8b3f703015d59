// Package images says which operating system image and which software of nodes
// is installed, by digest: it reads what publishers say, fetches and verifies
// files, keeps them in a store, packs them into bundles for places without a
// network, and serves container images from them.
//
// It never picks by luck, never gives out a file that was not hashed, never
// keeps one that nobody vouches for (see Trust), and never looks outside the
// folder of the metadata. Load, Verify and all that serves fetch nothing.
package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/coreos/stream-metadata-go/stream"

	"metalrise.dev/fleet"
)

// Format is how a file is to be read.
type Format string

const (
	FormatISO    Format = "iso"     // a live ISO
	FormatRaw    Format = "raw"     // a disk image as it lies on the disk
	FormatRawZst Format = "raw.zst" // the same, compressed with zstd
	FormatRawGz  Format = "raw.gz"  // gzip
	FormatRawXz  Format = "raw.xz"  // xz
	FormatPXE    Format = "pxe"     // kernel, initramfs or rootfs for a network boot
)

// diskFormats in the order of preference: zstd unpacks about five times as
// fast as xz, which matters when every server unpacks the image itself.
var diskFormats = [...]Format{FormatRawZst, FormatRawGz, FormatRawXz, FormatRaw}

// Arch is a machine architecture as stream metadata names it.
type Arch string

// X86_64 is the architecture that Load takes.
const X86_64 Arch = "x86_64"

// Artifact is one file of a release. The digests are what the publisher
// promises, not what was found: only Verify compares.
type Artifact struct {
	Path               string // absolute
	SHA256             string // of the file, 64 lower-case hexadecimal digits
	UncompressedSHA256 string // of the unpacked content; always there for a disk image
	Size               int64  // bytes of the file as found
	UnpackedBytes      int64  // of a disk image when unpacked; 0 when its file does not say
	Format             Format
}

// PXE is what a network boot needs. Rootfs is empty where the initramfs is the
// whole system, as Flatcar's is.
type PXE struct {
	Kernel, Initramfs, Rootfs Artifact
}

// Release is one version of one stream for one architecture.
type Release struct {
	Stream  string
	Version string
	Arch    Arch
	ISO     Artifact // the live system, of CoreOS layout
	Disk    Artifact // the disk image to install
	PXE     *PXE     // nil if the release has none
}

// Artifacts lists all files of the release by role: "iso", "disk", "kernel",
// "initramfs", "rootfs".
func (r Release) Artifacts() map[string]Artifact {
	all := map[string]Artifact{"iso": r.ISO, "disk": r.Disk}
	if r.PXE != nil {
		all["kernel"], all["initramfs"] = r.PXE.Kernel, r.PXE.Initramfs
		if r.PXE.Rootfs.SHA256 != "" {
			all["rootfs"] = r.PXE.Rootfs
		}
	}
	return all
}

// Digest is the identity of the release for a plan: a sha256 in hexadecimal
// over names, version and promised digests, not over paths, so that a mirror of
// the same release has the same one.
func (r Release) Digest() string {
	type content struct {
		Format       Format `json:"format"`
		SHA256       string `json:"sha256"`
		Uncompressed string `json:"uncompressed,omitempty"`
	}
	files := map[string]content{}
	for role, a := range r.Artifacts() {
		files[role] = content{a.Format, a.SHA256, a.UncompressedSHA256}
	}
	h := sha256.New()
	// Encoding strings and maps of them cannot fail, and map keys are sorted.
	_ = json.NewEncoder(h).Encode([]any{"metalrise release 1", r.Stream, r.Version, r.Arch, files})
	return hex.EncodeToString(h.Sum(nil))
}

// Ref is the release as a plan names it. The size of the unpacked disk is
// known only of an image that is not packed: stream metadata does not give it.
func (r Release) Ref() fleet.ImageRef {
	ref := fleet.ImageRef{Stream: r.Stream, Version: r.Version, ISOSHA256: r.ISO.SHA256, DiskSHA256: r.Disk.UncompressedSHA256}
	ref.DiskBytes = r.Disk.UnpackedBytes
	return ref
}

const (
	metadataName = "stream.json"
	// maxMetadata: Fedora CoreOS' stream metadata for all platforms has about
	// 60 KiB.
	maxMetadata = 4 << 20
)

// Load reads a release for x86_64. ref is a folder with stream.json in it, or
// the path of such a JSON file; the files it names lie in the same folder or
// below. Nothing is verified yet but that they are there.
//
// Errors are faults with code PLAN-017 around an *InvalidError, which has all
// that is wrong at once, or around an error of the file system.
func Load(ctx context.Context, ref string) (Release, error) {
	if err := ctx.Err(); err != nil {
		return Release{}, fmt.Errorf("load image %s: %w", ref, err)
	}
	r, err := load(ref, X86_64)
	if err != nil {
		return Release{}, fleet.NewFault(fleet.CodeImageMissing, fleet.Invalid, err, "load image %s", ref)
	}
	return r, nil
}

func load(ref string, arch Arch) (Release, error) {
	if strings.Contains(ref, "://") {
		return Release{}, &InvalidError{Faults: []Fault{remote("image", ref)}}
	}
	dir, name := ref, metadataName
	st, err := os.Stat(ref)
	if err != nil {
		return Release{}, err
	}
	if !st.IsDir() {
		dir, name = filepath.Split(ref)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return Release{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Release{}, err
	}
	defer root.Close()
	b, err := readMetadata(root, name)
	if err != nil {
		return Release{}, err
	}
	var s stream.Stream
	if err := json.Unmarshal(b, &s); err != nil {
		return Release{}, &InvalidError{Faults: []Fault{{Path: name, Why: "is not stream metadata: " + err.Error(),
			Remedy: "take the stream's JSON file of the publisher, such as https://builds.coreos.fedoraproject.org/streams/stable.json"}}}
	}
	l := loader{root: root, dir: dir}
	r := l.release(s, arch)
	if len(l.faults) > 0 {
		return Release{}, &InvalidError{Faults: l.faults}
	}
	return r, nil
}

func readMetadata(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMetadata+1))
	if err == nil && len(b) > maxMetadata {
		err = fmt.Errorf("%s has more than %d bytes: this is no stream metadata", name, maxMetadata)
	}
	return b, err
}

// loader turns metadata into a release and gathers faults on the way.
type loader struct {
	root   *os.Root
	dir    string
	faults []Fault
}

func (l *loader) fault(path, value, why, remedy string) {
	l.faults = append(l.faults, Fault{Path: path, Value: value, Why: why, Remedy: remedy})
}

// release reads what the bare metal platform has for one architecture.
func (l *loader) release(s stream.Stream, arch Arch) Release {
	r := Release{Stream: s.Stream, Arch: arch}
	if s.Stream == "" {
		l.fault("stream", "", "is missing", "name the stream, such as stable")
	}
	at := "architectures." + string(arch)
	a, ok := s.Architectures[string(arch)]
	if !ok {
		l.fault(at, "", "is missing", "take metadata that has this architecture")
		return r
	}
	at += ".artifacts.metal"
	metal, ok := a.Artifacts["metal"]
	if !ok {
		l.fault(at, "", "is missing", "take metadata that has images for bare metal")
		return r
	}
	if r.Version = metal.Release; r.Version == "" {
		l.fault(at+".release", "", "is missing", "give the version of the images")
	}
	at += ".formats."
	r.ISO = l.artifact(at+"iso.disk", metal.Formats["iso"].Disk, FormatISO)
	r.Disk = l.disk(at, metal.Formats)
	if pxe, ok := metal.Formats["pxe"]; ok {
		r.PXE = &PXE{
			Kernel:    l.artifact(at+"pxe.kernel", pxe.Kernel, FormatPXE),
			Initramfs: l.artifact(at+"pxe.initramfs", pxe.Initramfs, FormatPXE),
		}
		// Flatcar's initramfs is the whole system.
		if pxe.Rootfs != nil || !strings.HasPrefix(s.Stream, string(Flatcar)+"-") {
			r.PXE.Rootfs = l.artifact(at+"pxe.rootfs", pxe.Rootfs, FormatPXE)
		}
	}
	return r
}

// disk takes the first disk image in the order of preference.
func (l *loader) disk(at string, formats map[string]stream.ImageFormat) Artifact {
	for _, f := range diskFormats {
		if has, ok := formats[string(f)]; ok && has.Disk != nil {
			return l.unpacked(at+string(f)+".disk", l.artifact(at+string(f)+".disk", has.Disk, f))
		}
	}
	l.fault(at+"raw.zst.disk", "", "is missing, and so are raw.gz, raw.xz and raw", "add the disk image for bare metal")
	return Artifact{}
}

// unpacked demands the digest that the written disk is compared with. A disk
// image that is not packed has it already.
func (l *loader) unpacked(at string, a Artifact) Artifact {
	switch {
	case a.UncompressedSHA256 != "" || a.SHA256 == "":
	case a.Format == FormatRaw:
		a.UncompressedSHA256 = a.SHA256
	default:
		l.fault(at+".uncompressed-sha256", "", "is missing", "take metadata of a release that has it; what was written to a disk is compared with it")
	}
	return a
}

// artifact checks one entry and finds its file.
func (l *loader) artifact(at string, a *stream.Artifact, format Format) Artifact {
	if a == nil {
		l.fault(at, "", "is missing", "add the file with its location and sha256")
		return Artifact{}
	}
	if !isSHA256(a.Sha256) {
		l.fault(at+".sha256", a.Sha256, "is not 64 lower-case hexadecimal digits", "copy the publisher's sha256; without it nothing can be verified")
	}
	if a.UncompressedSha256 != "" && !isSHA256(a.UncompressedSha256) {
		l.fault(at+".uncompressed-sha256", a.UncompressedSha256, "is not 64 lower-case hexadecimal digits", "copy the publisher's value or leave it out")
	}
	out := Artifact{SHA256: a.Sha256, UncompressedSHA256: a.UncompressedSha256, Format: format}
	at += ".location"
	switch local := filepath.FromSlash(a.Location); {
	case a.Location == "":
		l.fault(at, "", "is missing", "give the file's path relative to the metadata")
	case strings.Contains(a.Location, "://"):
		l.faults = append(l.faults, remote(at, a.Location))
	case !filepath.IsLocal(local):
		l.fault(at, a.Location, "leads out of the folder of the metadata", "put the file beside the metadata and give a relative path")
	default:
		out.Path = filepath.Join(l.dir, local)
		if out.Size = l.find(at, a.Location, local); out.Size > 0 {
			out.UnpackedBytes = l.unpackedSize(local, format, out.Size)
		}
	}
	return out
}

// find gives the size of a file below the folder. os.Root refuses links that
// lead outside.
func (l *loader) find(at, location, local string) int64 {
	st, err := l.root.Stat(local)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		l.fault(at, location, "does not exist", "put the file there, or correct the location")
	case err != nil:
		l.fault(at, location, "cannot be used: "+err.Error(), "make it a file inside the folder of the metadata")
	case !st.Mode().IsRegular():
		l.fault(at, location, "is not a regular file", "put the file there, or correct the location")
	case st.Size() == 0:
		l.fault(at, location, "is empty", "fetch the file again")
	default:
		return st.Size()
	}
	return 0
}

func isSHA256(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && strings.ToLower(s) == s
}
