package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"

	"metalrise.dev/fleet"
)

// Wish says which release is wanted.
type Wish struct {
	OS     OS
	Stream string // "stable"; of RHCOS and SCOS the OpenShift release: "4.20"
	// Version pins one; empty is the newest of the stream.
	Version string
	Arch    Arch
	// Metadata is a document to take instead of the publisher's, a URL or a file;
	// for Flatcar the URL or path of the folder with version.txt.
	Metadata string
}

// metadataURL is where the publisher keeps the document.
func (w Wish) metadataURL() (string, error) {
	if !isWord(w.Stream, 64, "") {
		return "", fmt.Errorf("stream %.80q: want a name such as stable or 4.20", w.Stream)
	}
	if w.Version != "" && !isWord(w.Version, 64, "+") {
		return "", fmt.Errorf("version %.80q: want letters, digits and . _ - +", w.Version)
	}
	if w.Metadata != "" {
		return w.Metadata, nil
	}
	switch w.OS {
	case FedoraCoreOS:
		if w.Version != "" {
			return "https://builds.coreos.fedoraproject.org/prod/streams/" + w.Stream + "/builds/" + w.Version + "/release.json", nil
		}
		return "https://builds.coreos.fedoraproject.org/streams/" + w.Stream + ".json", nil
	case RHCOS, CentOSStreamCoreOS:
		// The installer of a release carries the metadata of the images it boots.
		return "https://raw.githubusercontent.com/openshift/installer/release-" + w.Stream + "/data/data/coreos/" + string(w.OS) + ".json", nil
	case Flatcar:
		board, version := "amd64-usr", "current"
		if w.Arch != X86_64 {
			return "", fmt.Errorf("architecture %s of Flatcar is not supported: choose %s", w.Arch, X86_64)
		}
		if w.Version != "" {
			version = w.Version
		}
		return "https://" + w.Stream + ".release.flatcar-linux.net/" + board + "/" + version, nil
	}
	return "", fmt.Errorf("%.80q is no operating system that is known: choose one of %v", w.OS, OSes())
}

// Offer asks the publisher, or a mirror of it, what there is. Errors are faults
// with code PLAN-017.
func (d Downloader) Offer(ctx context.Context, w Wish) (Offer, error) {
	o, err := d.offer(ctx, w)
	if err == nil && w.Version != "" && o.Version != w.Version {
		err = fmt.Errorf("the metadata is of version %s, not %s: name the file of that version by --metadata", o.Version, w.Version)
	}
	if err != nil {
		return Offer{}, fleet.NewFault(fleet.CodeImageMissing, fleet.Invalid, err, "ask for %s %s", w.OS, w.Stream)
	}
	return o, nil
}

func (d Downloader) offer(ctx context.Context, w Wish) (Offer, error) {
	at, err := w.metadataURL()
	if err != nil {
		return Offer{}, err
	}
	if w.OS == Flatcar {
		return d.flatcar(ctx, w, at)
	}
	text, err := d.small(ctx, at, maxMetadata)
	if err != nil {
		return Offer{}, err
	}
	return ParseStream(text, w.OS, w.Arch)
}

// flatcar reads version.txt, then the checksums of each file. Names of channels
// do not say whose they are, so the stream is called flatcar-CHANNEL.
func (d Downloader) flatcar(ctx context.Context, w Wish, base string) (Offer, error) {
	base = strings.TrimSuffix(base, "/")
	text, err := d.small(ctx, base+"/version.txt", maxFlatcar)
	if err != nil {
		return Offer{}, err
	}
	o := Offer{OS: Flatcar, Stream: "flatcar-" + w.Stream, Arch: w.Arch}
	if o.Version, err = ParseFlatcarVersion(text); err != nil {
		return Offer{}, err
	}
	all := sha256.New()
	all.Write(text)
	// "current" may change between two requests; the folder of the version does not.
	folder := base
	if root, ok := strings.CutSuffix(base, "/current"); ok && w.Metadata == "" {
		folder = root + "/" + url.PathEscape(o.Version)
	}
	for _, f := range flatcarFiles() {
		digests, err := d.small(ctx, folder+"/"+f.name+".DIGESTS", maxFlatcar)
		if err != nil {
			return Offer{}, err
		}
		all.Write(digests)
		sum, err := ParseDigests(digests, f.name)
		if err != nil {
			return Offer{}, err
		}
		at := folder + "/" + f.name
		o.Promises = append(o.Promises, Promise{Role: f.role, Format: f.format, URL: at, Signature: at + ".sig", SHA512: sum})
	}
	o.Metadata = hex.EncodeToString(all.Sum(nil))
	return o, nil
}

// KeyPaths are where an operating system keeps the keys that sign the images of
// os, as patterns of files. Only what the machine's own package manager put
// there is meant: metalrise brings no keys.
func KeyPaths(os OS) []string {
	switch os {
	case FedoraCoreOS:
		return []string{"/etc/pki/rpm-gpg/RPM-GPG-KEY-fedora-*", "/usr/share/distribution-gpg-keys/fedora/RPM-GPG-KEY-fedora-*"}
	case RHCOS:
		return []string{"/etc/pki/rpm-gpg/RPM-GPG-KEY-redhat-release", "/usr/share/distribution-gpg-keys/redhat/RPM-GPG-KEY-redhat*-release"}
	case CentOSStreamCoreOS:
		return []string{"/etc/pki/rpm-gpg/RPM-GPG-KEY-centosofficial*", "/usr/share/distribution-gpg-keys/centos/RPM-GPG-KEY-CentOS-Official*"}
	}
	return nil
}

func hexSHA256(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}
