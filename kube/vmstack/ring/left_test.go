package ring

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metalrise.dev/fleet"
)

// stuck is a cluster in which nothing that is deleted goes, however often it is
// touched.
type stuck struct{ *fake }

func (s stuck) DeleteObject(_ context.Context, kind schema.GroupVersionKind, namespace, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.objects[key(kind, namespace, name)]; u != nil {
		now := metav1.Now()
		u.SetDeletionTimestamp(&now)
		u.SetFinalizers([]string{"kubevirt.io/virtualMachineControllerFinalize"})
	}
	return nil
}

func (s stuck) Merge(_ context.Context, kind schema.GroupVersionKind, namespace, name string, patch map[string]any) error {
	if patch["spec"] == nil {
		return nil
	}
	return s.fake.Merge(context.Background(), kind, namespace, name, patch)
}

// A proof that passed and whose VMs do not go says so, and what is left; the next
// proof does too instead of beginning.
func TestWhatIsLeftIsNamed(t *testing.T) {
	f := newFake("w1", "w2")
	synctest.Test(t, func(t *testing.T) {
		r := &Ring{cluster: stuck{f}, limits: usual()}
		result, err := r.Prove(t.Context(), somePlan("w1", "w2"), fleet.ProofStart, nil, nil)
		if fleet.CodeOf(err) != fleet.CodeProofLeft || fleet.KindOf(err) != fleet.Transient || len(result.VMs) != 2 {
			t.Fatalf("got %v with %+v", err, result)
		}
		for _, want := range []string{"the proof passed", "VirtualMachine", "start-w1", "virtualMachineControllerFinalize", "Service"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("it does not say %q: %v", want, err)
			}
		}
		if _, err = r.Prove(t.Context(), somePlan("w1", "w2"), fleet.ProofStart, nil, nil); fleet.CodeOf(err) != fleet.CodeProofLeft || !strings.Contains(err.Error(), "an earlier proof") {
			t.Errorf("the next one says %v", err)
		}
		f.objects = map[string]*unstructured.Unstructured{}
		if got := r.remains(t.Context()); got != "the namespace "+Namespace {
			t.Errorf("left: %s", got)
		}
	})
}
