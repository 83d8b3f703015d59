package platform

import (
	"regexp"
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// An edit of the makers' manifests that finds nothing, or too much, is no edit.
func TestEdited(t *testing.T) {
	const text = "image: a:v1\nargs: [x]\n"
	got, err := edited(text, []edit{{"a:v1", "a:v2"}, {"[x]", "[x, y]"}})
	if err != nil || got != "image: a:v2\nargs: [x, y]\n" {
		t.Errorf("%q, %v", got, err)
	}
	for _, e := range []edit{{"a:v3", "a:v2"}, {"a", "b"}} {
		if _, err := edited(text, []edit{e}); err == nil || !strings.Contains(err.Error(), "want once") {
			t.Errorf("%v: %v", e, err)
		}
	}
}

// Of a Debian tree the driver's image holds tools, what they are loaded by, and
// nothing else, whether or not the tree's /bin is one with /usr/bin.
func TestToolsOfTheDriver(t *testing.T) {
	for name, want := range map[string]bool{
		"bin": true, "usr": true, "usr/lib/x86_64-linux-gnu": true, "lib64/ld-linux-x86-64.so.2": true,
		"usr/bin/tar": true, "bin/tar": true, "sbin/losetup": true, "usr/sbin/losetup": true,
		"usr/lib/x86_64-linux-gnu/libc.so.6": true, "lib/x86_64-linux-gnu/libmount.so.1.1.0": true,
		"usr/bin/perl": false, "etc/passwd": false, "usr/share/doc/tar/copyright": false, "var": false,
		"usr/lib/x86_64-linux-gnu/gconv/IBM037.so": false, "usr/share/bash-completion/completions/mount": false,
	} {
		if ofTools(name) != want {
			t.Errorf("%s: %t", name, !want)
		}
	}
}

// The driver's manifest starts programs that its image has, and names the image,
// and its two classes, where they are filled in.
func TestManifestOfTheDriver(t *testing.T) {
	text, err := content.ReadFile("_modules/csi/" + hostPathYAML)
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string]bool{}
	for _, name := range driverPrograms() {
		programs["/"+name] = true
	}
	commands := regexp.MustCompile(`command: \[(\S+)\]`).FindAllStringSubmatch(string(text), -1)
	for _, c := range commands {
		if !programs[c[1]] {
			t.Errorf("starts %s, which the image lacks", c[1])
		}
	}
	if images := strings.Count(string(text), "image: IMAGE\n"); len(commands) != len(programs) || images != len(programs) {
		t.Errorf("%d commands, %d images, %d programs", len(commands), images, len(programs))
	}
	if n := strings.Count(string(text), "name: CLASS\n"); n != 2 {
		t.Errorf("%d classes", n)
	}
}

// A part's images are its component's, and those before it stay whose they were.
func TestOwnImages(t *testing.T) {
	p := &packing{payload: fleet.Payload{Images: []fleet.PayloadImage{{Name: "etcd"}, {Name: "a"}, {Name: "b"}},
		Manifests: []fleet.PayloadManifest{{Component: fleet.ComponentKubeVirt}, {Component: fleet.ComponentMultus}}}}
	p.own(1, 1)
	for i, want := range []fleet.Component{"", fleet.ComponentMultus, fleet.ComponentMultus} {
		if got := p.payload.Images[i].Component; got != want {
			t.Errorf("%s: %q, want %q", p.payload.Images[i].Name, got, want)
		}
	}
	p.payload.Images = append(p.payload.Images, fleet.PayloadImage{Name: "guest"})
	if p.own(3, 2); p.payload.Images[3].Component != "" {
		t.Errorf("%+v", p.payload.Images[3])
	}
}
