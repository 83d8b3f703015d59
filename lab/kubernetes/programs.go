package kubernetes

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"metalrise.dev/lab/recipe"
)

// hyperName is the multi-call program, in the module and in a payload.
const hyperName = "hyper"

// compilation is one call of go build.
type compilation struct {
	name     string   // for people
	module   string   // folder below _modules
	packages []string // each is a program
	cgo      bool
	flags    []string // of the linker, besides stamps
}

// compilations are in the order in which what they share is best kept.
func compilations() []compilation {
	const plugins = "github.com/containernetworking/plugins/plugins/"
	return []compilation{
		{name: "Kubernetes, etcd, CoreDNS and CNI plugins", module: "kubernetes", packages: []string{"./cmd/hyper", "./cmd/pause", "./cmd/echo", "./cmd/healthcheck", "./cmd/coredns",
			plugins + "main/bridge", plugins + "main/loopback", plugins + "main/ptp", plugins + "ipam/host-local",
			plugins + "meta/firewall", plugins + "meta/portmap", plugins + "meta/tuning"}},
		// flannel's UDP backend is partly C, and its main package links it always.
		{name: "flannel", module: "kubernetes", packages: []string{"github.com/flannel-io/flannel"}, cgo: true, flags: []string{"-extldflags", "-static"}},
		{name: "flannel's CNI plugin", module: "cniflannel", packages: []string{plugins + "meta/flannel"}},
	}
}

// cniPlugins are the programs that belong into the folder of CNI plugins.
func cniPlugins() []string {
	return []string{"bridge", "firewall", "host-local", "loopback", "portmap", "ptp", "tuning"}
}

func (c compilation) arguments(out string) []string {
	linker := append([]string{"-s", "-w"}, append(stamps(), c.flags...)...)
	args := []string{"build", "-v", "-trimpath", "-buildvcs=false", "-o", out + "/", "-ldflags", strings.Join(linker, " ")}
	if c.cgo {
		args = append(args, "-tags", "netgo,osusergo")
	}
	return append(args, c.packages...)
}

// environment keeps the caller's Go settings (proxy, caches) and undoes the ones
// that would change the result.
func (c compilation) environment() []string {
	cgo := "CGO_ENABLED=0"
	if c.cgo {
		cgo = "CGO_ENABLED=1"
	}
	return append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GOOS=linux", "GOARCH=amd64", cgo)
}

// programs returns a folder of all programs built from modules; those of a
// compilation lie in a folder named by its place in the list, as two plugins and
// a daemon are called alike.
func (b *builder) programs() (string, error) {
	version, err := b.Output(recipe.Command{Name: "go", Args: []string{"env", "GOVERSION"}})
	if err != nil {
		return "", fmt.Errorf("ask for the Go version: %w", err)
	}
	k := recipe.NewKey()
	k.Add("go", strings.TrimSpace(version))
	if err := k.AddFiles(content, "_modules"); err != nil {
		return "", err
	}
	for _, c := range compilations() {
		k.Add(c.module, c.arguments("out")...)
	}
	return b.Cached("kubernetes", k.Sum(), func(out, work string) error {
		if err := place(content, "_modules", work); err != nil {
			return err
		}
		for n, c := range compilations() {
			if err := b.compile(c, filepath.Join(work, c.module), filepath.Join(out, fmt.Sprint(n))); err != nil {
				return fmt.Errorf("%s: %w", strings.Join(c.packages, " "), err)
			}
		}
		return nil
	})
}

// compile builds the programs of c into out. The Go build cache keeps every
// compiled package, so that an interrupted build goes on where it was.
func (b *builder) compile(c compilation, dir, out string) error {
	b.Say("downloading the Go modules of " + c.name)
	list := append([]string{"list", "-deps", "-f", "x"}, c.packages...)
	all, err := b.Output(recipe.Command{Dir: dir, Name: "go", Args: list, Env: c.environment()})
	if err != nil {
		return err
	}
	total, done, told := strings.Count(all, "x"), 0, time.Now()
	b.Say(fmt.Sprintf("compiling %s: %d packages, but for those in the Go build cache", c.name, total))
	return b.Run(recipe.Command{Dir: dir, Name: "go", Args: c.arguments(out), Env: c.environment(), Each: func(string) {
		if done++; time.Since(told) > 5*time.Second {
			told = time.Now()
			b.Say(fmt.Sprintf("compiling %s: %d of at most %d packages", c.name, done, total))
		}
	}})
}

// place writes an embedded folder out; NAME.txt of a module's files becomes NAME.
func place(from fs.FS, root, to string) error {
	return fs.WalkDir(from, root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		data, err := fs.ReadFile(from, path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, strings.TrimSuffix(rel, ".txt")), data, 0o644)
	})
}
