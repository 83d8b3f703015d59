package platform

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/lab/recipe"
)

// WhereaboutsVersion is the release of Whereabouts that Build makes.
const WhereaboutsVersion = "v0.9.4"

const (
	whereaboutsModule = "github.com/k8snetworkplumbingwg/whereabouts"
	whereaboutsImage  = "ghcr.io/k8snetworkplumbingwg/whereabouts"
	whereaboutsYAML   = "whereabouts.yaml" // of the folder that is made
)

// whereaboutsPrograms are those of the image that its DaemonSet starts or puts on
// the node: name, and folder of the package in the module.
func whereaboutsPrograms() [][2]string {
	return [][2]string{{"whereabouts", "cmd"}, {"ip-control-loop", "cmd/controlloop"}}
}

// whereaboutsScripts put the plugin and its access to the API on the node.
func whereaboutsScripts() []string { return []string{"install-cni.sh", "lib.sh", "token-watcher.sh"} }

// whereaboutsManifests are definitions first, then what stands upon them, as
// upstream keeps them.
func whereaboutsManifests() []string {
	const definition = "doc/crds/whereabouts.cni.cncf.io_"
	return []string{definition + "ippools.yaml", definition + "overlappingrangeipreservations.yaml", definition + "nodeslicepools.yaml",
		"doc/crds/daemonset-install.yaml"}
}

// shellPackages have a shell that needs no libraries, and shellTools are what the
// scripts call by name.
func shellPackages() []string { return []string{"busybox-static"} }

func shellTools() []string {
	return []string{"sh", "awk", "base64", "cat", "chmod", "cp", "date", "md5sum", "mkdir", "printf", "sed", "sleep", "touch", "tr"}
}

// whereabouts is Whereabouts, which gives the pods of a network addresses that no
// other pod of the cluster has: its image and its DaemonSet.
func (b *builder) whereabouts() (part, error) {
	version, err := b.goVersion()
	if err != nil {
		return part{}, err
	}
	k := recipe.NewKey()
	k.Add("go", version)
	k.Add("version", WhereaboutsVersion)
	k.Add("files", append(whereaboutsScripts(), whereaboutsManifests()...)...)
	if err := k.AddFiles(content, "_modules/whereabouts"); err != nil {
		return part{}, err
	}
	dir, err := b.Cached("whereabouts", k.Sum(), b.compileWhereabouts)
	if err != nil {
		return part{}, fmt.Errorf("build Whereabouts %s: %w", WhereaboutsVersion, err)
	}
	return part{made: dir, packages: shellPackages(), pack: func(p *packing) error {
		tree, err := b.DebianTree(recipe.Extracted, shellPackages())
		if err != nil {
			return err
		}
		if err := p.images(whereaboutsIn(dir, tree)); err != nil {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, whereaboutsYAML))
		if err != nil {
			return err
		}
		return p.manifest(fleet.ComponentWhereabouts, "daemonset", WhereaboutsVersion, string(text))
	}}, nil
}

func (b *builder) compileWhereabouts(out, work string) error {
	if err := place("_modules/whereabouts", work); err != nil {
		return err
	}
	source, err := b.moduleSource(work, whereaboutsModule)
	if err != nil {
		return err
	}
	b.Say("compiling Whereabouts")
	const base = whereaboutsModule + "/pkg/version."
	env := append(environment(), "CGO_ENABLED=0")
	linker := "-s -w -X " + base + "Version=" + WhereaboutsVersion + " -X " + base + "GitSHA=module -X " + base + "ReleaseStatus=released"
	for _, program := range whereaboutsPrograms() {
		args := []string{"build", "-mod=mod", "-trimpath", "-buildvcs=false", "-ldflags", linker,
			"-o", filepath.Join(out, program[0]), whereaboutsModule + "/" + program[1]}
		if err := b.Run(recipe.Command{Dir: work, Name: "go", Args: args, Env: env}); err != nil {
			return err
		}
	}
	for _, name := range whereaboutsScripts() {
		if err := b.Run(recipe.Command{Name: "cp", Args: []string{"--no-preserve=mode", filepath.Join(source, "script", name), out}}); err != nil {
			return err
		}
	}
	return joinManifests(source, filepath.Join(out, whereaboutsYAML))
}

// joinManifests makes one file of Whereabouts' manifests. They name the newest
// image, whatever that is; it becomes the one that is built.
func joinManifests(source, path string) error {
	var all []string
	for _, name := range whereaboutsManifests() {
		text, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			return err
		}
		all = append(all, string(text))
	}
	text := strings.Join(all, "\n---\n")
	if n := strings.Count(text, whereaboutsImage+":latest"); n != 1 {
		return fmt.Errorf("the manifests of Whereabouts name the image %s:latest %d times instead of once", whereaboutsImage, n)
	}
	return write(path, strings.ReplaceAll(text, whereaboutsImage+":latest", whereaboutsImage+":"+WhereaboutsVersion))
}

// whereaboutsIn is the image of what lies in dir, with a shell of a Debian tree.
func whereaboutsIn(dir, tree string) image {
	return image{name: "whereabouts", references: []string{whereaboutsImage + ":" + WhereaboutsVersion}, entrypoint: []string{"/install-cni.sh"}, layers: []func(*layer){func(l *layer) {
		l.tree(tree, func(name string) bool { return name == "bin/busybox" || name == "usr/bin/busybox" })
		for _, tool := range shellTools() {
			l.link("bin/"+tool, "busybox")
		}
		l.folder("tmp", 0o1777)
		for _, program := range whereaboutsPrograms() {
			l.program(program[0], filepath.Join(dir, program[0]))
		}
		for _, name := range whereaboutsScripts() {
			l.program(name, filepath.Join(dir, name))
		}
	}}}
}
