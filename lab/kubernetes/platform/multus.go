package platform

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/lab/recipe"
)

// MultusVersion is the Multus release that Build makes.
const MultusVersion = "v4.2.2"

const (
	multusModule = "gopkg.in/k8snetworkplumbingwg/multus-cni.v4"
	multusImage  = "ghcr.io/k8snetworkplumbingwg/multus-cni"
	// multusManifest is what upstream publishes for the plugin without a daemon,
	// which is one program less to run on each node.
	multusManifest = "deployments/multus-daemonset.yml"
	multusYAML     = "daemonset.yaml" // of the folder that is made
)

// multusPrograms are those of the image: the CNI plugin and a small one that it
// can stand in with, what copies both to the node, and what writes the
// configuration there.
func multusPrograms() []string {
	return []string{"multus", "passthru-cni", "install_multus", multusEntry}
}

// multusHost is how Multus writes the API's address, and multusFixed how it must:
// brackets are for IPv6, and since Go 1.25.2 the standard library refuses them
// around an IPv4 address. What upstream publishes is compiled with an older Go.
const (
	multusEntry = "thin_entrypoint"
	multusHost  = `"%s://[%s]:%s"`
	multusFixed = `"%s://%s:%s"`
)

// multus is Multus: its image and its DaemonSet.
func (b *builder) multus() (part, error) {
	version, err := b.goVersion()
	if err != nil {
		return part{}, err
	}
	k := recipe.NewKey()
	k.Add("go", version)
	k.Add("programs", multusPrograms()...)
	k.Add("manifest", multusManifest, MultusVersion)
	k.Add("fixed", multusEntry, multusHost, multusFixed)
	if err := k.AddFiles(content, "_modules/multus"); err != nil {
		return part{}, err
	}
	dir, err := b.Cached("multus", k.Sum(), b.compileMultus)
	if err != nil {
		return part{}, fmt.Errorf("build Multus %s: %w", MultusVersion, err)
	}
	return part{made: dir, pack: func(p *packing) error {
		if err := p.images(multusIn(dir)); err != nil {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, multusYAML))
		if err != nil {
			return err
		}
		return p.manifest(fleet.ComponentMultus, "daemonset", MultusVersion, string(text))
	}}, nil
}

// compileMultus makes Multus' programs and its manifest in out.
func (b *builder) compileMultus(out, work string) error {
	if err := place("_modules/multus", work); err != nil {
		return err
	}
	b.Say("compiling Multus")
	env := append(os.Environ(), "GOWORK=off", "GOFLAGS=", "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	if err := b.Run(recipe.Command{Dir: work, Name: "go", Args: []string{"mod", "download", multusModule}, Env: env}); err != nil {
		return err
	}
	source, err := b.Output(recipe.Command{Dir: work, Name: "go", Args: []string{"list", "-mod=mod", "-m", "-f", "{{.Dir}}", multusModule}, Env: env})
	if err != nil {
		return err
	}
	source = strings.TrimSpace(source)
	if err := fixMultus(source, work); err != nil {
		return err
	}
	const base = multusModule + "/pkg/multus."
	args := []string{"build", "-mod=mod", "-trimpath", "-buildvcs=false", "-o", out + "/",
		"-ldflags", "-s -w -X " + base + "version=" + MultusVersion + " -X " + base + "commit=module -X " + base + "date=2026-01-01T00:00:00Z"}
	for _, name := range multusPrograms() {
		if name == multusEntry {
			args = append(args, "./"+multusEntry)
		} else {
			args = append(args, multusModule+"/cmd/"+name)
		}
	}
	if err := b.Run(recipe.Command{Dir: work, Name: "go", Args: args, Env: env}); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(source, multusManifest))
	if err != nil {
		return err
	}
	// The manifest names what was built last, whatever that is.
	named := strings.ReplaceAll(string(text), multusImage+":snapshot", multusImage+":"+MultusVersion)
	if strings.Count(named, multusImage+":"+MultusVersion) != 2 {
		return fmt.Errorf("%s of Multus does not name the image %s:snapshot twice", multusManifest, multusImage)
	}
	return write(filepath.Join(out, multusYAML), named)
}

// fixMultus puts the corrected program into the folder that is compiled in.
func fixMultus(source, work string) error {
	path := filepath.Join(source, "cmd", multusEntry, "main.go")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.Count(string(text), multusHost) != 1 {
		return fmt.Errorf("%s does not write %s once", path, multusHost)
	}
	if err := os.Mkdir(filepath.Join(work, multusEntry), 0o755); err != nil {
		return err
	}
	return write(filepath.Join(work, multusEntry, "main.go"), strings.Replace(string(text), multusHost, multusFixed, 1))
}

// multusIn is the image of the programs in dir.
func multusIn(dir string) image {
	return image{name: "multus", references: []string{multusImage + ":" + MultusVersion}, entrypoint: []string{"/thin_entrypoint"}, layers: []func(*layer){func(l *layer) {
		l.folder("tmp", 0o1777)
		l.program("usr/src/multus-cni/bin/multus", filepath.Join(dir, "multus"))
		l.program("usr/src/multus-cni/bin/passthru", filepath.Join(dir, "passthru-cni"))
		l.program("install_multus", filepath.Join(dir, "install_multus"))
		l.program("thin_entrypoint", filepath.Join(dir, "thin_entrypoint"))
	}}}
}
