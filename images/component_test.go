package images

import (
	"slices"
	"testing"

	"metalrise.dev/fleet"
)

func TestImagesAsked(t *testing.T) {
	const text = `
spec:
  containers:
    - name: a
      image: registry.k8s.io/a:v1 # why
    - image: "example.org/b:v1"
      name: b
    - image: 'docker.io/library/busybox'
  # image: example.org/not:v1
  imagePullPolicy: Always
`
	asked := imagesAsked(text)
	if want := []string{"registry.k8s.io/a:v1", "example.org/b:v1", "docker.io/library/busybox"}; !slices.Equal(asked, want) {
		t.Fatalf("%q", asked)
	}
	have := []fleet.PayloadImage{{References: []string{"registry.k8s.io/a:v1", "busybox:latest"}}, {References: []string{"registry.k8s.io/b:v1"}}}
	if got := without(append(asked, "example.org/b:v1"), have); !slices.Equal(got, []string{"example.org/b:v1"}) {
		t.Errorf("lacking %q", got)
	}
}
