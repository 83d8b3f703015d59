package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/lab"
	"metalrise.dev/lab/machine"
)

// depot is a place with an image and software of nodes, small and without substance,
// but of the form that install and plan demand.
type depot struct {
	t               *testing.T
	dir             string
	image, software string
	metadata        string // SHA-256 of stream.json
}

func newDepot(t *testing.T) *depot {
	t.Helper()
	d := &depot{t: t, dir: t.TempDir()}
	for name, dir := range map[string]string{"XDG_DATA_HOME": "data", "XDG_CONFIG_HOME": "config", "XDG_STATE_HOME": "states"} {
		t.Setenv(name, filepath.Join(d.dir, dir))
	}
	d.image, d.software = filepath.Join(d.dir, "image"), filepath.Join(d.dir, "software")
	file := func(dir, name, text string) map[string]any {
		d.put(filepath.Join(dir, name), []byte(text))
		return map[string]any{"location": name, "sha256": hexDigest([]byte(text))}
	}
	disk := file(d.image, "disk.raw", strings.Repeat("disk ", 100))
	meta, err := json.Marshal(map[string]any{"stream": "lab", "metadata": map[string]any{}, "architectures": map[string]any{"x86_64": map[string]any{"artifacts": map[string]any{"metal": map[string]any{
		"release": "1", "formats": map[string]any{"iso": map[string]any{"disk": file(d.image, "live.iso", "iso")}, "raw": map[string]any{"disk": disk}}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	d.metadata = hexDigest(meta)
	d.put(filepath.Join(d.image, "stream.json"), meta)
	d.payload()
	return d
}

func (d *depot) put(path string, b []byte) {
	d.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// payload has what package kube asks for.
func (d *depot) payload() {
	p := fleet.Payload{APIVersion: fleet.PayloadVersion, Flavour: fleet.Kubeadm, Version: "v1.34.4", Architecture: "x86_64"}
	keep := func(b []byte) (string, int64) {
		d.put(filepath.Join(d.software, fleet.Blob(hexDigest(b))), b)
		return hexDigest(b), int64(len(b))
	}
	add := func(name, path string) {
		f := fleet.PayloadFile{Name: name, Path: path, Mode: 0o755}
		f.Digest, f.Bytes = keep([]byte("program " + name))
		p.Files = append(p.Files, f)
	}
	for _, n := range []string{"kubelet", "kubeadm", "kubectl", "containerd", "containerd-shim-runc-v2", "ctr", "runc"} {
		add(n, "/opt/metalrise/bin/"+n)
	}
	for _, n := range []string{"bridge", "flannel", "host-local", "loopback", "portmap"} {
		add("cni/"+n, "/opt/cni/bin/"+n)
	}
	refs := []string{"registry.k8s.io/kube-apiserver:v1.34.4", "registry.k8s.io/kube-controller-manager:v1.34.4", "registry.k8s.io/kube-scheduler:v1.34.4", "registry.k8s.io/kube-proxy:v1.34.4",
		"registry.k8s.io/etcd:3.6.5-0", "registry.k8s.io/pause:3.10.1", "registry.k8s.io/coredns/coredns:v1.12.1", "ghcr.io/flannel-io/flannel:v0.26.7", "metalrise.dev/keepalived:2.2.7"}
	m := fleet.PayloadImage{Name: "all", References: refs}
	m.Digest, m.Bytes = keep(d.archive(refs))
	p.Images = []fleet.PayloadImage{m}
	text, err := json.Marshal(p)
	if err != nil {
		d.t.Fatal(err)
	}
	d.put(filepath.Join(d.software, "payload.json"), text)
}

// archive is one image with one layer under all names, as docker save writes it.
func (d *depot) archive(refs []string) []byte {
	layer := bytes.Repeat([]byte("layer"), 1000)
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:%x"]}}`, sha256.Sum256(layer))
	list, err := json.Marshal([]any{map[string]any{"Config": "config.json", "RepoTags": refs, "Layers": []string{"layer.tar"}}})
	if err != nil {
		d.t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name string
		text []byte
	}{{"layer.tar", layer}, {"config.json", []byte(config)}, {"manifest.json", list}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.text)), Mode: 0o444}); err != nil {
			d.t.Fatal(err)
		}
		if _, err := w.Write(f.text); err != nil {
			d.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		d.t.Fatal(err)
	}
	return b.Bytes()
}

// here runs a command in this process. It gives what it printed, and of one that
// fails the complaint too.
func (d *depot) here(want int, args ...string) string {
	d.t.Helper()
	var out, errs bytes.Buffer
	if code := run(d.t.Context(), args, strings.NewReader(""), &out, &errs); code != want {
		d.t.Fatalf("metalrise %s: exit %d, want %d\n%s%s", strings.Join(args, " "), code, want, out.String(), errs.String())
	}
	if want == exitOK {
		return out.String()
	}
	return out.String() + errs.String()
}

// TestBundleWithoutNetwork: a site is looked at where there is a network; then all
// that follows is done in a namespace that has none.
func TestBundleWithoutNetwork(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	d := newDepot(t)
	l, err := lab.Start(t.Context(), lab.Config{Name: "bundle", Dir: filepath.Join(d.dir, "lab"), Servers: 1, Machine: machine.Fake, Firmware: "uefi",
		Disks: 1, Personality: "standard", ImageDir: d.image, Software: d.software}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- l.Serve(ctx) }()
	defer func() { stop(); <-served }()
	site, state := l.SitePath(), filepath.Join(d.dir, "state")
	at := []string{"-f", site, "--state", state}
	do := func(args ...string) string { return d.here(exitOK, append(args, at...)...) }
	do("discover")
	do("inspect")
	do("plan")
	bundle := filepath.Join(d.dir, "rack.bundle")
	var made bundleShown
	if err := json.Unmarshal([]byte(do("bundle", "create", "--to", bundle, "--output", "json")), &made); err != nil || made.Site != "lab-bundle" || len(made.Images) != 9 {
		t.Fatalf("%+v %v", made, err)
	}
	// The originals are gone: nothing but the bundle is left.
	for _, gone := range []string{d.image, d.software} {
		if err := os.RemoveAll(gone); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(d.dir, "metalrise")
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, bin)
	}
	if err != nil {
		t.Fatal(err)
	}
	alone := func(want int, name string, args ...string) string {
		t.Helper()
		c := exec.Command(name, args...)
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
		out, err := c.CombinedOutput()
		if code := c.ProcessState.ExitCode(); code != want {
			t.Fatalf("%s %s: exit %d, %v\n%s", name, strings.Join(args, " "), code, err, out)
		}
		return string(out)
	}
	lines := strings.Split(strings.TrimSpace(alone(0, "cat", "/proc/self/net/dev")), "\n")
	if len(lines) != 3 || !strings.HasPrefix(strings.TrimSpace(lines[2]), "lo:") {
		t.Fatalf("the namespace has more than lo:\n%s", strings.Join(lines, "\n"))
	}
	there := filepath.Join(d.dir, "there")
	use := []string{"--store", there, "-f", site, "--state", state}
	if out := alone(1, bin, "bundle", "verify", bundle, "-f", filepath.Join(d.dir, "no-site"), "--store", there); !strings.Contains(out, made.Fingerprint) || !strings.Contains(out, "IMG-001") {
		t.Errorf("a stranger's bundle: %s", out)
	}
	alone(0, bin, "bundle", "verify", bundle, "--signer", made.Fingerprint, "--store", there)
	alone(0, bin, append([]string{"bundle", "use", bundle, "--signer", made.Key}, use...)...)
	out := alone(0, bin, "plan", "-f", site, "--state", state)
	if !strings.Contains(out, "lab 1") {
		t.Error(out)
	}
	text, err := os.ReadFile(site)
	if err != nil || strings.Count(string(text), there+"/") != 2 {
		t.Errorf("the site file names\n%s", text)
	}
	alone(0, bin, "images", "verify", "--store", there)
	// What the plan and the site name stays; the rest of the bundle goes.
	if out := alone(0, bin, append([]string{"images", "prune", "--older-than", "0s"}, use...)...); !strings.Contains(out, "1 entries") {
		t.Error(out)
	}
	alone(0, bin, "plan", "-f", site, "--state", state)
	// Where there is no site file, the carried one is written.
	fresh := filepath.Join(d.dir, "fresh.yaml")
	alone(0, bin, "bundle", "use", bundle, "--signer", made.Fingerprint, "--store", there, "-f", fresh)
	if text, err := os.ReadFile(fresh); err != nil || !strings.Contains(string(text), there) {
		t.Errorf("%s %v", text, err)
	}
}

func TestImagesByHand(t *testing.T) {
	d := newDepot(t)
	site := filepath.Join(d.dir, "site.yaml")
	d.put(site, []byte("apiVersion: metalrise.dev/v1alpha1\nkind: Site\nname: rack1 # kept\nbmcs:\n  addresses: [127.99.99.99]\n  username: admin\n  password: {env: BMC_PASSWORD}\nnetwork:\n  firstAddress: 10.0.1.21/24\nimage: images\n"))
	if out := d.here(exitFailed, "images", "import", d.image); !strings.Contains(out, "--pin "+d.metadata) || !strings.Contains(out, "IMG-001") {
		t.Error(out)
	}
	d.here(exitUsage, "images", "import", d.image, "--pin", "short")
	d.here(exitFailed, "images", "import", d.image, "--keyring", filepath.Join(d.image, "stream.json"))
	d.here(exitOK, "images", "import", d.image, "--pin", d.metadata, "--use", "-f", site)
	d.here(exitOK, "images", "import", d.software, "--payload")
	if text, err := os.ReadFile(site); err != nil || !strings.Contains(string(text), "# kept") || !strings.Contains(string(text), filepath.Join(d.dir, "data", "metalrise", "images", "releases", "other-lab-1-x86_64-")) {
		t.Errorf("%s %v", text, err)
	}
	if out := d.here(exitOK, "images", "list"); strings.Count(out, "\n") != 3 || !strings.Contains(out, "pinned digest") {
		t.Error(out)
	}
	if out := d.here(exitOK, "images", "verify", "other-lab"); !strings.HasPrefix(out, "good") {
		t.Error(out)
	}
	d.here(exitFailed, "images", "verify", "none")
	nowhere := filepath.Join(d.dir, "nowhere.yaml")
	// The store remembers the site file that names the image.
	if out := d.here(exitOK, "images", "prune", "--older-than", "0s", "--dry-run"); !strings.Contains(out, "1 entries") || !strings.Contains(out, "payloads") {
		t.Error(out)
	}
	d.here(exitFailed, "images", "prune", "--older-than", "0s", "-f", nowhere)
	os.Remove(site)
	if out := d.here(exitOK, "images", "prune", "--older-than", "0s"); !strings.Contains(out, "2 entries") {
		t.Error(out)
	}
	for _, args := range [][]string{{"images", "fetch", "beos", "stable"}, {"images", "fetch", "fedora-coreos"}, {"bundle", "create", "-f", nowhere}, {"bundle", "payload"}, {"images", "fetch", "rhcos", "4.20", "--mirror", "x"}} {
		var out bytes.Buffer
		if code := run(t.Context(), args, strings.NewReader(""), &out, &out); code == exitOK {
			t.Errorf("%q was taken", args)
		}
	}
}

// TestFetchFromAFolder: a mirror that was carried on a disk, named in the file of
// defaults.
func TestFetchFromAFolder(t *testing.T) {
	d := newDepot(t)
	mirror := filepath.Join(d.dir, "mirror")
	file := func(name, text string) map[string]any {
		d.put(filepath.Join(mirror, "prod", name), []byte(text))
		return map[string]any{"disk": map[string]any{"location": "https://builds.coreos.fedoraproject.org/prod/" + name, "sha256": hexDigest([]byte(text))}}
	}
	meta, err := json.Marshal(map[string]any{"stream": "stable", "metadata": map[string]any{}, "architectures": map[string]any{"x86_64": map[string]any{"artifacts": map[string]any{"metal": map[string]any{
		"release": "44.1", "formats": map[string]any{"iso": file("live.iso", "iso"), "raw": file("metal.raw", "disk")}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	d.put(filepath.Join(mirror, "streams", "stable.json"), meta)
	d.put(filepath.Join(d.dir, "config", "metalrise", "images.yaml"), []byte("mirrors:\n  - {from: \"https://builds.coreos.fedoraproject.org\", to: "+mirror+"}\nstore: "+filepath.Join(d.dir, "own")+"\n"))
	if out := d.here(exitFailed, "images", "fetch", "fedora-coreos", "stable"); !strings.Contains(out, "--pin "+hexDigest(meta)) {
		t.Error(out)
	}
	if out := d.here(exitOK, "images", "fetch", "fedora-coreos", "stable", "--pin", hexDigest(meta)); !strings.Contains(out, filepath.Join(d.dir, "own", "releases", "fedora-coreos-stable-44.1-x86_64-")) {
		t.Error(out)
	}
	if out := d.here(exitFailed, "images", "fetch", "fedora-coreos", "next", "--pin", hexDigest(meta)); !strings.Contains(out, "404") {
		t.Error(out)
	}
	d.put(filepath.Join(d.dir, "config", "metalrise", "images.yaml"), []byte("miror: []\n"))
	d.here(exitFailed, "images", "list")
}
