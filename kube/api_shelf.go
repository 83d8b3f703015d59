package kube

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

// selection is what is listed and watched: one resource, in a namespace or
// everywhere, by a field selector or all.
type selection struct {
	resource  schema.GroupVersionResource
	namespace string
	fields    string
}

// shelf holds a copy of the selected objects, kept fresh by list and watch.
// Objects on it are never changed, only replaced.
type shelf[T any] struct {
	selection
	mu     sync.Mutex
	items  map[string]*T // by namespace/name
	listed bool          // at least once
}

const (
	minBackoff = 200 * time.Millisecond
	maxBackoff = 3 * time.Second // a restarted API is seen within it
	watchTime  = 5 * time.Minute // then the watch goes on where it was
)

// all copies the list, not the objects.
func (s *shelf[T]) all() (items []*T, listed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.items {
		items = append(items, v)
	}
	return items, s.listed
}

// follow lists and watches until ctx ends. changed is called after each change,
// lost with each error.
func (s *shelf[T]) follow(ctx context.Context, c *Cluster, changed func(), lost func(error)) {
	backoff := minBackoff
	for ctx.Err() == nil {
		version, err := s.list(ctx, c)
		if err == nil {
			backoff = minBackoff
			changed()
			err = s.watch(ctx, c, version, changed)
			if errors.Is(err, errRelist) {
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		lost(err)
		select {
		case <-ctx.Done():
		case <-time.After(backoff/2 + rand.N(backoff)): // spread, so that several do not come at once
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

func (s *shelf[T]) api(c *Cluster) dynamic.ResourceInterface {
	return c.dynamic.Resource(s.resource).Namespace(s.namespace)
}

const pageSize = 500

func (s *shelf[T]) list(ctx context.Context, c *Cluster) (version string, err error) {
	items := map[string]*T{}
	page := ""
	for {
		err := c.call(ctx, "list "+s.resource.Resource, func(ctx context.Context) error {
			found, err := s.api(c).List(ctx, metav1.ListOptions{FieldSelector: s.fields, Limit: pageSize, Continue: page})
			if err != nil {
				return err
			}
			for i := range found.Items {
				v, err := shelve[T](&found.Items[i])
				if err != nil {
					return err
				}
				items[keyOf(&found.Items[i])] = v
			}
			version, page = found.GetResourceVersion(), found.GetContinue()
			return nil
		})
		if err != nil {
			return "", err
		}
		if page == "" {
			break
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items, s.listed = items, true
	return version, nil
}

// errRelist: the API no longer knows the version we are at.
var errRelist = errors.New("the watched version is too old")

// watch follows changes from a version on, through as many watches as it takes.
func (s *shelf[T]) watch(ctx context.Context, c *Cluster, version string, changed func()) error {
	for {
		seconds := int64(watchTime/time.Second) + rand.N(int64(60))
		w, err := s.api(c).Watch(ctx, metav1.ListOptions{
			FieldSelector: s.fields, ResourceVersion: version, AllowWatchBookmarks: true, TimeoutSeconds: &seconds,
		})
		if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
			return errRelist
		}
		if err != nil {
			return c.fault(err, "watch "+s.resource.Resource)
		}
		began := time.Now()
		version, err = s.drain(w, version, changed)
		w.Stop()
		if err != nil {
			return err
		}
		if time.Since(began) < time.Second { // ended at once: the API is going away
			return c.fault(errors.New("the watch ended at once"), "watch "+s.resource.Resource)
		}
	}
}

// drain takes in events until the watch ends, and returns how far it came.
func (s *shelf[T]) drain(w watch.Interface, version string, changed func()) (string, error) {
	for event := range w.ResultChan() {
		u, ok := event.Object.(*unstructured.Unstructured)
		if event.Type == watch.Error || !ok {
			err := apierrors.FromObject(event.Object)
			if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
				return version, errRelist
			}
			return version, err
		}
		version = u.GetResourceVersion()
		if event.Type == watch.Bookmark {
			continue
		}
		v, err := shelve[T](u)
		if err != nil {
			return version, err
		}
		s.mu.Lock()
		if event.Type == watch.Deleted {
			delete(s.items, keyOf(u))
		} else {
			s.items[keyOf(u)] = v
		}
		s.mu.Unlock()
		changed()
	}
	return version, nil
}

// shelve converts an object and leaves out what nobody reads and is often its
// larger part.
func shelve[T any](u *unstructured.Unstructured) (*T, error) {
	u.SetManagedFields(nil)
	return to[T](u)
}

func keyOf(u *unstructured.Unstructured) string { return u.GetNamespace() + "/" + u.GetName() }

// refused tells whether an error is an answer of the API, not its absence.
func refused(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code != http.StatusServiceUnavailable
}
