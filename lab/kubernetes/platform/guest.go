package platform

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"metalrise.dev/guest"
	"metalrise.dev/lab/recipe"
)

// kernelPackages are where the guest's kernel is taken from: the one that Debian
// makes for virtual machines.
func kernelPackages() []string { return []string{"linux-image-cloud-amd64"} }

// guest is the guest of the proofs: one image.
func (b *builder) guest() (part, error) {
	program, err := b.guestProgram()
	if err != nil {
		return part{}, fmt.Errorf("build the guest of the proofs: %w", err)
	}
	return part{made: filepath.Dir(program), packages: kernelPackages(), pack: func(p *packing) error {
		i, err := b.guestImage(program, p.work)
		if err != nil {
			return err
		}
		return p.images(i)
	}}, nil
}

// guestImage holds a kernel and an initial RAM file system with program.
func (b *builder) guestImage(program, work string) (image, error) {
	tree, err := b.DebianTree(recipe.Extracted, kernelPackages())
	if err != nil {
		return image{}, err
	}
	b.Say("packing the guest of the proofs")
	root := filepath.Join(work, "guest")
	if err := os.Mkdir(root, 0o755); err != nil {
		return image{}, err
	}
	if err := b.Run(recipe.Command{Name: "tar", Args: []string{"-C", root, "--wildcards", "-xf", tree, "./boot/vmlinuz-*", "./lib/modules/*/kernel"}}); err != nil {
		return image{}, err
	}
	kernel, err := only(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil {
		return image{}, err
	}
	release := strings.TrimPrefix(filepath.Base(kernel), "vmlinuz-")
	initrd := filepath.Join(work, "initrd")
	if err := writeInitrd(initrd, program, filepath.Join(root, "lib/modules", release, "kernel")); err != nil {
		return image{}, err
	}
	disk := filepath.Join(work, "disk.img")
	if err := writeDisk(disk); err != nil {
		return image{}, err
	}
	return image{name: "guest", references: []string{GuestReference}, pinned: true, layers: []func(*layer){func(l *layer) {
		// KubeVirt and CDI look at them as the user that VMs run as. CDI takes what is
		// alone in its folder.
		l.file(guestDisk, disk, 0o644, "")
		l.file(strings.TrimPrefix(GuestKernel, "/"), kernel, 0o644, "")
		l.file(strings.TrimPrefix(GuestInitrd, "/"), initrd, 0o644, "")
	}}}, nil
}

// guestDisk is the disk image in the guest's container image, where KubeVirt and
// CDI look for one.
const guestDisk = "disk/disk.img"

func writeDisk(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return guest.WriteImage(f)
}

func only(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%d files match %s, want one", len(found), pattern)
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}

// guestProgram compiles package guest, from the sources that this program
// carries, to the one program of the guest.
func (b *builder) guestProgram() (string, error) {
	version, err := b.goVersion()
	if err != nil {
		return "", err
	}
	k := recipe.NewKey()
	k.Add("go", version)
	sources, err := guestSources()
	if err != nil {
		return "", err
	}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		k.Add(name, sources[name])
	}
	dir, err := b.Cached("guest", k.Sum(), func(out, work string) error {
		b.Say("compiling the guest of the proofs")
		for name, text := range sources {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(work, name)), 0o755); err != nil {
				return err
			}
			if err := write(filepath.Join(work, name), text); err != nil {
				return err
			}
		}
		env := append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
		return b.Run(recipe.Command{Dir: work, Name: "go", Env: env,
			Args: []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", filepath.Join(out, "init"), "."}})
	})
	return filepath.Join(dir, "init"), err
}

// guestMain is the whole of the guest's program besides package guest.
const guestMain = `package main

import (
	"os"

	"metalrise.dev/guest"
)

func main() {
	if os.Getpid() == 1 { // never on a host
		guest.Run()
	}
}
`

// guestSources are the files of a module with package guest and a main program.
func guestSources() (map[string]string, error) {
	all := map[string]string{"go.mod": "module metalrise.dev\n\ngo 1.24\n", "main.go": guestMain}
	err := fs.WalkDir(guest.Source, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := fs.ReadFile(guest.Source, path)
		all[filepath.Join("guest", path)] = string(data)
		return err
	})
	return all, err
}

// writeInitrd writes the guest's initial RAM file system, with the modules that
// it asks for and that the kernel has not built in.
func writeInitrd(path, program, kernelModules string) error {
	code, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	found := map[string]string{}
	err = filepath.WalkDir(kernelModules, func(path string, d fs.DirEntry, err error) error {
		found[filepath.Base(path)] = path
		return err
	})
	if err != nil {
		return fmt.Errorf("kernel modules: %w", err)
	}
	var modules []guest.Module
	for _, name := range guest.Modules() {
		if found[name] == "" {
			continue
		}
		data, err := os.ReadFile(found[name])
		if err != nil {
			return err
		}
		modules = append(modules, guest.Module{Name: name, Data: data})
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	return guest.Pack(out, code, modules)
}
