package platform

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/lab/recipe"
)

// module is KubeVirt's, as Go names it.
const module = "kubevirt.io/kubevirt"

// compilation is one call of go build.
type compilation struct {
	name     string // for people, and of the folder of its programs
	packages []string
	// shared links the C library at run time, for programs that live in the
	// launcher's image. All others are static.
	shared bool
}

// compilations share all their packages: all have the same tags and cgo
// switched on, which virt-launcher needs. A package compiled without cgo would
// be compiled once more for it, and with it all that stands upon package net.
func compilations() []compilation {
	return []compilation{
		{name: "static", packages: []string{
			module + "/tools/manifest-templator", module + "/cmd/virt-operator", module + "/cmd/virt-api", module + "/cmd/virt-controller",
			module + "/cmd/virt-probe", module + "/cmd/virt-chroot", module + "/cmd/virt-tail", module + "/cmd/virt-freezer", module + "/cmd/virtctl"}},
		{name: "shared", shared: true, packages: []string{
			module + "/cmd/virt-handler", module + "/cmd/virt-launcher", module + "/cmd/virt-launcher-monitor"}},
	}
}

func (c compilation) arguments(out string) []string {
	linker := append([]string{"-s", "-w"}, stamps()...)
	if !c.shared {
		linker = append(linker, "-extldflags", "-static")
	}
	args := []string{"build", "-v", "-trimpath", "-buildvcs=false", "-tags", tags, "-o", out + "/", "-ldflags", strings.Join(linker, " ")}
	return append(args, c.packages...)
}

// tags take name look-ups and accounts from Go instead of the C library, which
// a static program cannot load them from.
const tags = "netgo,osusergo"

// environment keeps the caller's Go settings (proxy, caches) and undoes the ones
// that would change the result.
func environment() []string {
	return append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=1")
}

// built is what comes out of KubeVirt's module.
type built struct{ root string }

func (b built) static(name string) string { return filepath.Join(b.root, "static", name) }
func (b built) shared(name string) string { return filepath.Join(b.root, "shared", name) }

// file is a file that the module brings along, by the path it has there.
func (b built) file(path string) string { return filepath.Join(b.root, "files", path) }

// moduleFiles are taken over from KubeVirt's module as they are: what its
// programs expect around them, and its manifests.
func moduleFiles() []string {
	return []string{
		"cmd/virt-launcher/node-labeller/node-labeller.sh",
		"cmd/virt-launcher/qemu",
		"cmd/virt-launcher/qemu.conf",
		"cmd/virt-launcher/virtqemud.conf",
		"manifests/generated",
		"manifests/release/kubevirt-operator.yaml.in",
	}
}

// kubevirt is KubeVirt: its images, virtctl, and its operator's manifest.
func (b *builder) kubevirt() (part, error) {
	kv, err := b.compileKubeVirt()
	if err != nil {
		return part{}, fmt.Errorf("build KubeVirt %s: %w", Version, err)
	}
	return part{made: kv.root, packages: launcherPackages(), pack: func(p *packing) error {
		if err := p.program("virtctl", kv.static("virtctl")); err != nil {
			return err
		}
		launcher, err := b.launcher(kv)
		if err != nil {
			return err
		}
		if err := p.images(controllers(kv), launcher); err != nil {
			return err
		}
		text, err := b.operator(kv, p.work)
		if err != nil {
			return err
		}
		return p.manifest(fleet.ComponentKubeVirt, "operator", Version, text)
	}}, nil
}

// compileKubeVirt returns KubeVirt's programs, and files of its module.
func (b *builder) compileKubeVirt() (built, error) {
	version, err := b.goVersion()
	if err != nil {
		return built{}, err
	}
	k := recipe.NewKey()
	k.Add("go", version)
	k.Add("files", moduleFiles()...)
	k.Add("stand-in", netlink, standInAt, standInFor, standIn)
	if err := k.AddFiles(content, "_modules/kubevirt"); err != nil {
		return built{}, err
	}
	for _, c := range compilations() {
		k.Add(c.name, c.arguments("out")...)
	}
	dir, err := b.Cached("kubevirt", k.Sum(), func(out, work string) error {
		if err := place("_modules/kubevirt", work); err != nil {
			return err
		}
		if err := b.standIns(work); err != nil {
			return err
		}
		for _, c := range compilations() {
			if err := b.compile(c, work, filepath.Join(out, c.name)); err != nil {
				return fmt.Errorf("%s programs: %w", c.name, err)
			}
		}
		return b.fromModule(out, work)
	})
	return built{dir}, err
}

// fromModule takes over files of KubeVirt's module, and compiles the one
// program of it that is written in C.
func (b *builder) fromModule(out, work string) error {
	source, err := b.moduleSource(work, module)
	if err != nil {
		return err
	}
	for _, path := range moduleFiles() {
		target := filepath.Join(out, "files", path)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := b.Run(recipe.Command{Name: "cp", Args: []string{"-r", "--no-preserve=mode", filepath.Join(source, path), target}}); err != nil {
			return err
		}
	}
	return b.Run(recipe.Command{Name: "gcc", Args: []string{"-static", "-O2", "-s", "-w", "-o", filepath.Join(out, "static", "container-disk"),
		filepath.Join(source, "cmd/container-disk-v2alpha/main.c")}})
}

// compile builds the programs of c into out. The Go build cache keeps every
// compiled package, so that an interrupted build goes on where it was.
func (b *builder) compile(c compilation, dir, out string) error {
	b.Say("downloading the Go modules of KubeVirt's " + c.name + " programs")
	all, err := b.Output(recipe.Command{Dir: dir, Name: "go", Args: append([]string{"list", "-deps", "-tags", tags, "-f", "x"}, c.packages...), Env: environment()})
	if err != nil {
		return err
	}
	total, done, told := strings.Count(all, "x"), 0, time.Now()
	b.Say(fmt.Sprintf("compiling KubeVirt's %s programs: %d packages, but for those in the Go build cache", c.name, total))
	return b.Run(recipe.Command{Dir: dir, Name: "go", Args: c.arguments(out), Env: environment(), Each: func(string) {
		if done++; time.Since(told) > 5*time.Second {
			told = time.Now()
			b.Say(fmt.Sprintf("compiling KubeVirt's %s programs: %d of at most %d packages", c.name, done, total))
		}
	}})
}

// place writes an embedded module's files to a folder, NAME.txt as NAME: Go
// does not embed a folder that holds a go.mod.
func place(from, to string) error {
	entries, err := fs.ReadDir(content, from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		data, err := fs.ReadFile(content, from+"/"+e.Name())
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, strings.TrimSuffix(e.Name(), ".txt")), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
