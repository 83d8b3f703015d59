package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"

	"metalrise.dev/fleet"
	"metalrise.dev/images"
	"metalrise.dev/kube"
	"metalrise.dev/provision"
)

// nodeImages serves the container images of the nodes' software to the nodes of
// the current plan, as a registry. It opens the archives when somebody asks
// first: most runs need none of them, because nodes import all images.
type nodeImages struct {
	pulls func(fleet.ServerID, string) error // provision.Engine.Pulls
	log   *slog.Logger

	mu       sync.Mutex
	software *images.Payload // nil until it is verified
	set      *images.Containers
	registry http.Handler
}

// serve names the software, which must be verified.
func (n *nodeImages) serve(p *images.Payload) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.software = p
}

// open reads where the images are. A failure is tried again with the next call.
func (n *nodeImages) open(ctx context.Context) (http.Handler, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.registry != nil {
		return n.registry, nil
	}
	if n.software == nil {
		return nil, errNoSoftware
	}
	set, err := n.software.Containers(ctx)
	if err != nil {
		return nil, err
	}
	n.set, n.registry = set, images.NewRegistry(set)
	return n.registry, nil
}

// Close closes the archives.
func (n *nodeImages) Close() error {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.set == nil {
		return nil
	}
	return n.set.Close()
}

func (n *nodeImages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	server, password := pullLogin(r)
	if err := n.pulls(server, password); err != nil {
		if fleet.KindOf(err) != fleet.Denied {
			registryRefusal(w, http.StatusServiceUnavailable, "UNAVAILABLE", "the engine is starting")
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="metalrise"`)
		registryRefusal(w, http.StatusUnauthorized, "UNAUTHORIZED", "only nodes of this site pull images here")
		return
	}
	registry, err := n.open(context.WithoutCancel(r.Context()))
	if err != nil {
		n.log.Error("container images cannot be served", "err", err)
		registryRefusal(w, http.StatusServiceUnavailable, "UNAVAILABLE", "the images cannot be read now")
		return
	}
	n.log.Info("image asked for", "server", server, "path", r.URL.Path, "method", r.Method)
	registry.ServeHTTP(w, r)
}

// pullLogin takes server and password out of a request. A serial may hold colons,
// a password has none.
func pullLogin(r *http.Request) (fleet.ServerID, string) {
	user, password, _ := r.BasicAuth()
	if i := strings.LastIndexByte(password, ':'); i >= 0 {
		user, password = user+":"+password[:i], password[i+1:]
	}
	return fleet.ServerID(user), password
}

// mirrorOf writes a node's login as containerd sends it.
func mirrorOf(m provision.Mirror) kube.Mirror {
	if m.URL == "" {
		return kube.Mirror{}
	}
	return kube.Mirror{URL: m.URL, CA: m.CA, Authorization: "Basic " + base64.StdEncoding.EncodeToString([]byte(m.Login))}
}

// registryRefusal is an error in the form of the OCI distribution specification.
func registryRefusal(w http.ResponseWriter, status int, code, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": text}}})
}
