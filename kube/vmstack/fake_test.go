package vmstack

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

// fakeAPI keeps objects by path, merges what is applied, and lets a test play
// the controllers. It knows no schema; the real API is asked in real_test.go.
type fakeAPI struct {
	*httptest.Server
	mu      sync.Mutex
	objects map[string]map[string]any // by path
	applied []string                  // paths in the order in which they were applied first
	deleted []string
	// control is called after each change of an object and may change its status.
	control func(f *fakeAPI, path string, o map[string]any)
	// refuse may answer a request with an error.
	refuse func(r *http.Request) (status int, message string)
	logs   map[string]string // by pod
}

// kinds that the fake API serves.
var served = map[string][]string{
	"/api/v1":                                {"Namespace", "-namespaces", "ConfigMap", "configmaps", "Pod", "pods", "PersistentVolumeClaim", "persistentvolumeclaims", "Node", "-nodes", "PersistentVolume", "-persistentvolumes", "ServiceAccount", "serviceaccounts"},
	"/apis/apps/v1":                          {"Deployment", "deployments", "DaemonSet", "daemonsets"},
	"/apis/batch/v1":                         {"Job", "jobs"},
	"/apis/apiextensions.k8s.io/v1":          {"CustomResourceDefinition", "-customresourcedefinitions"},
	"/apis/storage.k8s.io/v1":                {"StorageClass", "-storageclasses", "CSIDriver", "-csidrivers", "CSINode", "-csinodes"},
	"/apis/snapshot.storage.k8s.io/v1":       {"VolumeSnapshotClass", "-volumesnapshotclasses"},
	"/apis/kubevirt.io/v1":                   {"KubeVirt", "kubevirts", "VirtualMachine", "virtualmachines", "VirtualMachineInstance", "virtualmachineinstances"},
	"/apis/instancetype.kubevirt.io/v1beta1": {"VirtualMachineClusterInstancetype", "-virtualmachineclusterinstancetypes", "VirtualMachineClusterPreference", "-virtualmachineclusterpreferences"},
	"/apis/snapshot.kubevirt.io/v1beta1":     {"VirtualMachineSnapshot", "virtualmachinesnapshots"},
	"/apis/whereabouts.cni.cncf.io/v1alpha1": {"IPPool", "ippools"},
	"/apis/k8s.cni.cncf.io/v1":               {"NetworkAttachmentDefinition", "network-attachment-definitions"},
	"/apis/cdi.kubevirt.io/v1beta1":          {"CDI", "-cdis", "StorageProfile", "-storageprofiles", "DataVolume", "datavolumes"},
	"/apis/example.com/v1":                   {"Thing", "things"},
}

func newFakeAPI(t *testing.T, p fleet.Plan) (*fakeAPI, *kube.Cluster) {
	t.Helper()
	f := &fakeAPI{objects: map[string]map[string]any{}, logs: map[string]string{}}
	f.Server = httptest.NewTLSServer(f)
	t.Cleanup(func() { f.CloseClientConnections(); f.Close() })
	c, err := kube.Connect(kubeconfig(t, f.URL, f.Certificate().Raw), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return f, c
}

func kubeconfig(t *testing.T, server string, ca []byte) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "admin"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return fmt.Appendf(nil, "clusters: [{name: k, cluster: {server: %q, certificate-authority-data: %s}}]\nusers: [{name: a, user: {client-certificate-data: %s, client-key-data: %s}}]\n"+
		"contexts: [{name: c, context: {cluster: k, user: a}}]\n", server, b("CERTIFICATE", ca), b("CERTIFICATE", cert), b("PRIVATE KEY", private))
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	path := r.URL.Path
	if f.refuse != nil {
		if status, message := f.refuse(r); status != 0 {
			answer(w, status, message)
			return
		}
	}
	switch names, discovery := served[path], strings.Count(path, "/"); {
	case strings.HasSuffix(path, "/log"):
		parts := strings.Split(path, "/")
		fmt.Fprint(w, f.logs[parts[len(parts)-2]])
	case names != nil:
		var list []any
		for n := 0; n < len(names); n += 2 {
			plural, cluster := strings.CutPrefix(names[n+1], "-")
			list = append(list, map[string]any{"kind": names[n], "name": plural, "namespaced": !cluster})
		}
		json.NewEncoder(w).Encode(map[string]any{"kind": "APIResourceList", "resources": list})
	case discovery < 4 && strings.HasPrefix(path, "/apis/"):
		answer(w, 404, "no such group")
	case r.Method == http.MethodPatch:
		f.apply(w, r)
	case r.Method == http.MethodDelete && f.objects[path] != nil:
		o := f.objects[path]
		delete(f.objects, path)
		f.deleted = append(f.deleted, path)
		json.NewEncoder(w).Encode(o)
	case f.objects[path] != nil:
		json.NewEncoder(w).Encode(f.objects[path])
	case r.Method == http.MethodGet && isList(path):
		json.NewEncoder(w).Encode(map[string]any{"kind": "List", "apiVersion": "v1", "items": f.list(path, r.URL.Query().Get("labelSelector"))})
	default:
		answer(w, 404, path+" not found")
	}
}

func answer(w http.ResponseWriter, status int, message string) {
	w.WriteHeader(status)
	reason := map[int]string{404: "NotFound", 409: "Conflict", 403: "Forbidden", 422: "Invalid", 500: "InternalError"}[status]
	json.NewEncoder(w).Encode(map[string]any{"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": status})
}

func isList(path string) bool {
	for group, names := range served {
		rest, ok := strings.CutPrefix(path, group+"/")
		if !ok {
			continue
		}
		if after, ok := strings.CutPrefix(rest, "namespaces/"); ok {
			_, rest, _ = strings.Cut(after, "/")
		}
		if slices.Contains(names, rest) || slices.Contains(names, "-"+rest) || rest == "events" {
			return true
		}
	}
	return false
}

// list finds the objects below a path, or of a kind in all namespaces.
func (f *fakeAPI) list(path, selector string) []any {
	items := []any{}
	resource := path[strings.LastIndex(path, "/"):]
	group := path[:strings.LastIndex(path, "/")]
	for _, p := range slices.Sorted(maps.Keys(f.objects)) {
		in := strings.HasPrefix(p, path+"/") || strings.HasPrefix(p, group+"/namespaces/") && strings.Contains(p, resource+"/") && !strings.Contains(path, "/namespaces/")
		if in && hasLabel(f.objects[p], selector) {
			items = append(items, f.objects[p])
		}
	}
	return items
}

func hasLabel(o map[string]any, selector string) bool {
	if selector == "" {
		return true
	}
	labels, _ := o["metadata"].(map[string]any)["labels"].(map[string]any)
	key, want, exact := strings.Cut(selector, "=")
	have, ok := labels[key]
	return ok && (!exact || have == want)
}

func (f *fakeAPI) apply(w http.ResponseWriter, r *http.Request) {
	var o map[string]any
	if err := json.NewDecoder(r.Body).Decode(&o); err != nil {
		answer(w, 400, err.Error())
		return
	}
	have := f.objects[r.URL.Path]
	if have == nil {
		f.applied = append(f.applied, r.URL.Path)
	}
	o = merged(have, o)
	meta := o["metadata"].(map[string]any)
	generation, _ := meta["generation"].(float64)
	if have == nil || fmt.Sprint(have["spec"]) != fmt.Sprint(o["spec"]) {
		generation++
	}
	meta["generation"] = generation
	f.objects[r.URL.Path] = o
	if f.control != nil {
		f.control(f, r.URL.Path, o)
	}
	json.NewEncoder(w).Encode(o)
}

// set changes an object from a test.
func (f *fakeAPI) set(path, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setLocked(path, text)
}

func (f *fakeAPI) setLocked(path, text string) {
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		panic(err)
	}
	meta, _ := o["metadata"].(map[string]any)
	o = merged(f.objects[path], merged(o, map[string]any{"metadata": merged(meta, map[string]any{"name": path[strings.LastIndex(path, "/")+1:]})}))
	f.objects[path] = o
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
		if ok {
			out[k] = merged(have, sub)
		} else {
			out[k] = v
		}
	}
	return out
}

// allWell plays controllers that bring everything up at once.
func allWell(f *fakeAPI, path string, o map[string]any) {
	generation := o["metadata"].(map[string]any)["generation"].(float64)
	switch o["kind"] {
	case "Deployment":
		f.setLocked(path, fmt.Sprintf(`{"status":{"observedGeneration":%v,"updatedReplicas":2,"replicas":2,"availableReplicas":2,"readyReplicas":2}}`, generation))
	case "DaemonSet":
		f.setLocked(path, fmt.Sprintf(`{"status":{"observedGeneration":%v,"desiredNumberScheduled":2,"updatedNumberScheduled":2,"numberAvailable":2}}`, generation))
	case "CustomResourceDefinition":
		f.setLocked(path, `{"status":{"conditions":[{"type":"Established","status":"True"},{"type":"NamesAccepted","status":"True"}]}}`)
	case "CDI":
		f.setLocked(path, `{"status":{"phase":"Deployed","conditions":[{"type":"Available","status":"True"},{"type":"Progressing","status":"False"},{"type":"Degraded","status":"False"}]}}`)
	case "KubeVirt":
		f.setLocked(path, fmt.Sprintf(`{"status":{"phase":"Deployed","observedGeneration":%v,"observedKubeVirtVersion":"v1.6.0","conditions":[`+
			`{"type":"Available","status":"True"},{"type":"Progressing","status":"False"},{"type":"Degraded","status":"False"}]}}`, generation))
	}
}
