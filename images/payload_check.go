package images

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// Bounds of a payload. The whole of Kubernetes with KubeVirt is some 40 files
// and 30 archives; the largest archives have a few GiB.
const (
	maxEntries      = 1024
	maxReferences   = 64
	maxBlob         = 64 << 30
	maxTotal        = 1 << 40
	maxManifestText = 16 << 20 // KubeVirt's has half a MiB
	maxPathLength   = 255
)

// ParsePayload reads the text of payload.json: at most 1 MiB, no unknown
// fields, nothing behind it. Errors are *InvalidError with all faults at once,
// or say why it is not JSON.
func ParsePayload(text []byte) (fleet.Payload, error) {
	if len(text) > maxPayload {
		return fleet.Payload{}, fmt.Errorf("%s has more than %d bytes", payloadName, maxPayload)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var p fleet.Payload
	if err := dec.Decode(&p); err != nil {
		return fleet.Payload{}, &InvalidError{Faults: []Fault{{Path: payloadName, Why: "cannot be read: " + err.Error(), Remedy: "take the folder again from where it came, or a metalrise as new as what wrote it"}}}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fleet.Payload{}, &InvalidError{Faults: []Fault{{Path: payloadName, Why: "goes on behind its end", Remedy: "take the folder again from where it came"}}}
	}
	if err := CheckPayload(p); err != nil {
		return fleet.Payload{}, err
	}
	return p, nil
}

// CheckPayload tells everything that is wrong with a payload's value: versions,
// digests, sizes, duplicates, and files that would lie where they must not. The
// error is an *InvalidError.
func CheckPayload(p fleet.Payload) error {
	c := payloadChecker{sizes: map[string]int64{}}
	c.head(p)
	c.files(p.Files)
	c.images(p.Images)
	c.manifests(p.Manifests)
	if c.total > maxTotal {
		c.fault("files", fmt.Sprint(c.total), "and images are more than a TiB in all", "leave out what nodes do not need")
	}
	if len(c.faults) > 0 {
		return &InvalidError{Faults: c.faults}
	}
	return nil
}

type payloadChecker struct {
	faults []Fault
	sizes  map[string]int64 // by digest
	total  int64
}

func (c *payloadChecker) fault(at, value, why, remedy string) {
	c.faults = append(c.faults, Fault{Path: at, Value: value, Why: why, Remedy: remedy})
}

func (c *payloadChecker) head(p fleet.Payload) {
	if p.APIVersion != fleet.PayloadVersion {
		c.fault("apiVersion", p.APIVersion, "is not "+fleet.PayloadVersion, "take a payload for this metalrise")
	}
	if p.Flavour == "" {
		c.fault("flavour", "", "is missing", "say what the software brings up, such as kubeadm")
	}
	if !isRelease(p.Version) {
		c.fault("version", p.Version, "is no version of Kubernetes", "write it like v1.34.4")
	}
	if !isWord(p.Architecture, 32, "") {
		c.fault("architecture", p.Architecture, "is no kind of processor", "write it like x86_64")
	}
	if len(p.Files) == 0 {
		c.fault("files", "", "is empty", "list the programs that nodes need")
	}
	if n := max(len(p.Files), len(p.Images), len(p.Manifests)); n > maxEntries {
		c.fault("files", fmt.Sprint(n), fmt.Sprintf("or images or manifests has more than %d entries", maxEntries), "join files into archives")
	}
}

// content checks a digest and a size; equal contents have one size.
func (c *payloadChecker) content(at, digest string, size int64) {
	if !isSHA256(digest) {
		c.fault(at+".sha256", digest, "is not 64 lower-case hexadecimal digits", "give the sha256 of the content")
		return
	}
	if size <= 0 || size > maxBlob {
		c.fault(at+".bytes", fmt.Sprint(size), fmt.Sprintf("is not between 1 and %d", int64(maxBlob)), "give the size of the content")
		return
	}
	known, twice := c.sizes[digest]
	if twice && known != size {
		c.fault(at+".bytes", fmt.Sprint(size), fmt.Sprintf("differs from the %d bytes given for the same sha256 before", known), "correct one of the two")
	}
	if !twice {
		c.sizes[digest] = size
		c.total += size
	}
}

func (c *payloadChecker) files(files []fleet.PayloadFile) {
	names, paths, contents := map[string]int{}, map[string]int{}, map[string]bool{}
	for i, f := range files[:min(len(files), maxEntries)] {
		at := fmt.Sprintf("files[%d]", i)
		c.once(names, at+".name", f.Name, i)
		c.once(paths, at+".path", f.Path, i)
		if !isWord(f.Name, 64, "/") {
			c.fault(at+".name", f.Name, "is not made of 1 to 64 letters, digits and . _ - /", "give the file a short name")
		}
		if why := badPath(f.Path); why != "" {
			c.fault(at+".path", f.Path, why, "use a path below "+strings.Join(payloadRoots(), " or "))
		}
		if f.Mode == 0 || f.Mode > 0o777 || f.Mode&0o022 != 0 {
			c.fault(at+".mode", fmt.Sprintf("%04o", f.Mode), "lets nobody read, others write, or more than permissions", "use 493 (0755) for programs, 420 (0644) for other files")
		}
		if f.Target == "" {
			contents[f.Path] = true
			c.content(at, f.Digest, f.Bytes)
		} else if f.Digest != "" || f.Bytes != 0 {
			c.fault(at, f.Path, "is a link and has a content too", "leave out sha256 and bytes, or target")
		}
	}
	for i, f := range files[:min(len(files), maxEntries)] {
		at := fmt.Sprintf("files[%d]", i)
		// A link to something else could lead anywhere on the node.
		if f.Target != "" && !contents[f.Target] {
			c.fault(at+".target", f.Target, "is not the path of a listed file with a content", "let the link lead to such a file")
		}
		for dir := path.Dir(f.Path); len(dir) > 1; dir = path.Dir(dir) {
			if j, ok := paths[dir]; ok {
				c.fault(at+".path", f.Path, fmt.Sprintf("lies below files[%d], which is no folder", j), "change one of the two paths")
			}
		}
	}
}

func (c *payloadChecker) images(images []fleet.PayloadImage) {
	names, references := map[string]int{}, map[string]int{}
	for i, m := range images[:min(len(images), maxEntries)] {
		at := fmt.Sprintf("images[%d]", i)
		c.once(names, at+".name", m.Name, i)
		if !isWord(m.Name, 64, "/") {
			c.fault(at+".name", m.Name, "is not made of 1 to 64 letters, digits and . _ - /", "give the archive a short name")
		}
		c.content(at, m.Digest, m.Bytes)
		if len(m.References) == 0 || len(m.References) > maxReferences {
			c.fault(at+".references", fmt.Sprint(len(m.References)), fmt.Sprintf("is not a list of 1 to %d names", maxReferences), "list what the images are called in the archive")
		}
		for j, r := range m.References[:min(len(m.References), maxReferences)] {
			where := fmt.Sprintf("%s.references[%d]", at, j)
			c.once(references, where, r, i)
			if !isWord(r, maxPathLength, "/:@") {
				c.fault(where, r, "is no name of a container image", "write it like registry.k8s.io/etcd:3.6.5-0")
			}
		}
		for j, r := range m.Roles {
			if r != fleet.ControlPlane && r != fleet.Worker && r != fleet.SingleNode {
				c.fault(fmt.Sprintf("%s.roles[%d]", at, j), string(r), "is no role of a node", "use control-plane, worker or single-node, or leave roles out")
			}
		}
	}
}

// manifests are read whole and sent to the API, hence the small bound.
func (c *payloadChecker) manifests(manifests []fleet.PayloadManifest) {
	names := map[string]int{}
	for i, m := range manifests[:min(len(manifests), maxEntries)] {
		at := fmt.Sprintf("manifests[%d]", i)
		c.once(names, at+".name", string(m.Component)+" "+m.Name, i)
		for _, word := range []struct{ field, value string }{{"component", string(m.Component)}, {"name", m.Name}, {"version", m.Version}} {
			if !isWord(word.value, 64, "") {
				c.fault(at+"."+word.field, word.value, "is not made of 1 to 64 letters, digits and . _ -", "give a short "+word.field)
			}
		}
		c.content(at, m.Digest, m.Bytes)
		if m.Bytes > maxManifestText {
			c.fault(at+".bytes", fmt.Sprint(m.Bytes), fmt.Sprintf("is more than %d, too much for a list of objects", maxManifestText), "split the manifest")
		}
	}
}

// once reports a value that was there before.
func (c *payloadChecker) once(seen map[string]int, at, value string, i int) {
	if j, ok := seen[value]; ok {
		c.fault(at, value, fmt.Sprintf("is also in entry %d", j), "remove one of the two")
		return
	}
	seen[value] = i
}

// payloadRoots are the folders of a node where its software may lie: the parts
// of an image-based system that are written to and not taken by the system
// itself. A payload that wrote elsewhere could change the host.
func payloadRoots() []string { return []string{"/opt/", "/etc/metalrise/", "/var/lib/metalrise/"} }

// badPath tells why a file may not lie at a path.
func badPath(p string) string {
	switch {
	case !isWord(strings.TrimPrefix(p, "/"), maxPathLength, "/"): // also no backslash, blank or control byte
		return "is not made of letters, digits and . _ - /"
	case !path.IsAbs(p) || path.Clean(p) != p:
		return "is not absolute, or not in its shortest form"
	case !slices.ContainsFunc(payloadRoots(), func(root string) bool { return strings.HasPrefix(p, root) }):
		return "lies where no software of nodes belongs"
	}
	return ""
}

// isWord tells whether s has 1 to limit letters, digits, dots, underscores,
// hyphens, and the extra ones, and begins with a letter, digit or underscore.
func isWord(s string, limit int, extra string) bool {
	if s == "" || len(s) > limit || strings.ContainsAny(s[:1], ".-"+extra) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._-", r):
			return false
		}
		return !strings.ContainsRune(extra, r)
	})
}

// isRelease takes "v1.34.4" and "v1.35.0-rc.1": three numbers, and at most one
// suffix (Semantic Versioning 2.0.0 with a leading v, as Kubernetes writes it).
func isRelease(s string) bool {
	core, suffix, has := strings.Cut(strings.TrimPrefix(s, "v"), "-")
	parts := strings.Split(core, ".")
	if !strings.HasPrefix(s, "v") || len(parts) != 3 || has && !isWord(suffix, 32, "") {
		return false
	}
	return !slices.ContainsFunc(parts, func(n string) bool {
		return n == "" || len(n) > 4 || strings.Trim(n, "0123456789") != "" || len(n) > 1 && n[0] == '0'
	})
}
