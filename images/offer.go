package images

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"path"
	"strings"

	relmeta "github.com/coreos/stream-metadata-go/release"
	"github.com/coreos/stream-metadata-go/stream"
)

// OS is a family of operating systems that are published as images.
type OS string

const (
	FedoraCoreOS       OS = "fedora-coreos"
	RHCOS              OS = "rhcos"
	CentOSStreamCoreOS OS = "scos"
	Flatcar            OS = "flatcar"
	// OtherOS is what a person brought along, such as the lab's own image.
	OtherOS OS = "other"
)

// OSes lists the families that can be fetched.
func OSes() []OS { return []OS{FedoraCoreOS, RHCOS, CentOSStreamCoreOS, Flatcar} }

// Role is what a file of a release is for.
type Role string

const (
	RoleISO       Role = "iso"       // the live system
	RoleDisk      Role = "disk"      // what is installed
	RoleKernel    Role = "kernel"    // of a network boot
	RoleInitramfs Role = "initramfs" // of a network boot
	RoleRootfs    Role = "rootfs"    // of a network boot; not every OS has one
)

// FormatRawBz2 is how Flatcar packs its disk image. It is repacked when it
// lands in the store: unpacking it takes a server about ten times as long as zstd.
const FormatRawBz2 Format = "raw.bz2"

// Promise is one file as its publisher describes it: nothing of it is verified.
type Promise struct {
	Role      Role   `json:"role"`
	Format    Format `json:"format"`
	URL       string `json:"url"`                 // http or https, as published: mirrors come later
	Signature string `json:"signature,omitempty"` // URL of the detached OpenPGP signature
	SHA256    string `json:"sha256,omitempty"`    // of the file; one of the two is there
	SHA512    string `json:"sha512,omitempty"`
	Unpacked  string `json:"unpackedSHA256,omitempty"` // of a disk image's content
}

// Name is the last element of the URL's path, checked to be a plain file name.
func (p Promise) Name() string {
	u, err := url.Parse(p.URL)
	if err != nil {
		return ""
	}
	return path.Base(u.Path)
}

// Offer is one version of one stream, as published.
type Offer struct {
	OS       OS        `json:"os"`
	Stream   string    `json:"stream"`
	Version  string    `json:"version"`
	Arch     Arch      `json:"architecture"`
	Promises []Promise `json:"files"`
	Metadata string    `json:"metadataSHA256"` // of the document it was read from
}

// ParseStream reads the stream metadata of Fedora CoreOS, RHCOS or CentOS Stream
// CoreOS, or the release metadata that Fedora CoreOS keeps of each single version, for
// bare metal and one architecture. At most 4 MiB. The error is an *InvalidError.
//
// Formats: coreos/fedora-coreos-tracker, metadata/stream and metadata/release.
func ParseStream(text []byte, os OS, arch Arch) (Offer, error) {
	s, err := decodeStream(text)
	if err != nil {
		return Offer{}, err
	}
	c := &offering{}
	o := Offer{OS: os, Stream: s.Stream, Arch: arch, Metadata: hexSHA256(text)}
	if !isWord(s.Stream, 64, "") {
		c.fault("stream", s.Stream, "is no name of a stream", "take the publisher's own metadata")
	}
	at := "architectures." + string(arch)
	a, ok := s.Architectures[string(arch)]
	if !ok {
		c.fault(at, "", "is missing", "choose an architecture that is published")
		return Offer{}, c.err()
	}
	metal, ok := a.Artifacts["metal"]
	at += ".artifacts.metal"
	if !ok {
		c.fault(at, "", "is missing", "take metadata that has images for bare metal")
		return Offer{}, c.err()
	}
	if o.Version = metal.Release; !isWord(o.Version, 64, "") {
		c.fault(at+".release", o.Version, "is no version", "take the publisher's own metadata")
	}
	o.Promises = c.coreOS(at+".formats.", metal.Formats)
	return o, c.err()
}

// decodeStream takes both documents and gives the first form.
func decodeStream(text []byte) (stream.Stream, error) {
	bad := func(why string) error {
		return &InvalidError{Faults: []Fault{{Path: "metadata", Why: why,
			Remedy: "take the stream's JSON file of the publisher, such as https://builds.coreos.fedoraproject.org/streams/stable.json"}}}
	}
	if len(text) > maxMetadata {
		return stream.Stream{}, bad(fmt.Sprintf("has more than %d bytes", maxMetadata))
	}
	// Release metadata says its release at the top, stream metadata below each
	// platform.
	var kind struct {
		Release string `json:"release"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return stream.Stream{}, bad("is not stream metadata: " + err.Error())
	}
	if kind.Release == "" {
		var s stream.Stream
		if err := json.Unmarshal(text, &s); err != nil {
			return stream.Stream{}, bad("is not stream metadata: " + err.Error())
		}
		return s, nil
	}
	var r relmeta.Release
	if err := json.Unmarshal(text, &r); err != nil {
		return stream.Stream{}, bad("is not release metadata: " + err.Error())
	}
	return stream.Stream{Stream: r.Stream, Metadata: stream.Metadata{LastModified: r.Metadata.LastModified}, Architectures: r.ToStreamArchitectures()}, nil
}

// offering gathers promises and what is wrong with them.
type offering struct{ faults []Fault }

func (c *offering) fault(at, value, why, remedy string) {
	c.faults = append(c.faults, Fault{Path: at, Value: value, Why: why, Remedy: remedy})
}

func (c *offering) err() error {
	if len(c.faults) == 0 {
		return nil
	}
	return &InvalidError{Faults: c.faults}
}

func (c *offering) coreOS(at string, formats map[string]stream.ImageFormat) []Promise {
	var out []Promise
	add := func(where string, a *stream.Artifact, role Role, f Format) {
		if a == nil {
			c.fault(where, "", "is missing", "take metadata of a release that has it")
			return
		}
		out = append(out, c.promise(where, *a, role, f))
	}
	add(at+"iso.disk", formats["iso"].Disk, RoleISO, FormatISO)
	found := false
	for _, f := range diskFormats {
		if has, ok := formats[string(f)]; ok && has.Disk != nil {
			add(at+string(f)+".disk", has.Disk, RoleDisk, f)
			found = true
			break
		}
	}
	if !found {
		c.fault(at+"raw.xz.disk", "", "is missing, and so are raw.gz, raw.zst and raw", "take metadata of a release with a disk image for bare metal")
	}
	if pxe, ok := formats["pxe"]; ok {
		add(at+"pxe.kernel", pxe.Kernel, RoleKernel, FormatPXE)
		add(at+"pxe.initramfs", pxe.Initramfs, RoleInitramfs, FormatPXE)
		add(at+"pxe.rootfs", pxe.Rootfs, RoleRootfs, FormatPXE)
	}
	return out
}

func (c *offering) promise(at string, a stream.Artifact, role Role, f Format) Promise {
	p := Promise{Role: role, Format: f, URL: a.Location, Signature: a.Signature, SHA256: a.Sha256, Unpacked: a.UncompressedSha256}
	if why := badURL(a.Location); why != "" {
		c.fault(at+".location", a.Location, why, "take the publisher's own metadata; files that you have already are taken with `metalrise images import`")
	}
	if why := badURL(a.Signature); a.Signature != "" && why != "" {
		c.fault(at+".signature", a.Signature, why, "take the publisher's own metadata")
	}
	if !isSHA256(a.Sha256) {
		c.fault(at+".sha256", a.Sha256, "is not 64 lower-case hexadecimal digits", "take metadata that has it; without it nothing can be verified")
	}
	if a.UncompressedSha256 != "" && !isSHA256(a.UncompressedSha256) {
		c.fault(at+".uncompressed-sha256", a.UncompressedSha256, "is not 64 lower-case hexadecimal digits", "take the publisher's own metadata")
	}
	return p
}

// badURL tells why a URL of a publisher is not followed. Files of this computer
// cannot be meant by it.
func badURL(s string) string {
	u, err := url.Parse(s)
	switch {
	case s == "":
		return "is missing"
	case len(s) > 2048 || err != nil:
		return "is no URL"
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return "is not an http or https URL"
	case u.User != nil:
		return "carries a login"
	case strings.HasSuffix(u.Path, "/") || !isWord(path.Base(u.Path), maxPathLength, "+~"):
		return "does not end in a plain file name"
	}
	return ""
}

func isSHA512(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 64 && strings.ToLower(s) == s
}
