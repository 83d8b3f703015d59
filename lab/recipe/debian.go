package recipe

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Variant is how far a tree of Debian packages is brought.
type Variant string

const (
	// Configured is a system: the essential packages and those asked for, with
	// their scripts run.
	Configured Variant = "essential"
	// Extracted is only the files of the packages asked for and of all they
	// need; no script of theirs ran. Programs are taken out of such a tree, it
	// is not one to live in.
	Extracted Variant = "extract"
)

// Release is a release of Debian.
type Release string

const (
	// Bookworm is Debian 12, what the lab's machines run.
	Bookworm Release = "bookworm"
	// Trixie is Debian 13.
	Trixie Release = "trixie"
)

// DebianTree returns the path of a tar that holds the named packages of Debian 12
// and what they need, from the archives this computer itself uses. Downloaded
// packages and the tar are kept.
func (b *Builder) DebianTree(v Variant, packages []string) (string, error) {
	return b.DebianTreeOf(Bookworm, v, packages)
}

// DebianTreeOf is DebianTree of another release. This computer's keys must know
// that release's archive: those of a current Debian 12 know Debian 13.
func (b *Builder) DebianTreeOf(release Release, v Variant, packages []string) (string, error) {
	sources, err := hostSources("/", release)
	if err != nil {
		return "", err
	}
	k := NewKey()
	k.Add("release", string(release))
	k.Add("packages", packages...)
	k.Add("options", v.arguments(release, "", "", nil)...)
	name := "packages"
	if v == Extracted {
		name = "programs"
	}
	dir, err := b.Cached(name, k.Sum(), func(out, work string) error {
		b.Say("installing " + fmt.Sprint(len(packages)) + " Debian packages and what they need into a tree")
		debs := filepath.Join(b.CacheDir, release.debs())
		if err := os.MkdirAll(debs, 0o755); err != nil {
			return err
		}
		args := v.arguments(release, debs, filepath.Join(out, "tree.tar"), packages)
		// INITRD: the kernel package must not make an initramfs, we do.
		env := append(os.Environ(), "INITRD=No", "TMPDIR="+work, "LC_ALL=C.UTF-8")
		return b.Run(Command{Name: "mmdebstrap", Args: append(args, sources...), Env: env})
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "tree.tar"), nil
}

// arguments are mmdebstrap's but for the sources. Downloaded packages are kept
// in debs.
func (v Variant) arguments(release Release, debs, out string, packages []string) []string {
	args := []string{"--mode=root", "--variant=" + string(v), "--format=tar", "--quiet",
		"--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Languages \"none\"",
		"--dpkgopt=force-unsafe-io",
		"--skip=download/empty", "--skip=essential/unlink", "--skip=cleanup/apt/cache"}
	for _, hidden := range []string{"doc", "man", "locale", "info"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+hidden+"/*")
	}
	return append(args,
		`--setup-hook=mkdir -p "$1"/var/cache/apt/archives/`,
		"--setup-hook=sync-in "+debs+" /var/cache/apt/archives/",
		"--customize-hook=sync-out /var/cache/apt/archives "+debs,
		`--customize-hook=rm -f "$1"/var/cache/apt/archives/*.deb`,
		"--include="+strings.Join(packages, ","), string(release), out)
}

// debs is the folder of the cache for the release's downloaded packages, one for
// each release: apt would look through those of the other one too.
func (r Release) debs() string {
	if r == Bookworm {
		return "debs"
	}
	return "debs-" + string(r)
}
