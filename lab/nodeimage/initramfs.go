package nodeimage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"metalrise.dev/lab/recipe"
)

// chroot runs a shell script in the tree, with the kernel's file systems
// mounted in a mount namespace of its own.
func (b *builder) chroot(root, script string) error {
	outer := `set -eu
for d in proc sys dev; do mount --rbind "/$d" "$1/$d"; done
exec chroot "$1" /bin/bash -c "$2"`
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/", "TMPDIR=/tmp", "container=chroot"}
	return b.Run(recipe.Command{Name: "/bin/sh", Args: []string{"-c", outer, "sh", root, script}, Env: env, Private: true})
}

// initramfs runs dracut inside the tree and writes the compressed result to out.
// Ignition's own dracut module comes from the same Go module as the program.
func (b *builder) initramfs(root, out string) error {
	b.Say("making the initramfs with dracut inside the tree")
	if err := b.ignitionDracut(filepath.Join(root, "usr/lib/dracut/modules.d/30ignition")); err != nil {
		return fmt.Errorf("ignition's dracut module: %w", err)
	}
	kernel, err := kernelVersion(root)
	if err != nil {
		return err
	}
	err = b.chroot(root, `set -eu
dracut --force --quiet --no-hostonly --no-hostonly-cmdline --no-early-microcode --reproducible --no-compress \
	--kver `+kernel+` --modules "systemd systemd-initrd udev-rules ignition lab-node" /tmp/initrd.img`)
	if err != nil {
		return err
	}
	plain := filepath.Join(root, "tmp/initrd.img")
	defer os.Remove(plain)
	// dracut closes what it makes; this initramfs holds no secret
	if err := os.Chmod(plain, 0o644); err != nil {
		return err
	}
	return b.Run(recipe.Command{Name: "zstd", Args: []string{"-q", "-f", "-T0", "-9", plain, "-o", out}})
}

// ignitionDracut copies the dracut module that Ignition's source carries, with
// our program, and without its dependency on dracut's network module, which
// would bring a second DHCP client into the initramfs.
func (b *builder) ignitionDracut(target string) error {
	from, err := b.ignition()
	if err != nil {
		return err
	}
	if err := b.Run(recipe.Command{Name: "cp", Args: []string{"-r", filepath.Join(from, "dracut"), target}}); err != nil {
		return err
	}
	if err := b.Run(recipe.Command{Name: "cp", Args: []string{filepath.Join(from, "ignition"), target}}); err != nil {
		return err
	}
	setup := filepath.Join(target, "module-setup.sh")
	text, err := os.ReadFile(setup)
	if err != nil {
		return err
	}
	const dependencies = "echo qemu systemd url-lib network"
	if !strings.Contains(string(text), dependencies) {
		return errors.New("its dependencies are not the known ones; read module-setup.sh of the new version")
	}
	changed := strings.Replace(string(text), dependencies, "echo systemd", 1)
	if err := os.WriteFile(setup, []byte(changed), 0o755); err != nil {
		return err
	}
	// our helper takes the place of the one that only refuses
	helper, err := content.ReadFile("files/dracut/35lab-node/ignition-kargs-helper")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(target, "ignition-kargs-helper.sh"), helper, 0o755)
}

// kernelVersion is the name of the one kernel in the tree.
func kernelVersion(root string) (string, error) {
	paths, err := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if err != nil {
		return "", err
	}
	if len(paths) != 1 {
		return "", fmt.Errorf("the tree holds %d kernels, want one", len(paths))
	}
	return strings.TrimPrefix(filepath.Base(paths[0]), "vmlinuz-"), nil
}
