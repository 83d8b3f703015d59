package platform

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/lab/recipe"
)

// Versions of what Build makes for snapshots of volumes.
const (
	SnapshotterVersion = "v8.3.0" // snapshot-controller, and csi-snapshotter beside the driver
	HostPathVersion    = "v1.7.2" // the CSI driver
)

// LabClass is the StorageClass of the lab's CSI driver, and its
// VolumeSnapshotClass.
const LabClass = "lab-hostpath"

const (
	snapshotterModule = "github.com/kubernetes-csi/external-snapshotter/v8"
	snapshotAPIModule = "github.com/kubernetes-csi/external-snapshotter/client/v8"
	provisionerModule = "github.com/kubernetes-csi/external-provisioner/v5"
	hostPathModule    = "github.com/kubernetes-csi/csi-driver-host-path"

	snapshotsImage = "registry.k8s.io/sig-storage/snapshot-controller"
	// hostPathImage holds the driver and all that stands beside it in a pod. Its
	// makers publish an image for each; this one is the lab's own.
	hostPathImage = "metalrise.dev/csi-hostpath"

	// Of the folder that is made.
	snapshotsYAML = "snapshot-controller.yaml"
	hostPathYAML  = "hostpath.yaml"
)

// csiCompilation is what one module of _modules builds.
type csiCompilation struct {
	module   string // folder
	packages []string
	stamp    string // variable with the programs' version, and its value
}

// csiCompilations: the driver is of 2021, the newest release that could be fetched
// as a Go module, and asks for libraries of its time.
func csiCompilations() []csiCompilation {
	return []csiCompilation{
		{module: "csi", stamp: "main.version=" + SnapshotterVersion,
			packages: []string{".", provisionerModule + "/cmd/csi-provisioner", snapshotterModule + "/cmd/snapshot-controller", snapshotterModule + "/cmd/csi-snapshotter"}},
		{module: "csi-hostpath", stamp: "main.version=" + HostPathVersion, packages: []string{hostPathModule + "/cmd/hostpathplugin"}},
	}
}

func (c csiCompilation) arguments(out string) []string {
	return append([]string{"build", "-mod=mod", "-trimpath", "-buildvcs=false", "-o", out + "/", "-ldflags", "-s -w -X " + c.stamp}, c.packages...)
}

// csiPackages are the tools with which the driver makes volumes and snapshots;
// tar starts gzip through a shell.
func csiPackages() []string {
	return []string{"coreutils", "dash", "gzip", "mount", "tar", "util-linux"}
}

// snapshots is the controller of snapshots, a component of the catalogue.
func (b *builder) snapshots() (part, error) {
	dir, err := b.csi()
	if err != nil {
		return part{}, err
	}
	return part{made: dir, pack: func(p *packing) error {
		if err := p.images(snapshotController(dir)); err != nil {
			return err
		}
		return p.manifestFile(fleet.ComponentSnapshots, "snapshot-controller", SnapshotterVersion, filepath.Join(dir, snapshotsYAML))
	}}, nil
}

// csiDriver is a driver for the lab, which comes in as a site's own one does.
func (b *builder) csiDriver() (part, error) {
	dir, err := b.csi()
	if err != nil {
		return part{}, err
	}
	return part{made: dir, packages: csiPackages(), pack: func(p *packing) error {
		tree, err := b.DebianTree(recipe.Extracted, csiPackages())
		if err != nil {
			return err
		}
		if err := p.images(hostPath(dir, tree)); err != nil {
			return err
		}
		return p.manifestFile(fleet.ComponentCSI, "hostpath", HostPathVersion, filepath.Join(dir, hostPathYAML))
	}}, nil
}

// manifestFile puts a manifest in that was made before.
func (p *packing) manifestFile(c fleet.Component, name, version, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return p.manifest(c, name, version, string(text))
}

// csi returns the folder with the programs and manifests of both.
func (b *builder) csi() (string, error) {
	version, err := b.goVersion()
	if err != nil {
		return "", err
	}
	k := recipe.NewKey()
	k.Add("go", version)
	k.Add("manifests", append(snapshotCRDs(), snapshotManifests()...)...)
	k.Add("edits", fmt.Sprint(snapshotEdits()))
	for _, c := range csiCompilations() {
		k.Add(c.module, c.arguments("out")...)
		if err := k.AddFiles(content, "_modules/"+c.module); err != nil {
			return "", err
		}
	}
	dir, err := b.Cached("csi", k.Sum(), b.compileCSI)
	if err != nil {
		return "", fmt.Errorf("build the snapshot controller %s and a CSI driver: %w", SnapshotterVersion, err)
	}
	return dir, nil
}

// compileCSI puts programs and manifests into out.
func (b *builder) compileCSI(out, work string) error {
	env := append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	for _, c := range csiCompilations() {
		dir := filepath.Join(work, c.module)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if err := place("_modules/"+c.module, dir); err != nil {
			return err
		}
		b.Say("compiling the programs of the module " + c.module)
		if err := b.Run(recipe.Command{Dir: dir, Name: "go", Args: c.arguments(out), Env: env}); err != nil {
			return err
		}
	}
	dir := filepath.Join(work, "csi")
	var text strings.Builder
	for _, m := range []struct {
		module string
		files  []string
	}{{snapshotAPIModule, snapshotCRDs()}, {snapshotterModule, snapshotManifests()}} {
		if err := b.Run(recipe.Command{Dir: dir, Name: "go", Args: []string{"mod", "download", m.module}, Env: env}); err != nil { // compared with go.sum
			return err
		}
		source, err := b.Output(recipe.Command{Dir: dir, Name: "go", Args: []string{"list", "-mod=mod", "-m", "-f", "{{.Dir}}", m.module}, Env: env})
		if err != nil {
			return err
		}
		for _, file := range m.files {
			one, err := os.ReadFile(filepath.Join(strings.TrimSpace(source), file))
			if err != nil {
				return err
			}
			fmt.Fprintf(&text, "---\n%s\n", one)
		}
	}
	controller, err := edited(text.String(), snapshotEdits())
	if err != nil {
		return fmt.Errorf("the manifests of the snapshot controller: %w", err)
	}
	if err := write(filepath.Join(out, snapshotsYAML), controller); err != nil {
		return err
	}
	own, err := os.ReadFile(filepath.Join(dir, hostPathYAML))
	if err != nil {
		return err
	}
	filled := strings.NewReplacer("image: IMAGE", "image: "+hostPathImage+":"+HostPathVersion, "name: CLASS", "name: "+LabClass).Replace(string(own))
	return write(filepath.Join(out, hostPathYAML), filled)
}

// snapshotCRDs are the definitions of snapshots, and snapshotManifests what runs
// the controller, in its makers' modules.
func snapshotCRDs() []string {
	const dir = "config/crd/snapshot.storage.k8s.io_volumesnapshot"
	return []string{dir + "classes.yaml", dir + "contents.yaml", dir + "s.yaml"}
}

func snapshotManifests() []string {
	const dir = "deploy/kubernetes/snapshot-controller/"
	return []string{dir + "rbac-snapshot-controller.yaml", dir + "setup-snapshot-controller.yaml"}
}

// edit replaces a text that stands in a manifest exactly once.
type edit struct{ from, to string }

// snapshotEdits are what the makers leave to whoever installs it: the release
// that is meant, and, for drivers that make the snapshots of each node there, the
// right to look at nodes and the flag, both of which their manifests name in
// comments.
func snapshotEdits() []edit {
	return []edit{
		{"image: " + snapshotsImage + ":v8.2.1", "image: " + snapshotsImage + ":" + SnapshotterVersion},
		{"  # - apiGroups: [\"\"]\n  #   resources: [\"nodes\"]\n  #   verbs: [\"get\", \"list\", \"watch\"]\n", "  - apiGroups: [\"\"]\n    resources: [\"nodes\"]\n    verbs: [\"get\", \"list\", \"watch\"]\n"},
		{"            - \"--leader-election=true\"\n", "            - \"--leader-election=true\"\n            - \"--enable-distributed-snapshotting=true\"\n"},
	}
}

// edited makes the edits; a text of another release may lack what one looks for.
func edited(text string, edits []edit) (string, error) {
	for _, e := range edits {
		if n := strings.Count(text, e.from); n != 1 {
			return "", fmt.Errorf("%q stands there %d times, want once", e.from, n)
		}
		text = strings.Replace(text, e.from, e.to, 1)
	}
	return text, nil
}

// snapshotController is the image of the controller.
func snapshotController(dir string) image {
	return image{name: "snapshot-controller", references: []string{snapshotsImage + ":" + SnapshotterVersion}, entrypoint: []string{"/snapshot-controller"}, layers: []func(*layer){func(l *layer) {
		l.folder("tmp", 0o1777)
		l.program("snapshot-controller", filepath.Join(dir, "snapshot-controller"))
	}}}
}

// driverPrograms are the driver, and what tells the kubelet of it, makes volumes
// of claims, and snapshots of volumes.
func driverPrograms() []string {
	return []string{"hostpathplugin", "csi-node-registrar", "csi-provisioner", "csi-snapshotter"}
}

// hostPath is the image of the driver and of what tells the cluster about it.
func hostPath(dir, tree string) image {
	return image{name: "csi-hostpath", references: []string{hostPathImage + ":" + HostPathVersion}, entrypoint: []string{"/hostpathplugin"}, layers: []func(*layer){func(l *layer) {
		l.tree(tree, ofTools)
		l.folder("tmp", 0o1777)
		l.link("bin/sh", "dash")
		for _, name := range driverPrograms() {
			l.program(name, filepath.Join(dir, name))
		}
	}}}
}

// ofTools tells whether a file of the Debian tree is one of the driver's tools,
// or a library.
func ofTools(name string) bool {
	dir, base := path.Split(name)
	switch strings.TrimPrefix(dir, "usr/") {
	case "":
		return slices.Contains([]string{"bin", "sbin", "lib", "lib64", "usr"}, base)
	case "bin/", "sbin/":
		return slices.Contains([]string{"cp", "dash", "dd", "fallocate", "findmnt", "gzip", "losetup", "mount", "tar", "umount"}, base)
	case "lib/", "lib64/":
		return base == "x86_64-linux-gnu" || strings.HasPrefix(base, "ld-linux")
	case "lib/x86_64-linux-gnu/":
		return strings.Contains(base, ".so")
	}
	return false
}
