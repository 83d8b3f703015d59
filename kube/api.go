package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/connrotation"
	"sigs.k8s.io/yaml"

	"metalrise.dev/fleet"
)

// Manager is the field manager of all we apply, and the value of OwnerLabel.
const Manager = "metalrise"

// OwnerLabel marks the objects that are ours alone.
const OwnerLabel = "app.kubernetes.io/managed-by"

const (
	callTimeout = 15 * time.Second // one request and its answer; a fail-over of the virtual address takes 3 to 5 s
	dialTimeout = 5 * time.Second
	maxAnswer   = 1 << 20 // of what is read by hand: health, lists of resources
)

// The resources that are used by name.
var (
	nodesResource       = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	podsResource        = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	secretsResource     = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	configsResource     = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	eventsResource      = schema.GroupVersionResource{Version: "v1", Resource: "events"}
	deploymentsResource = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	requestsResource    = schema.GroupVersionResource{Group: "certificates.k8s.io", Version: "v1", Resource: "certificatesigningrequests"}
	leasesResource      = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
	bindingsResource    = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"}
)

// Cluster is the API of one cluster, for the nodes of one plan. It may be used
// by several goroutines. It keeps no state of the cluster: an API that goes away
// and comes back needs no new one.
type Cluster struct {
	plan     fleet.Plan
	server   *url.URL
	login    credentials
	config   *rest.Config
	http     *http.Client
	dynamic  dynamic.Interface
	dialer   *connrotation.Dialer
	resource resourceNames
}

// credentials are the parts of a kubeconfig that are used, in PEM.
type credentials struct{ ca, cert, key []byte }

// Connect reads the administrator's kubeconfig. It says nothing to the API yet.
//
// The file came from a node, so it is not trusted to name a program or a file
// of this computer: a login other than a certificate and key inside of it, a
// proxy, or a server without TLS is refused.
func Connect(kubeconfig []byte, p fleet.Plan) (*Cluster, error) {
	server, login, err := readKubeconfig(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the cluster's kubeconfig: %w", err)
	}
	dialer := connrotation.NewDialer((&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext)
	config := &rest.Config{
		Host:            server.String(),
		TLSClientConfig: rest.TLSClientConfig{CAData: login.ca, CertData: login.cert, KeyData: login.key},
		UserAgent:       Manager,
		QPS:             100, Burst: 200, // the walkers bound themselves
		Dial:           dialer.DialContext,
		WarningHandler: rest.NoWarnings{},
		Proxy:          func(*http.Request) (*url.URL, error) { return nil, nil }, // a site's API is never behind the environment's proxy
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("read the cluster's kubeconfig: %w", err)
	}
	dyn, err := dynamic.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("read the cluster's kubeconfig: %w", err)
	}
	return &Cluster{plan: p, server: server, login: login, config: config, http: client, dynamic: dyn, dialer: dialer}, nil
}

// Close ends every connection. Calls after it open new ones.
func (c *Cluster) Close() {
	c.dialer.CloseAll()
	c.http.CloseIdleConnections()
}

// Endpoint is the API's address: "https://10.0.1.20:6443".
func (c *Cluster) Endpoint() string { return c.server.String() }

// kubeconfigFile holds the fields that are read; all others of a login are
// listed so that their presence is seen.
type kubeconfigFile struct {
	CurrentContext string `json:"current-context"`
	Clusters       []struct {
		Name    string `json:"name"`
		Cluster struct {
			Server   string `json:"server"`
			CA       string `json:"certificate-authority-data"`
			CAFile   string `json:"certificate-authority"`
			Insecure bool   `json:"insecure-skip-tls-verify"`
			Proxy    string `json:"proxy-url"`
			TLSName  string `json:"tls-server-name"`
		} `json:"cluster"`
	} `json:"clusters"`
	Contexts []struct {
		Name    string `json:"name"`
		Context struct {
			Cluster string `json:"cluster"`
			User    string `json:"user"`
		} `json:"context"`
	} `json:"contexts"`
	Users []struct {
		Name string            `json:"name"`
		User map[string]string `json:"user"` // anything but text (exec, auth-provider) fails to be read
	} `json:"users"`
}

func readKubeconfig(b []byte) (*url.URL, credentials, error) {
	var none credentials
	if len(b) > maxAnswer {
		return nil, none, fmt.Errorf("it has %d bytes, more than %d", len(b), maxAnswer)
	}
	var f kubeconfigFile
	if err := yaml.Unmarshal(b, &f); err != nil {
		return nil, none, errors.New("it is no kubeconfig with a certificate and key inside") // the parser's words may quote the key
	}
	if len(f.Clusters) != 1 || len(f.Users) != 1 || len(f.Contexts) != 1 {
		return nil, none, fmt.Errorf("it has %d clusters, %d users and %d contexts, want one of each", len(f.Clusters), len(f.Users), len(f.Contexts))
	}
	cluster, user := f.Clusters[0].Cluster, f.Users[0].User
	server, err := url.Parse(cluster.Server)
	if err != nil || server.Scheme != "https" || server.Host == "" || server.User != nil || server.RawQuery != "" {
		return nil, none, fmt.Errorf("server %q is no https address", cluster.Server)
	}
	if cluster.Insecure || cluster.CAFile != "" || cluster.Proxy != "" || cluster.TLSName != "" {
		return nil, none, errors.New("its cluster has a field other than server and certificate-authority-data")
	}
	for k := range user {
		if k != "client-certificate-data" && k != "client-key-data" {
			return nil, none, fmt.Errorf("its user has a field %q; only client-certificate-data and client-key-data are used", k)
		}
	}
	var login credentials
	for _, part := range []struct {
		name, text string
		to         *[]byte
	}{
		{"certificate-authority-data", cluster.CA, &login.ca},
		{"client-certificate-data", user["client-certificate-data"], &login.cert},
		{"client-key-data", user["client-key-data"], &login.key},
	} {
		if *part.to, err = base64.StdEncoding.DecodeString(part.text); err != nil || len(*part.to) == 0 {
			return nil, none, fmt.Errorf("its %s is missing or not base64", part.name)
		}
	}
	if _, err := tls.X509KeyPair(login.cert, login.key); err != nil {
		return nil, none, errors.New("its client certificate and key do not belong together")
	}
	return server, login, nil
}

// Reachable asks the API whether it can do its work. The fault is transient:
// control planes and their address come and go.
func (c *Cluster) Reachable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.ready(ctx)
}

func (c *Cluster) ready(ctx context.Context) error {
	status, body, err := c.read(ctx, "/readyz")
	if err != nil {
		return c.fault(err, "ask the API whether it is ready")
	}
	if status == http.StatusOK {
		return nil
	}
	kind := fleet.Transient
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		kind = fleet.Denied
	}
	var missing []string // "[-]etcd failed: reason withheld"
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "[-]"); ok {
			missing = append(missing, rest)
		}
	}
	return fleet.NewFault(fleet.CodeAPIUnreachable, kind, nil, "the API at %s is not ready (status %d): %s",
		c.Endpoint(), status, words(strings.Join(missing, "; ")))
}

// read gets a path by hand.
func (c *Cluster) read(ctx context.Context, path string) (status int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server.JoinPath(path).String(), nil)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Accept", "application/json, text/plain")
	answer, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	return answer.StatusCode, body, err
}

// call runs one exchange with the API in bounded time and names its fault.
func (c *Cluster) call(ctx context.Context, what string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return c.fault(do(ctx), what)
}

// to converts what the dynamic client gives into a type.
func to[T any](u *unstructured.Unstructured) (*T, error) {
	v := new(T)
	err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, v)
	return v, err
}

// get reads one object; (nil, nil) when there is none.
func get[T any](ctx context.Context, c *Cluster, r schema.GroupVersionResource, namespace, name string) (*T, error) {
	var out *T
	err := c.call(ctx, "read "+r.Resource+" "+name, func(ctx context.Context) error {
		u, err := c.dynamic.Resource(r).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		if isGone(err) {
			return nil
		}
		if err == nil {
			out, err = to[T](u)
		}
		return err
	})
	return out, err
}

// list reads all objects of a resource in a namespace ("" for all, or none).
func list[T any](ctx context.Context, c *Cluster, r schema.GroupVersionResource, namespace string, o metav1.ListOptions) ([]T, error) {
	var out []T
	err := c.call(ctx, "list "+r.Resource, func(ctx context.Context) error {
		found, err := c.dynamic.Resource(r).Namespace(namespace).List(ctx, o)
		if err != nil {
			return err
		}
		for i := range found.Items {
			v, err := to[T](&found.Items[i])
			if err != nil {
				return err
			}
			out = append(out, *v)
		}
		return nil
	})
	return out, err
}

// remove deletes one object; gone is fine.
func (c *Cluster) remove(ctx context.Context, r schema.GroupVersionResource, namespace, name string) error {
	return c.call(ctx, "delete "+r.Resource+" "+name, func(ctx context.Context) error {
		if err := c.dynamic.Resource(r).Namespace(namespace).Delete(ctx, name, metav1.DeleteOptions{}); !isGone(err) {
			return err
		}
		return nil
	})
}

// resourceNames remembers which resource a kind of object is.
type resourceNames struct {
	mu    sync.Mutex
	known map[schema.GroupVersionKind]metav1.APIResource
}

// find asks the API for the resource of a kind. ok is false when there is none
// (yet: custom ones appear a moment after their definition).
func (c *Cluster) find(ctx context.Context, k schema.GroupVersionKind) (r metav1.APIResource, ok bool, err error) {
	n := &c.resource
	n.mu.Lock()
	defer n.mu.Unlock()
	if r, ok = n.known[k]; ok {
		return r, true, nil
	}
	path := "/apis/" + k.Group + "/" + k.Version
	if k.Group == "" {
		path = "/api/" + k.Version
	}
	err = c.call(ctx, "ask for the resources of "+k.GroupVersion().String(), func(ctx context.Context) error {
		status, body, err := c.read(ctx, path)
		switch {
		case err != nil:
			return err
		case status == http.StatusNotFound:
			return nil
		case status != http.StatusOK:
			return fmt.Errorf("status %d: %s", status, words(string(body)))
		}
		var list metav1.APIResourceList
		if err := json.NewDecoder(bytes.NewReader(body)).Decode(&list); err != nil {
			return err
		}
		for _, one := range list.APIResources {
			if one.Kind == k.Kind && !strings.Contains(one.Name, "/") {
				r, ok = one, true
			}
		}
		return nil
	})
	if ok {
		if n.known == nil {
			n.known = map[schema.GroupVersionKind]metav1.APIResource{}
		}
		n.known[k] = r
	}
	return r, ok, err
}

// parsePEM reads the first certificate of PEM text.
func parsePEM(b []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}
