// Package nodeimage builds the lab's operating system image: a live ISO, PXE
// artefacts and a disk image with the shape and the habits of Fedora CoreOS,
// made from Debian packages and the real Ignition program, and kept by content.
//
// It never knows anything of the product: the image is a general one that any
// installer of CoreOS-like systems could use.
//
// # Live system
//
// The ISO boots by BIOS (isolinux) and UEFI (GRUB), as an optical disc or a USB
// disk. /images/pxeboot holds vmlinuz, initrd.img and rootfs.img, a newc cpio
// whose first member, root.squashfs, has its data at byte 124.
// /images/ignition.img is the embed area, loaded as a second initramfs: an
// Ignition config goes there as config.ign in a newc cpio, gzipped or not.
// /coreos/igninfo.json and /coreos/kargs.json describe the areas in
// coreos-installer's formats. The root is the squashfs below a tmpfs.
//
// # Installed system
//
// The disk has the partitions BIOS-BOOT, EFI-SYSTEM, boot and root, the last two
// ext4 with these labels. On boot: vmlinuz, initrd.img, grub/grub.cfg,
// grub/kargs.cfg (one line, set kargs="…", the arguments besides root= and
// Ignition's), ignition.firstboot (while it exists, Ignition runs; it may set
// ignition_network_kcmdline for that boot) and ignition/config.ign, the config
// an installer puts there. After the first boot reached multi-user,
// ignition-firstboot-complete.service removes the last two; it finds the boot
// file system as /dev/disk/by-label/boot.
//
// # Both
//
// One tree: systemd, udev, NetworkManager (only what keyfiles say), sshd with
// keys made on first boot, chrony with /etc/chrony.conf, certificate anchors in
// /etc/pki/ca-trust/source/anchors, a user core from /usr/lib/ignition/base.d.
// Units of the presets 40-lab-node.preset are on, others are off; the machine id
// is uninitialized, so that the first boot applies the presets Ignition wrote.
// The tree also boots in a container with /sys read-only and no udev.
package nodeimage

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/stream-metadata-go/stream"

	"metalrise.dev/lab/recipe"
)

// Names of the files in the directory that Ensure returns.
const (
	// StreamFile is CoreOS stream metadata with locations relative to itself.
	StreamFile = "stream.json"

	isoFile       = "lab-node-live.x86_64.iso"
	kernelFile    = "lab-node-live-kernel.x86_64"
	initramfsFile = "lab-node-live-initramfs.x86_64.img"
	rootfsFile    = "lab-node-live-rootfs.x86_64.img"
	rawFile       = "lab-node-metal.x86_64.raw"
	diskFile      = rawFile + ".zst"
)

// Stream and Arch are the names under which stream.json lists the image.
const (
	Stream = "metalrise-lab"
	Arch   = "x86_64"
)

// content is everything a build is made from besides packages and modules: the
// files it places, and the code that places them.
//
//go:embed all:files disk.go initramfs.go iso.go nodeimage.go tree.go
var content embed.FS

// builder makes one node image.
type builder struct{ *recipe.Builder }

func newBuilder(ctx context.Context, cacheDir string, progress func(string)) (*builder, error) {
	b, err := recipe.New(ctx, cacheDir, progress)
	return &builder{b}, err
}

// Ensure returns a directory that holds the node image, building it under
// cacheDir if nothing made from the same inputs is there: stream.json in the
// format of CoreOS stream metadata, and beside it the files it names. Building
// takes minutes and needs root, an apt mirror and the packages that
// metalrise's "make deps" installs. Any number of callers may ask at once; an
// interrupted build leaves nothing behind that a later one would use.
//
// progress may be nil; it is told each step in a few words.
func Ensure(ctx context.Context, cacheDir string, progress func(step string)) (dir string, err error) {
	b, err := newBuilder(ctx, cacheDir, progress)
	if err != nil {
		return "", err
	}
	k := recipe.NewKey()
	ignitionKey, err := b.ignitionKey()
	if err != nil {
		return "", fmt.Errorf("build node image: %w", err)
	}
	k.Add("ignition", ignitionKey)
	if err := k.AddFiles(content, "."); err != nil {
		return "", err
	}
	key := k.Sum()
	dir, err = b.Cached("image", key, func(out, work string) error { return b.image(key, out, work) })
	if err != nil {
		return "", fmt.Errorf("build node image: %w", err)
	}
	return dir, nil
}

// squashfsArgs choose how the live root is packed. zstd is half the size of lz4
// and costs a software-emulated machine little when it reads.
var squashfsArgs = []string{"-comp", "zstd", "-Xcompression-level", "15", "-b", "131072"}

// image makes everything into out.
func (b *builder) image(key, out, work string) error {
	version := "12.lab." + key[:8]
	tar, err := b.packageTree()
	if err != nil {
		return fmt.Errorf("package tree: %w", err)
	}
	root := filepath.Join(work, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	b.Say("furnishing the tree")
	if err := b.Run(recipe.Command{Name: "tar", Args: []string{"-C", root, "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xf", tar}}); err != nil {
		return err
	}
	if err := furnish(root, version); err != nil {
		return fmt.Errorf("furnish the tree: %w", err)
	}
	if err := b.chroot(root, settle); err != nil {
		return fmt.Errorf("settle the tree: %w", err)
	}
	at := func(name string) string { return filepath.Join(out, name) }
	if err := b.initramfs(root, at(initramfsFile)); err != nil {
		return fmt.Errorf("initramfs: %w", err)
	}
	kernel, err := kernelVersion(root)
	if err != nil {
		return err
	}
	if err := b.Run(recipe.Command{Name: "cp", Args: []string{filepath.Join(root, "boot/vmlinuz-"+kernel), at(kernelFile)}}); err != nil {
		return err
	}
	if err := strip(root); err != nil {
		return fmt.Errorf("strip the tree: %w", err)
	}
	if err := b.rootfs(root, work, at(rootfsFile)); err != nil {
		return fmt.Errorf("rootfs: %w", err)
	}
	if err := b.wantRootfs(work, at(rootfsFile), at(initramfsFile)); err != nil {
		return fmt.Errorf("digest of the rootfs: %w", err)
	}
	if err := b.liveISO(work, out, at(isoFile)); err != nil {
		return fmt.Errorf("live ISO: %w", err)
	}
	if err := b.diskImage(work, root, out, filepath.Join(work, rawFile)); err != nil {
		return fmt.Errorf("disk image: %w", err)
	}
	b.Say("compressing the disk image")
	if err := b.Run(recipe.Command{Name: "zstd", Args: []string{"-q", "-T0", "-9", filepath.Join(work, rawFile), "-o", at(diskFile)}}); err != nil {
		return err
	}
	return writeStream(out, filepath.Join(work, rawFile), version)
}

// rootfs packs the tree as squashfs, alone in an uncompressed cpio. The name
// root.squashfs makes the newc header 124 bytes long.
func (b *builder) rootfs(root, work, out string) error {
	b.Say("packing the live root")
	squashfs := filepath.Join(work, "root.squashfs")
	args := append([]string{root, squashfs, "-noappend", "-quiet", "-no-progress"}, squashfsArgs...)
	if err := b.Run(recipe.Command{Name: "mksquashfs", Args: args}); err != nil {
		return err
	}
	defer os.Remove(squashfs)
	return b.Run(recipe.Command{Dir: work, Name: "sh", Args: []string{"-c",
		`echo root.squashfs | cpio --quiet --reproducible -H newc -R 0:0 -o > "$1"`, "sh", out}})
}

// digestFile is where the initramfs has the SHA-256 of the rootfs that belongs to
// it, and of no other: CoreOS keeps checksums of the same purpose in
// /etc/coreos-live-want-rootfs.
const digestFile = "etc/rootfs.sha256"

// wantRootfs appends an archive with the digest of rootfs to the initramfs: the
// kernel unpacks archives that follow each other, from multiples of four bytes on.
func (b *builder) wantRootfs(work, rootfs, initramfs string) error {
	sum, err := fileSHA256(rootfs)
	if err != nil {
		return err
	}
	dir := filepath.Join(work, "digest")
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(digestFile)), 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, digestFile), []byte(sum+"\n"), 0o644); err != nil {
		return err
	}
	st, err := os.Stat(initramfs)
	if err != nil {
		return err
	}
	if err := os.Truncate(initramfs, (st.Size()+3)&^3); err != nil {
		return err
	}
	return b.Run(recipe.Command{Dir: dir, Name: "sh", Args: []string{"-c",
		`echo "$2" | cpio --quiet --reproducible -H newc -R 0:0 -o >> "$1"`, "sh", initramfs, digestFile}})
}

// writeStream describes the finished files in out; raw is the disk image before
// its compression.
func writeStream(out, raw, version string) error {
	artifact := func(name string) (*stream.Artifact, error) {
		sum, err := fileSHA256(filepath.Join(out, name))
		return &stream.Artifact{Location: name, Sha256: sum}, err
	}
	found := map[string]*stream.Artifact{}
	for _, name := range []string{isoFile, kernelFile, initramfsFile, rootfsFile, diskFile} {
		a, err := artifact(name)
		if err != nil {
			return err
		}
		found[name] = a
	}
	sum, err := fileSHA256(raw)
	if err != nil {
		return err
	}
	found[diskFile].UncompressedSha256 = sum
	s := stream.Stream{
		Stream:   Stream,
		Metadata: stream.Metadata{LastModified: time.Now().UTC().Format(time.RFC3339), Generator: "metalrise lab/nodeimage"},
		Architectures: map[string]stream.Arch{Arch: {Artifacts: map[string]stream.PlatformArtifacts{"metal": {
			Release: version,
			Formats: map[string]stream.ImageFormat{
				"iso":     {Disk: found[isoFile]},
				"raw.zst": {Disk: found[diskFile]},
				"pxe":     {Kernel: found[kernelFile], Initramfs: found[initramfsFile], Rootfs: found[rootfsFile]},
			},
		}}}},
	}
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, StreamFile), append(data, '\n'), 0o644)
}

func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return strings.ToLower(hex.EncodeToString(h.Sum(nil))), nil
}
