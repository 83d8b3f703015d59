package images

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"metalrise.dev/fleet"
)

// Registry serves container images to nodes, and takes none: the pull half of the OCI
// distribution specification 1.1. Requests are looked up in maps made when it was
// opened: no path from outside reaches a file.
//
// A container runtime that uses it as a mirror says by the parameter ns whose image it
// wants ("?ns=registry.k8s.io"); without it the registry's name may be the first element
// of the path ("/v2/registry.k8s.io/pause/manifests/3.10.1"), or be left out where only
// one image fits.
type Registry struct {
	set          *Containers
	repositories map[string][]string // by "host/name": tags, sorted
}

// NewRegistry serves a set, which stays the caller's to close.
func NewRegistry(set *Containers) *Registry {
	r := &Registry{set: set, repositories: map[string][]string{}}
	for _, s := range set.Names() {
		if n, err := parseImageName(s); err == nil {
			key := n.host + "/" + n.repository
			r.repositories[key] = append(r.repositories[key], n.tag)
		}
	}
	return r
}

// registryFault is an error in the specification's form.
func registryFault(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": text}}})
}

func (r *Registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if q.Method != http.MethodGet && q.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		registryFault(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "this registry is read-only")
		return
	}
	rest, ok := strings.CutPrefix(q.URL.Path, "/v2/")
	if !ok || len(rest) > 1024 {
		registryFault(w, http.StatusNotFound, "UNSUPPORTED", "not a path of a registry")
		return
	}
	if rest == "" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("{}"))
		return
	}
	parts := strings.Split(rest, "/")
	if len(parts) < 3 {
		registryFault(w, http.StatusNotFound, "NAME_UNKNOWN", "no such image")
		return
	}
	name, what, ref := strings.Join(parts[:len(parts)-2], "/"), parts[len(parts)-2], parts[len(parts)-1]
	repository, ok := r.repository(name, q.URL.Query().Get("ns"))
	if !ok {
		registryFault(w, http.StatusNotFound, "NAME_UNKNOWN", "no such image")
		return
	}
	switch {
	case what == "manifests":
		r.manifest(w, q, repository, ref)
	case what == "blobs":
		r.blob(w, q, ref)
	case what == "tags" && ref == "list":
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"name": name, "tags": r.repositories[repository]})
	default:
		registryFault(w, http.StatusNotFound, "UNSUPPORTED", "not a path of a registry")
	}
}

// repository finds whose image a name means.
func (r *Registry) repository(name, namespace string) (string, bool) {
	if namespace != "" {
		key := namespace + "/" + name
		_, ok := r.repositories[key]
		return key, ok
	}
	if _, ok := r.repositories[name]; ok {
		return name, true
	}
	found := ""
	for key := range r.repositories {
		if _, rest, _ := strings.Cut(key, "/"); rest == name {
			if found != "" {
				return "", false
			}
			found = key
		}
	}
	return found, found != ""
}

func (r *Registry) manifest(w http.ResponseWriter, q *http.Request, repository, ref string) {
	var digest v1.Hash
	if strings.Contains(ref, ":") {
		h, err := v1.NewHash(ref)
		if err != nil {
			registryFault(w, http.StatusBadRequest, "DIGEST_INVALID", "want sha256 and 64 hexadecimal digits")
			return
		}
		digest = h
	} else {
		digest = r.set.names[repository+":"+ref].Digest
	}
	c, ok := r.set.contents[digest]
	if !ok || c.kind == "" {
		registryFault(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "no such manifest")
		return
	}
	r.serve(w, q, digest, c, c.kind)
}

func (r *Registry) blob(w http.ResponseWriter, q *http.Request, ref string) {
	digest, err := v1.NewHash(ref)
	if err != nil {
		registryFault(w, http.StatusBadRequest, "DIGEST_INVALID", "want sha256 and 64 hexadecimal digits")
		return
	}
	c, ok := r.set.contents[digest]
	if !ok {
		registryFault(w, http.StatusNotFound, "BLOB_UNKNOWN", "no such blob")
		return
	}
	r.serve(w, q, digest, c, "application/octet-stream")
}

// serve answers ranges too: a node whose connection broke goes on.
func (r *Registry) serve(w http.ResponseWriter, q *http.Request, digest v1.Hash, c extent, kind types.MediaType) {
	h := w.Header()
	h.Set("Content-Type", string(kind))
	h.Set("Docker-Content-Digest", digest.String())
	h.Set("ETag", `"`+digest.String()+`"`)
	http.ServeContent(w, q, "", time.Time{}, c.open())
}

// Hosts lists the registries whose images are served, sorted: a node's container
// runtime is to ask here for those.
func (r *Registry) Hosts() []string {
	var out []string
	for key := range r.repositories {
		host, _, _ := strings.Cut(key, "/")
		if !slices.Contains(out, host) {
			out = append(out, host)
		}
	}
	slices.Sort(out)
	return out
}

// Containers opens the archives of the payload, which must be verified. Every
// name that payload.json lists must be in its archive. Errors are faults: those of
// Open, and KUBE-004.
func (p *Payload) Containers(ctx context.Context) (*Containers, error) {
	set := newContainers()
	for _, m := range p.value.Images {
		if err := p.addArchive(ctx, set, m); err != nil {
			_ = set.Close()
			return nil, err
		}
	}
	return set, nil
}

func (p *Payload) addArchive(ctx context.Context, set *Containers, m fleet.PayloadImage) error {
	f, _, err := p.Open(m.Digest)
	if err != nil {
		return err
	}
	what := "open the container images " + m.Name + " (" + p.path(m.Digest) + ")"
	if err := set.add(ctx, f); err != nil {
		_ = f.Close()
		return blobError(ctx, err, what)
	}
	for _, r := range m.References {
		n, err := parseImageName(r)
		if err == nil {
			if _, ok := set.names[n.String()]; !ok {
				err = fmt.Errorf("%s is not in the archive", r)
			}
		}
		if err != nil {
			return blobError(ctx, err, what)
		}
	}
	return nil
}
