package kube

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// fakeAPI keeps objects by path and answers as the API does, as far as we ask.
// It knows no schema, no selectors but a name, and merges what is applied.
type fakeAPI struct {
	*httptest.Server
	mu       sync.Mutex
	version  int
	objects  map[string]map[string]any // by path: "/api/v1/nodes/a"
	watchers map[chan [2]any]string    // events of what lies under a path
	broken   func(r *http.Request) (status int, message string)
	command  func(pod string, command []string) (out, trouble string, code int)
}

func newFakeAPI(t *testing.T) (*fakeAPI, *Cluster) {
	t.Helper()
	f := &fakeAPI{objects: map[string]map[string]any{}, watchers: map[chan [2]any]string{}}
	f.Server = httptest.NewUnstartedServer(f)
	f.EnableHTTP2 = true
	f.StartTLS()
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	c, err := Connect(f.kubeconfig(t), apiPlan())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return f, c
}

// kubeconfig is of an administrator with a certificate that nobody checks.
func (f *fakeAPI) kubeconfig(t testing.TB) []byte {
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
	return apiKubeconfig(t, f.URL, ca)
}

func apiKubeconfig(t testing.TB, server string, ca []byte) []byte {
	cert, key := apiSelfSigned(t, "admin")
	b := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, "apiVersion: v1\nkind: Config\nclusters: [{name: kubernetes, cluster: {server: %q, certificate-authority-data: %s}}]\n"+
		"users: [{name: kubernetes-admin, user: {client-certificate-data: %s, client-key-data: %s}}]\n"+
		"contexts: [{name: a@k, context: {cluster: kubernetes, user: kubernetes-admin}}]\ncurrent-context: a@k\n", server, b(ca), b(cert), b(key))
}

func (f *fakeAPI) put(path string, o map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.putLocked(path, o)
}

func (f *fakeAPI) putLocked(path string, o map[string]any) map[string]any {
	f.version++
	kind := "ADDED"
	if f.objects[path] != nil {
		kind = "MODIFIED"
	}
	o = merged(o, map[string]any{"metadata": map[string]any{"resourceVersion": strconv.Itoa(f.version), "name": path[strings.LastIndex(path, "/")+1:]}})
	meta := o["metadata"].(map[string]any)
	if meta["uid"] == nil {
		meta["uid"] = "uid-" + meta["name"].(string)
	}
	f.objects[path] = o
	f.tell(kind, path, o)
	return o
}

func (f *fakeAPI) tell(kind, path string, o map[string]any) {
	for w, under := range f.watchers {
		if strings.HasPrefix(path, under+"/") {
			w <- [2]any{kind, o}
		}
	}
}

func (f *fakeAPI) get(path string) map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.objects[path]
}

func merged(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range b {
		sub, ok := v.(map[string]any)
		have, _ := out[k].(map[string]any)
		switch {
		case v == nil:
			delete(out, k)
		case ok:
			out[k] = merged(have, sub)
		default:
			out[k] = v
		}
	}
	return out
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	reason := map[int]string{404: "NotFound", 409: "Conflict", 429: "TooManyRequests", 403: "Forbidden"}[status]
	json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": status})
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	broken := f.broken
	f.mu.Unlock()
	if broken != nil {
		if status, message := broken(r); status != 0 {
			refuse(w, status, message)
			return
		}
	}
	path := r.URL.Path
	switch {
	case path == "/readyz":
		fmt.Fprint(w, "ok")
		return
	case strings.HasSuffix(path, "/exec"):
		f.exec(w, r)
		return
	case r.Method == http.MethodGet && r.URL.Query().Get("watch") != "":
		f.watch(w, r)
		return
	}
	var body map[string]any
	if r.Body != nil {
		json.NewDecoder(r.Body).Decode(&body)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, sub := range []string{"/approval", "/status", "/eviction"} {
		path = strings.TrimSuffix(path, sub)
	}
	have := f.objects[path]
	var answer map[string]any
	switch {
	case r.Method == http.MethodGet && have == nil && isList(path):
		answer = f.listLocked(path, r.URL.Query().Get("fieldSelector"))
	case strings.HasSuffix(r.URL.Path, "/eviction"), r.Method == http.MethodDelete && have != nil:
		delete(f.objects, path)
		f.version++
		gone := merged(have, map[string]any{"metadata": map[string]any{"resourceVersion": strconv.Itoa(f.version)}})
		f.tell("DELETED", path, gone)
		answer = map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Success"}
	case r.Method == http.MethodPost:
		path += "/" + body["metadata"].(map[string]any)["name"].(string)
		if f.objects[path] != nil {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(409)
			json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "AlreadyExists", "code": 409})
			return
		}
		answer = f.putLocked(path, body)
	case have == nil && !(r.Method == http.MethodPatch && strings.Contains(r.Header.Get("Content-Type"), "apply")):
		refuse(w, 404, path+" not found")
		return
	case r.Method == http.MethodGet:
		answer = have
	case r.Method == http.MethodPut:
		answer = f.putLocked(path, body)
	case r.Method == http.MethodPatch:
		if v, _ := body["metadata"].(map[string]any)["resourceVersion"].(string); v != "" && v != have["metadata"].(map[string]any)["resourceVersion"] {
			refuse(w, 409, "the object has been modified")
			return
		}
		answer = f.putLocked(path, merged(have, body))
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(answer)
}

// isList tells paths of resources from those of objects.
func isList(path string) bool {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if i := slices.Index(parts, "namespaces"); i >= 0 {
		return len(parts) == i+3
	}
	return parts[0] == "api" && len(parts) == 3 || parts[0] == "apis" && len(parts) == 4
}

func (f *fakeAPI) listLocked(path, selector string) map[string]any {
	items := []any{}
	for _, p := range slices.Sorted(maps.Keys(f.objects)) {
		name, named := strings.CutPrefix(selector, "metadata.name=")
		inside := strings.HasPrefix(p, path+"/") || strings.HasSuffix(path, "/v1/pods") && strings.Contains(p, "/pods/")
		if inside && (!named || strings.HasSuffix(p, "/"+name)) {
			items = append(items, f.objects[p])
		}
	}
	return map[string]any{"kind": "List", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": strconv.Itoa(f.version)}, "items": items}
}

// watch tells what changes from now on; what changed since the list is told
// again by version.
func (f *fakeAPI) watch(w http.ResponseWriter, r *http.Request) {
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	events := make(chan [2]any, 1000)
	f.mu.Lock()
	under := r.URL.Path
	for p, o := range f.objects {
		if v, _ := strconv.Atoi(o["metadata"].(map[string]any)["resourceVersion"].(string)); v > from && strings.HasPrefix(p, under+"/") {
			events <- [2]any{"MODIFIED", o}
		}
	}
	f.watchers[events] = under
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.watchers, events)
		f.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case e := <-events:
			if e[0] == "CLOSE" {
				return
			}
			json.NewEncoder(w).Encode(map[string]any{"type": e[0], "object": e[1]})
			w.(http.Flusher).Flush()
		}
	}
}

// everyWatch sends one event to every watch.
func (f *fakeAPI) everyWatch(kind string, o map[string]any) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.watchers {
		w <- [2]any{kind, o}
	}
	return len(f.watchers)
}

// exec speaks v5.channel.k8s.io: one byte names the channel (1 output, 2
// errors, 3 the final status).
func (f *fakeAPI) exec(w http.ResponseWriter, r *http.Request) {
	upgrade := websocket.Upgrader{Subprotocols: []string{"v5.channel.k8s.io"}}
	conn, err := upgrade.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	parts := strings.Split(r.URL.Path, "/")
	out, trouble, code := f.command(parts[len(parts)-2], r.URL.Query()["command"])
	status := `{"kind":"Status","status":"Success"}`
	if code != 0 {
		status = fmt.Sprintf(`{"kind":"Status","status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"%d"}]}}`, code)
	}
	for channel, text := range map[byte]string{1: out, 2: trouble} {
		conn.WriteMessage(websocket.BinaryMessage, append([]byte{channel}, text...))
	}
	conn.WriteMessage(websocket.BinaryMessage, append([]byte{3}, status...))
	conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(time.Second))
	conn.ReadMessage()
}

// etcdPods puts ready pods of etcd onto nodes.
func (f *fakeAPI) etcdPods(nodes ...string) {
	for _, n := range nodes {
		f.put("/api/v1/namespaces/kube-system/pods/etcd-"+n, map[string]any{"apiVersion": "v1", "kind": "Pod",
			"metadata": map[string]any{"namespace": "kube-system", "labels": map[string]any{"component": "etcd", "tier": "control-plane"}},
			"spec":     map[string]any{"nodeName": n},
			"status":   map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}})
	}
}
