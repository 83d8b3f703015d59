package kube

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"metalrise.dev/fleet"
)

// Plan is the one that the cluster was opened with.
func (c *Cluster) Plan() fleet.Plan { return c.plan }

// ReadObjects reads the objects of YAML documents and puts them into the order
// in which they are applied: none needs a later one.
func ReadObjects(manifests []byte) ([]*unstructured.Unstructured, error) {
	return readManifests(manifests)
}

// NameOf writes kind, namespace and name of an object: "Deployment kubevirt/virt-api".
func NameOf(u *unstructured.Unstructured) string { return nameOf(u) }

// Words makes text of others fit for one line of a terminal.
func Words(s string) string { return words(s) }

// PodTrouble says in words why a pod is not ready, "" when it is. warning is the
// newest of the cluster's warnings about it, or nil.
func PodTrouble(pod *corev1.Pod, warning *corev1.Event) string {
	if ok, _ := podReady(pod); ok {
		return ""
	}
	return podTrouble(pod, warning)
}

// warnings collects what the API says beside an answer.
type warnings struct {
	mu   sync.Mutex
	said []string
}

// HandleWarningHeader is called for each warning; 299 is the only code there is.
func (w *warnings) HandleWarningHeader(_ int, _ string, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if text = words(text); text != "" && !slices.Contains(w.said, text) {
		w.said = append(w.said, text)
	}
}

// Apply sends one object to be applied by the server (field manager
// "metalrise", conflicts decided for us) and returns what it became and the
// API's warnings, such as those of outdated fields. A kind that the API does not
// know is waited for up to 30 s.
func (c *Cluster) Apply(ctx context.Context, u *unstructured.Unstructured) (*unstructured.Unstructured, []string, error) {
	return c.ApplyAs(ctx, Manager, u)
}

// ApplyAs is Apply under another manager's name, for fields of an object that
// somebody else, or another part of metalrise, keeps: what the same manager
// applied before and does not say again, the API takes away.
func (c *Cluster) ApplyAs(ctx context.Context, manager string, u *unstructured.Unstructured) (*unstructured.Unstructured, []string, error) {
	kind := u.GroupVersionKind()
	until := time.Now().Add(appearTimeout)
	for {
		r, ok, err := c.find(ctx, kind)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			return c.applyHeard(ctx, r, manager, u)
		}
		if time.Now().After(until) {
			return nil, nil, fleet.NewFault(fleet.CodeAPIRefused, fleet.Invalid, nil, "the API has no kind %s in %s", kind.Kind, kind.GroupVersion())
		}
		if err := c.pause(ctx, appearPace, "wait for kind "+kind.String()); err != nil {
			return nil, nil, err
		}
	}
}

func (c *Cluster) pause(ctx context.Context, d time.Duration, what string) error {
	select {
	case <-ctx.Done():
		return c.fault(ctx.Err(), what)
	case <-time.After(d):
		return nil
	}
}

func (c *Cluster) applyHeard(ctx context.Context, r metav1.APIResource, manager string, u *unstructured.Unstructured) (*unstructured.Unstructured, []string, error) {
	heard := &warnings{}
	config := rest.CopyConfig(c.config)
	config.WarningHandler = heard
	client, err := dynamic.NewForConfigAndClient(config, c.http)
	if err != nil {
		return nil, nil, err
	}
	u = u.DeepCopy()
	u.SetManagedFields(nil) // the API refuses them in an apply
	u.SetResourceVersion("")
	switch {
	case !r.Namespaced:
		u.SetNamespace("")
	case u.GetNamespace() == "":
		u.SetNamespace(metav1.NamespaceDefault)
	}
	var out *unstructured.Unstructured
	err = c.call(ctx, "apply "+nameOf(u), func(ctx context.Context) error {
		to := client.Resource(u.GroupVersionKind().GroupVersion().WithResource(r.Name)).Namespace(u.GetNamespace())
		var err error
		out, err = to.Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: manager, Force: true})
		return err
	})
	if err != nil {
		return nil, heard.said, err
	}
	return out, heard.said, nil
}

// resourceOf is the way to a kind; ok is false when the API has none.
func (c *Cluster) resourceOf(ctx context.Context, kind schema.GroupVersionKind, namespace string) (to dynamic.ResourceInterface, ok bool, err error) {
	r, ok, err := c.find(ctx, kind)
	if err != nil || !ok {
		return nil, ok, err
	}
	of := c.dynamic.Resource(kind.GroupVersion().WithResource(r.Name))
	if r.Namespaced && namespace != "" {
		return of.Namespace(namespace), true, nil
	}
	return of, true, nil
}

// Object reads one object; (nil, nil) when there is none, or no such kind.
func (c *Cluster) Object(ctx context.Context, kind schema.GroupVersionKind, namespace, name string) (*unstructured.Unstructured, error) {
	to, ok, err := c.resourceOf(ctx, kind, namespace)
	if err != nil || !ok {
		return nil, err
	}
	var out *unstructured.Unstructured
	err = c.call(ctx, "read "+kind.Kind+" "+name, func(ctx context.Context) error {
		u, err := to.Get(ctx, name, metav1.GetOptions{})
		if isGone(err) {
			return nil
		}
		out = u
		return err
	})
	return out, err
}

// Objects lists the objects of a kind in a namespace ("" for all, or none) that
// have the labels of a selector ("" for all). No such kind: none.
func (c *Cluster) Objects(ctx context.Context, kind schema.GroupVersionKind, namespace, selector string) ([]*unstructured.Unstructured, error) {
	to, ok, err := c.resourceOf(ctx, kind, namespace)
	if err != nil || !ok {
		return nil, err
	}
	var out []*unstructured.Unstructured
	err = c.call(ctx, "list "+kind.Kind, func(ctx context.Context) error {
		found, err := to.List(ctx, metav1.ListOptions{LabelSelector: selector})
		if isGone(err) {
			return nil // its definition went a moment ago
		}
		if err != nil {
			return err
		}
		out = nil
		for i := range found.Items {
			out = append(out, &found.Items[i])
		}
		return nil
	})
	return out, err
}

// DeleteObject deletes one object and, in the background, what belongs to it; gone is
// fine, also a kind that is gone.
func (c *Cluster) DeleteObject(ctx context.Context, kind schema.GroupVersionKind, namespace, name string) error {
	to, ok, err := c.resourceOf(ctx, kind, namespace)
	if err != nil || !ok {
		return err
	}
	return c.call(ctx, "delete "+kind.Kind+" "+name, func(ctx context.Context) error {
		background := metav1.DeletePropagationBackground
		err := to.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &background})
		if isGone(err) {
			return nil
		}
		return err
	})
}

// Pods lists the pods of a namespace that have the labels of a selector ("" for all).
func (c *Cluster) Pods(ctx context.Context, namespace, selector string) ([]corev1.Pod, error) {
	return list[corev1.Pod](ctx, c, podsResource, namespace, metav1.ListOptions{LabelSelector: selector})
}

// Warnings lists the events of a namespace that are warnings, oldest first.
func (c *Cluster) Warnings(ctx context.Context, namespace string) ([]corev1.Event, error) {
	all, err := list[corev1.Event](ctx, c, eventsResource, namespace, metav1.ListOptions{FieldSelector: "type=" + corev1.EventTypeWarning})
	slices.SortStableFunc(all, func(a, b corev1.Event) int { return eventTime(&a).Compare(eventTime(&b)) })
	return all, err
}

// Log reads the last lines of a container's output, at most 64 KiB; previous is
// of the container before its last restart. None is "" without an error.
func (c *Cluster) Log(ctx context.Context, namespace, pod, container string, lines int, previous bool) (string, error) {
	const most = 64 << 10
	query := url.Values{"container": {container}, "tailLines": {strconv.Itoa(lines)}, "previous": {strconv.FormatBool(previous)}}
	at := c.server.JoinPath("api/v1/namespaces", namespace, "pods", pod, "log")
	at.RawQuery = query.Encode()
	var out string
	err := c.call(ctx, "read the log of pod "+pod, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
		if err != nil {
			return err
		}
		answer, err := c.http.Do(request)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(io.LimitReader(answer.Body, most))
		if err == nil && answer.StatusCode == http.StatusOK {
			out = strings.ToValidUTF8(string(bytes.TrimSpace(body)), "?")
		}
		return err
	})
	return out, err
}
