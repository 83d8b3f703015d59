package nodeimage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"metalrise.dev/lab/recipe"
)

// ignitionVersion is the release of the Ignition module that the product pins
// in its own go.mod; TestIgnitionVersionIsTheProducts holds the two together.
const ignitionVersion = "2.27.0"

const ignitionModule = "github.com/coreos/ignition/v2"

// ignitionBuildArgs are the arguments of "go build" after "-o FILE".
//
// The program is linked statically so that one file serves the host, the
// initramfs and any chroot, whatever C library they have; it still finds the
// users of the root it works on, because the C library's "files" name service
// is built in. SELinux relabelling is off: the image has no policy.
func ignitionBuildArgs() []string {
	return []string{
		"-mod=readonly", "-trimpath", "-buildvcs=false", "-tags", "osusergo netgo",
		"-ldflags", strings.Join([]string{
			"-s", "-w", "-linkmode", "external", "-extldflags", "-static",
			"-X", ignitionModule + "/internal/version.Raw=" + ignitionVersion,
			"-X", ignitionModule + "/internal/distro.selinuxRelabel=false",
		}, " "),
		ignitionModule + "/internal",
	}
}

// IgnitionBinary returns the path of the real Ignition program, built from its
// Go module and kept under cacheDir by the content of everything it is made
// from. The program is static and runs on the host, in a chroot and in an
// initramfs. It needs go, a C compiler and libblkid's static library.
//
// progress may be nil; it is told each step in a few words.
func IgnitionBinary(ctx context.Context, cacheDir string, progress func(step string)) (string, error) {
	b, err := newBuilder(ctx, cacheDir, progress)
	if err != nil {
		return "", err
	}
	dir, err := b.ignition()
	if err != nil {
		return "", fmt.Errorf("build ignition %s: %w", ignitionVersion, err)
	}
	return filepath.Join(dir, "ignition"), nil
}

// ignition builds or finds the directory that holds the program ("ignition") and
// the dracut module of the same source ("dracut").
func (b *builder) ignition() (string, error) {
	key, err := b.ignitionKey()
	if err != nil {
		return "", err
	}
	return b.Cached("ignition", key, func(out, work string) error {
		b.Say("building ignition " + ignitionVersion + " from its Go module")
		for _, name := range []string{"go.mod", "go.sum"} {
			data, err := content.ReadFile("files/ignition/" + name + ".txt")
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(work, name), data, 0o644); err != nil {
				return err
			}
		}
		binary := filepath.Join(out, "ignition")
		args := append([]string{"build", "-o", binary}, ignitionBuildArgs()...)
		if err := b.Run(recipe.Command{Dir: work, Name: "go", Args: args, Env: goBuildEnv()}); err != nil {
			return err
		}
		source, err := b.Output(recipe.Command{Dir: work, Name: "go", Args: []string{"list", "-m", "-f", "{{.Dir}}", ignitionModule}, Env: goBuildEnv()})
		if err != nil {
			return err
		}
		// the module cache is read-only; what is copied from it must not be
		from := filepath.Join(strings.TrimSpace(source), "dracut", "30ignition")
		return b.Run(recipe.Command{Dir: out, Name: "sh", Args: []string{"-c", `cp -r "$1" dracut && chmod -R u+w dracut && chmod 755 dracut/*.sh dracut/ignition-generator`, "sh", from}})
	})
}

// goBuildEnv keeps the caller's Go settings (proxy, caches) and undoes the ones
// that would change the result: an outer workspace, other flags, cgo switched off.
func goBuildEnv() []string {
	return append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED=1", "GOOS=linux", "GOARCH=amd64")
}

func (b *builder) ignitionKey() (string, error) {
	version, err := b.Output(recipe.Command{Name: "go", Args: []string{"env", "GOVERSION"}})
	if err != nil {
		return "", fmt.Errorf("ask for the Go version: %w", err)
	}
	h := recipe.NewKey()
	h.Add("go", strings.TrimSpace(version))
	h.Add("args", ignitionBuildArgs()...)
	h.Add("holds", "ignition", "dracut")
	if err := h.AddFiles(content, "files/ignition"); err != nil {
		return "", err
	}
	return h.Sum(), nil
}
