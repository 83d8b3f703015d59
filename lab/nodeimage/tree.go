package nodeimage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"metalrise.dev/lab/recipe"
)

// packageTree returns a tar of the bare Debian tree, kept by the content of its
// package list, so that a change of our own files costs no new download.
func (b *builder) packageTree() (string, error) {
	packages, err := list("files/packages.txt")
	if err != nil {
		return "", err
	}
	return b.DebianTree(recipe.Configured, packages)
}

// list reads one of the embedded lists: a name on each line, # begins a comment.
func list(path string) ([]string, error) {
	data, err := content.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	return names, nil
}

// furnish makes the bare tree a node's: our files, users, units.
func furnish(root, version string) error {
	if err := place("files/tree", root); err != nil {
		return err
	}
	if err := place("files/dracut", filepath.Join(root, "usr/lib/dracut/modules.d")); err != nil {
		return err
	}
	masked, err := list("files/masked.txt")
	if err != nil {
		return err
	}
	for _, unit := range masked {
		link := filepath.Join(root, "etc/systemd/system", unit)
		if err := os.RemoveAll(link); err != nil {
			return err
		}
		if err := os.Symlink("/dev/null", link); err != nil {
			return err
		}
	}
	osRelease, err := os.ReadFile(filepath.Join(root, "usr/lib/os-release"))
	if err != nil {
		return err
	}
	for path, text := range map[string]string{
		"usr/lib/os-release": strings.TrimRight(string(osRelease), "\n") + "\n" +
			"VARIANT=\"metalrise lab node\"\nVARIANT_ID=lab-node\nIMAGE_ID=lab-node\nIMAGE_VERSION=" + version + "\n",
		// first boot: systemd makes the id and applies the presets that Ignition wrote
		"etc/machine-id": "uninitialized\n",
		"etc/fstab":      "",
		"etc/hosts":      "127.0.0.1 localhost\n::1 localhost\n",
	} {
		if err := replace(filepath.Join(root, path), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// settle is run in the furnished tree by a shell: what needs the tree's own
// programs. The tree's presets decide which units are on; whatever the package
// scripts switched on is forgotten first.
const settle = `set -eu
getent group wheel >/dev/null || groupadd --system wheel
passwd --quiet --lock root
find /etc/systemd/system -mindepth 2 -type l -delete
rm -f /etc/systemd/system/dbus-org.*
systemctl preset-all --quiet
ln -sf /usr/lib/systemd/system/multi-user.target /etc/systemd/system/default.target
mkdir -p /etc/chrony.d /etc/pki/ca-trust/source/anchors /var/lib/chrony
rm -f /etc/chrony/chrony.conf /var/lib/dbus/machine-id
`

// place copies an embedded directory into the tree. Embedded files carry no
// modes: what lies in a directory of programs is executable, what sudo reads is
// closed, and the rest is plain.
func place(from, to string) error {
	return fs.WalkDir(content, from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		data, err := content.ReadFile(path)
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		dirs := strings.Split(filepath.Dir(rel), "/")
		switch {
		case slices.Contains(dirs, "bin"), slices.Contains(dirs, "libexec"), strings.HasPrefix(string(data), "#!"):
			mode = 0o755
		case slices.Contains(dirs, "sudoers.d"):
			mode = 0o440
		}
		return replace(target, data, mode)
	})
}

// replace writes a file in place of whatever is there. A link of the tree leads, for
// us outside of it, to a file of this computer: it is never followed.
func replace(path string, data []byte, mode os.FileMode) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Chmod(mode), f.Close())
}

// strip removes what the running node does not need.
func strip(root string) error {
	patterns, err := list("files/removed.txt")
	if err != nil {
		return err
	}
	for _, pattern := range patterns {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
		for _, path := range paths {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	return nil
}
