package platform

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/lab/recipe"
)

// CDIVersion is the release of the Containerized Data Importer that Build makes.
const CDIVersion = "v1.65.0"

const (
	cdiModule = "kubevirt.io/containerized-data-importer"
	// cdiTags leave out what would read image signatures with a C library.
	cdiTags = "containers_image_openpgp"
	// cdiYAML is the operator's manifest, in the folder that is made.
	cdiYAML = "cdi-operator.yaml"
	// cdiGenerator writes what the operator needs from CDI's own code, and fills
	// cdiTemplate in.
	cdiGenerator = "manifest-generator"
	cdiTemplate  = "manifests/templates/release/cdi-operator.yaml.in"
	cdiStartup   = "cmd/cdi-cloner/cloner_startup.sh"
)

// Reading VMware's disks takes libguestfs.org/libnbd, a module around a C
// library that module proxies refuse to hand out, and VMware's own library
// besides. CDI has a file without it for processors that VMware has no library
// for; it stands in for that of amd64. cdiAbsent is the module that is missing.
const (
	cdiAbsent   = "libguestfs.org/libnbd"
	cdiVMware   = "pkg/importer/vddk-datasource_amd64.go"
	cdiNoVMware = "pkg/importer/vddk-datasource_arm64.go"
	cdiOnlyARM  = "//go:build arm64\n// +build arm64\n"
)

// cdiService is a program that goes by an image of its own.
type cdiService struct {
	name       string // of the image
	entrypoint []string
}

// cdiServices are those that run beside the API, and those that run where a
// volume is and fill it.
func cdiServices() []cdiService {
	return []cdiService{
		{"cdi-operator", []string{"/usr/bin/cdi-operator"}},
		{"cdi-controller", []string{"/usr/bin/cdi-controller", "-alsologtostderr"}},
		{"cdi-apiserver", []string{"/usr/bin/cdi-apiserver", "-alsologtostderr"}},
		{"cdi-uploadproxy", []string{"/usr/bin/cdi-uploadproxy", "-alsologtostderr"}},
		{"cdi-importer", []string{"/usr/bin/cdi-importer", "-alsologtostderr"}},
		{"cdi-uploadserver", []string{"/usr/bin/cdi-uploadserver", "-alsologtostderr"}},
		{"cdi-cloner", []string{"/usr/bin/" + filepath.Base(cdiStartup)}},
	}
}

// cdiPrograms are compiled: those of the images, and the tools that importer and
// controller take out of the importer's image.
func cdiPrograms() []string {
	return []string{"cmd/cdi-operator", "cmd/cdi-controller", "cmd/cdi-apiserver", "cmd/cdi-uploadproxy", "cmd/cdi-importer", "cmd/cdi-uploadserver", "cmd/cdi-cloner",
		"tools/cdi-containerimage-server", "tools/cdi-image-size-detection", "tools/cdi-source-update-poller", "tools/" + cdiGenerator}
}

// cdiPackages are what the programs find around them: nbdkit, which reads images
// from web servers, qemu-img, which converts them, and the tools of a shell,
// among them cat, by which the controller tells that it is ready.
func cdiPackages() []string {
	return []string{"ca-certificates", "nbdkit", "qemu-utils", "util-linux"}
}

func cdiReference(name string) string { return prefix + "/" + name + ":" + CDIVersion }

// cdi is the importer: its images and its operator's manifest.
func (b *builder) cdi() (part, error) {
	version, err := b.goVersion()
	if err != nil {
		return part{}, err
	}
	k := recipe.NewKey()
	k.Add("go", version)
	k.Add("programs", cdiPrograms()...)
	k.Add("arguments", cdiArguments("out")...)
	k.Add("manifest", append(cdiImages(), cdiTemplate, cdiStartup)...)
	k.Add("absent", cdiAbsent, cdiVMware, cdiNoVMware)
	if err := k.AddFiles(content, "_modules/cdi"); err != nil {
		return part{}, err
	}
	dir, err := b.Cached("cdi", k.Sum(), b.compileCDI)
	if err != nil {
		return part{}, fmt.Errorf("build CDI %s: %w", CDIVersion, err)
	}
	return part{made: dir, packages: cdiPackages(), pack: func(p *packing) error {
		tree, err := b.DebianTree(recipe.Configured, cdiPackages())
		if err != nil {
			return err
		}
		if err := p.images(cdiIn(dir, tree)); err != nil {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, cdiYAML))
		if err != nil {
			return err
		}
		return p.manifest(fleet.ComponentCDI, "operator", CDIVersion, string(text))
	}}, nil
}

func cdiArguments(out string) []string {
	return []string{"build", "-mod=mod", "-trimpath", "-buildvcs=false", "-tags", cdiTags, "-o", out + "/", "-ldflags", "-s -w -X " + cdiModule + "/pkg/version.gitVersion=" + CDIVersion}
}

// compileCDI puts CDI's programs and its manifest into out.
func (b *builder) compileCDI(out, work string) error {
	if err := place("_modules/cdi", work); err != nil {
		return err
	}
	env := append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	run := func(args ...string) error { return b.Run(recipe.Command{Dir: work, Name: "go", Args: args, Env: env}) }
	if err := cdiWithout(work); err != nil {
		return err
	}
	b.Say("downloading the Go modules of CDI")
	if err := run("mod", "download", cdiModule); err != nil { // compared with go.sum
		return err
	}
	module, err := b.Output(recipe.Command{Dir: work, Name: "go", Args: []string{"list", "-mod=mod", "-m", "-f", "{{.Dir}}", cdiModule}, Env: env})
	if err != nil {
		return err
	}
	source := filepath.Join(work, "source")
	if err := b.Run(recipe.Command{Name: "cp", Args: []string{"-r", "--no-preserve=mode", strings.TrimSpace(module), source}}); err != nil {
		return err
	}
	if err := fixCDI(source); err != nil {
		return err
	}
	if err := run("mod", "edit", "-replace", cdiModule+"=./source"); err != nil {
		return err
	}
	b.Say("compiling CDI")
	args := cdiArguments(out)
	for _, path := range cdiPrograms() {
		args = append(args, cdiModule+"/"+path)
	}
	if err := run(args...); err != nil {
		return err
	}
	if err := b.Run(recipe.Command{Name: "cp", Args: []string{filepath.Join(source, cdiStartup), out}}); err != nil {
		return err
	}
	return b.cdiManifest(out, source, work)
}

// cdiWithout puts an empty module in the place of the one that is missing: CDI's
// own list of modules names it, nothing that is compiled uses it.
func cdiWithout(work string) error {
	dir := filepath.Join(work, "absent")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return write(filepath.Join(dir, "go.mod"), "module "+cdiAbsent+"\n\ngo 1.17\n")
}

// fixCDI takes the reading of VMware's disks out of a copy of CDI's module.
func fixCDI(source string) error {
	text, err := os.ReadFile(filepath.Join(source, cdiNoVMware))
	if err != nil {
		return err
	}
	if strings.Count(string(text), cdiOnlyARM) != 1 {
		return fmt.Errorf("%s of CDI is not only for arm64", cdiNoVMware)
	}
	path := filepath.Join(source, cdiVMware)
	if err := os.Remove(path); err != nil {
		return err
	}
	return write(path, strings.Replace(string(text), cdiOnlyARM, "", 1))
}

// cdiImages are the flags that name CDI's images to its generator.
func cdiImages() []string {
	var flags []string
	for _, s := range cdiServices() {
		flags = append(flags, fmt.Sprintf("-%s-image=%s", strings.TrimPrefix(s.name, "cdi-"), cdiReference(s.name)))
	}
	return flags
}

// cdiManifest is what upstream publishes with a release: namespace, CRD, rights
// and the operator's deployment. CDI's own program makes it, in two passes.
func (b *builder) cdiManifest(out, source, work string) error {
	generator := filepath.Join(out, cdiGenerator)
	given := append(cdiImages(), "-docker-repo="+prefix, "-docker-tag="+CDIVersion, "-operator-version="+CDIVersion,
		"-deploy-cluster-resources=true", "-pull-policy=IfNotPresent", "-verbosity=1", "-namespace=cdi",
		"-ovirt-populator-image="+cdiReference("cdi-importer")) // upstream, too, has that program in the importer's image
	objects, err := b.Output(recipe.Command{Name: generator, Args: append([]string{"-resource-type=operator", "-resource-group=everything"}, given...)})
	if err != nil {
		return fmt.Errorf("write CDI's objects: %w", err)
	}
	made := filepath.Join(work, "made")
	if err := os.Mkdir(made, 0o755); err != nil {
		return err
	}
	if err := write(filepath.Join(made, "operator-everything.yaml.in"), objects); err != nil { // the template's name for it
		return err
	}
	text, err := b.Output(recipe.Command{Name: generator, Args: append([]string{"-template=" + filepath.Join(source, cdiTemplate), "-generated-manifests-path=" + made}, given...)})
	if err != nil {
		return fmt.Errorf("fill in CDI's manifest: %w", err)
	}
	for _, s := range cdiServices() {
		if want := cdiReference(s.name); !strings.Contains(text, want) {
			return fmt.Errorf("CDI's manifest does not name the image %s", want)
		}
	}
	return write(filepath.Join(out, cdiYAML), text)
}

// cdiIn is the one image of all, on a tree of Debian packages.
func cdiIn(dir, tree string) image {
	i := image{name: "cdi", user: "1001", starts: map[string][]string{}}
	programs := []string{"cdi-containerimage-server", "cdi-image-size-detection", "cdi-source-update-poller", filepath.Base(cdiStartup)}
	for _, s := range cdiServices() {
		i.references = append(i.references, cdiReference(s.name))
		i.starts[cdiReference(s.name)] = s.entrypoint
		programs = append(programs, s.name)
	}
	i.layers = []func(*layer){func(l *layer) {
		l.tree(tree, kept)
		for _, dir := range []string{"dev", "proc", "sys", "run", "home"} {
			l.folder(dir, 0o755)
		}
		l.folder("tmp", 0o1777)
		l.link("var/run", "../run")
		l.text("etc/passwd", accounts, 0o644)
		l.text("etc/group", groups, 0o644)
		l.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644)
	}, func(l *layer) {
		for _, name := range programs {
			l.program("usr/bin/"+name, filepath.Join(dir, name))
		}
	}}
	return i
}
