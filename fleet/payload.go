package fleet

import "slices"

// PayloadVersion is the version of payload.json this code writes and reads.
const PayloadVersion = "metalrise.dev/payload/v1"

// Payload is the software of a cluster's nodes, everything by digest: programs
// and container images. On disk it is a folder with payload.json (this value)
// and one file per digest below blobs/. Package images reads and verifies it;
// nothing of it is ever fetched from elsewhere during an install.
type Payload struct {
	APIVersion   string         `json:"apiVersion"`
	Flavour      Flavour        `json:"flavour"`      // what it brings up
	Version      string         `json:"version"`      // of Kubernetes: "v1.34.4"
	Architecture string         `json:"architecture"` // as in facts of images: "x86_64"
	Files        []PayloadFile  `json:"files"`
	Images       []PayloadImage `json:"images"`
	// Manifests are those of the VM platform's components; none where the software
	// is for a cluster alone.
	Manifests []PayloadManifest `json:"manifests,omitempty"`
}

// PayloadFile is one program or other file that lies on nodes.
type PayloadFile struct {
	Name   string `json:"name"` // "kubelet", "cni/bridge"
	Path   string `json:"path"` // absolute, on the node: "/opt/metalrise/bin/kubelet"
	Mode   uint32 `json:"mode"` // permission bits: 493 is 0755
	Digest string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	// Target makes the file a symbolic link to this path; it then has no content.
	Target string `json:"target,omitempty"`
}

// PayloadImage is one archive of container images in a form that containerd
// imports (OCI or docker archive).
type PayloadImage struct {
	Name       string   `json:"name"`       // "etcd", "keepalived"
	References []string `json:"references"` // what it is called in the archive: "registry.k8s.io/etcd:3.6.5-0"
	Digest     string   `json:"sha256"`     // of the archive
	Bytes      int64    `json:"bytes"`
	Roles      []Role   `json:"roles,omitempty"` // nodes that need it; empty: all
	// Component of the VM platform that runs it, where it is one's.
	Component Component `json:"component,omitempty"`
}

// Blob is the path of a content below the payload's folder.
func Blob(sha256 string) string { return "blobs/" + sha256 }

// Image finds an archive by its name.
func (p Payload) Image(name string) (PayloadImage, bool) {
	i := slices.IndexFunc(p.Images, func(v PayloadImage) bool { return v.Name == name })
	if i < 0 {
		return PayloadImage{}, false
	}
	return p.Images[i], true
}

// ManifestsOf lists a component's manifests in the order in which they are
// applied.
func (p Payload) ManifestsOf(c Component) []PayloadManifest {
	var out []PayloadManifest
	for _, m := range p.Manifests {
		if m.Component == c {
			out = append(out, m)
		}
	}
	return out
}

// SizeOf is the size of a component's images: as the software tells, or else the
// catalogue's estimate. It is nil for a component without images.
func (p Payload) SizeOf(e CatalogueEntry) *ComponentSize {
	var s ComponentSize
	for _, i := range p.Images {
		if i.Component == e.Name {
			s.Images, s.Bytes = s.Images+max(1, len(i.References)), s.Bytes+i.Bytes
		}
	}
	switch {
	case s.Images > 0:
		return &s
	case e.Own || e.Images == 0:
		return nil
	}
	return &ComponentSize{Images: e.Images, Bytes: e.Bytes, Estimated: true}
}

// TotalSize adds the sizes of components up.
func TotalSize(all []ComponentPlan) ComponentSize {
	var sum ComponentSize
	for _, c := range all {
		if c.Size != nil {
			sum.Images, sum.Bytes, sum.Estimated = sum.Images+c.Size.Images, sum.Bytes+c.Size.Bytes, sum.Estimated || c.Size.Estimated
		}
	}
	return sum
}

// For tells whether nodes of a role need the image.
func (i PayloadImage) For(r Role) bool { return len(i.Roles) == 0 || slices.Contains(i.Roles, r) }
