package platform

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"metalrise.dev/lab/recipe"
)

// The one change that is made to what KubeVirt is compiled from. Beside the
// bridge that joins a VM to its pod's port, KubeVirt puts a device of type dummy,
// which keeps the name, the MAC and the addresses that the port had. It carries
// nothing. Where the kernel has no such type, a bridge without ports keeps them
// as well. The change is made in the library that asks the kernel.
const (
	netlink    = "github.com/vishvananda/netlink"
	standInAt  = "link_linux.go"
	standInFor = `
func LinkAdd(link Link) error {
	return pkgHandle.LinkAdd(link)
}
`
	standIn = `
func LinkAdd(link Link) error {
	err := pkgHandle.LinkAdd(link)
	if dummy, ok := link.(*Dummy); ok && err == unix.EOPNOTSUPP {
		err = pkgHandle.LinkAdd(&Bridge{LinkAttrs: dummy.LinkAttrs})
	}
	return err
}
`
)

// standIns puts the changed library into the folder work, which holds a module,
// and has the module take that one.
func (b *builder) standIns(work string) error {
	source, err := b.moduleSource(work, netlink)
	if err != nil {
		return err
	}
	const here = "netlink"
	target := filepath.Join(work, here)
	if err := b.Run(recipe.Command{Name: "cp", Args: []string{"-r", "--no-preserve=mode", source, target}}); err != nil {
		return err
	}
	if err := change(filepath.Join(target, standInAt), standInFor, standIn); err != nil {
		return err
	}
	return b.Run(recipe.Command{Dir: work, Name: "go", Args: []string{"mod", "edit", "-replace", netlink + "=./" + here}, Env: environment()})
}

// change replaces the one place in a file where a text stands.
func change(path, from, to string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if n := strings.Count(string(text), from); n != 1 {
		return fmt.Errorf("%s holds %q %d times instead of once", path, from, n)
	}
	return write(path, strings.Replace(string(text), from, to, 1))
}

// moduleSource fetches a module that the one in work requires, and returns its
// folder, which nobody may write to.
func (b *builder) moduleSource(work, name string) (string, error) {
	b.Say("downloading the Go module " + name)
	if err := b.Run(recipe.Command{Dir: work, Name: "go", Args: []string{"mod", "download", name}, Env: environment()}); err != nil {
		return "", err
	}
	source, err := b.Output(recipe.Command{Dir: work, Name: "go", Args: []string{"list", "-m", "-f", "{{.Dir}}", name}, Env: environment()})
	return strings.TrimSpace(source), err
}
