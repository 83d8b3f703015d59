package platform

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A source that a new release wrote otherwise is not built without the change.
func TestChangeIsMadeOnceOrNotAtAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "link.go")
	for text, want := range map[string]bool{
		"package netlink\n" + standInFor:              true,
		"package netlink\n":                           false,
		"package netlink\n" + standInFor + standInFor: false,
	} {
		if err := write(path, text); err != nil {
			t.Fatal(err)
		}
		err := change(path, standInFor, standIn)
		got, _ := os.ReadFile(path)
		switch {
		case (err == nil) != want:
			t.Errorf("%q: %v", text, err)
		case want && string(got) != "package netlink\n"+standIn:
			t.Errorf("became %q", got)
		case !want && string(got) != text:
			t.Errorf("%q was changed in spite of %v", text, err)
		}
	}
}

// The manifests of Whereabouts come as one, definitions first, with the image
// that is built.
func TestManifestsOfWhereabouts(t *testing.T) {
	source, out := t.TempDir(), filepath.Join(t.TempDir(), "all.yaml")
	if err := os.MkdirAll(filepath.Join(source, "doc/crds"), 0o755); err != nil {
		t.Fatal(err)
	}
	names := whereaboutsManifests()
	for _, name := range names {
		text := "kind: CustomResourceDefinition\n"
		if name == names[len(names)-1] {
			text = "kind: DaemonSet\nimage: " + whereaboutsImage + ":latest\n"
		}
		if err := write(filepath.Join(source, name), text); err != nil {
			t.Fatal(err)
		}
	}
	if err := joinManifests(source, out); err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(out)
	documents := strings.Split(string(got), "\n---\n")
	if len(documents) != len(names) || !strings.HasSuffix(string(got), "image: "+whereaboutsImage+":"+WhereaboutsVersion+"\n") {
		t.Errorf("%d documents:\n%s", len(documents), got)
	}
	if err := write(filepath.Join(source, names[0]), "image: "+whereaboutsImage+":latest\n"); err != nil {
		t.Fatal(err)
	}
	if err := joinManifests(source, out); err == nil {
		t.Error("an image named twice was not noticed")
	}
}
