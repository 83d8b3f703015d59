package platform

import (
	"slices"
	"strings"

	"metalrise.dev/lab/recipe"
)

// launcherPackages are what virt-launcher and virt-handler find around them:
// libvirt and QEMU, the tools that set up a VM's network and disks, and those
// that make the disk with cloud-init's data.
func launcherPackages() []string {
	return []string{"iproute2", "libvirt-clients", "libvirt-daemon", "libvirt-daemon-driver-qemu", "nftables", "procps",
		"qemu-system-x86", "qemu-utils", "xorriso"}
}

// launcherRelease has libvirt 11 and QEMU 10, which KubeVirt 1.6 is made for.
// With those of Debian 12, what moves may neither have a disk that KubeVirt
// generated nor take more than one stream. The programs are compiled with Debian
// 12's libraries, which these go on to serve.
const launcherRelease = recipe.Trixie

// kept tells whether a file of the Debian tree goes into the launcher's image.
// What is left out is for the upkeep of a system, or for other processors: some
// 150 MB. libvirt looks into every QEMU that it finds at its start, so that one
// is also quicker.
func kept(name string) bool {
	for _, dir := range []string{"boot", "dev", "proc", "sys", "run", "tmp", "home", "media", "mnt", "srv", "opt",
		"var/backups", "var/cache", "var/lib/apt", "var/lib/dpkg", "var/lib/systemd", "var/log", "var/run",
		"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/zoneinfo", "usr/share/perl", "usr/share/perl5",
		"usr/share/bash-completion", "usr/lib/x86_64-linux-gnu/perl", "usr/lib/x86_64-linux-gnu/perl-base", "usr/lib/x86_64-linux-gnu/gconv",
		"usr/lib/systemd", "lib/systemd", "usr/lib/x86_64-linux-gnu/systemd", "usr/lib/udev", "lib/udev", "etc/systemd", "etc/init.d", "etc/rc0.d", "etc/apt", "etc/libvirt/nwfilter"} {
		if name == dir || strings.HasPrefix(name, dir+"/") {
			return false
		}
	}
	return !slices.Contains([]string{"usr/bin/qemu-system-i386", "usr/bin/qemu-system-x86_64-microvm", "usr/bin/perl", "usr/bin/perl5.36.0", "usr/bin/perl5.40.1", "etc/passwd", "etc/group", "etc/shadow", "etc/gshadow",
		"etc/passwd-", "etc/group-", "etc/shadow-", "etc/gshadow-", "etc/libvirt/qemu.conf", "etc/libvirt/virtlogd.conf"}, name)
}

// virtqemud stands for the daemon that Debian has not: its libvirt comes as one
// daemon for all drivers, which listens on a socket of another name. The
// link between the two names is relative, as is that of /var/run below:
// virt-handler looks at them from outside, where absolute links lead elsewhere,
// and without the socket no VM can move.
const virtqemud = `#!/bin/sh
mkdir -p /var/run/libvirt
ln -sfn libvirt-sock /var/run/libvirt/virtqemud-sock
exec /usr/sbin/libvirtd "$@"
`

// Accounts of the launcher's image. KubeVirt runs VMs as 107, and libvirt of
// Debian insists on an account of its own; 1001 is whom KubeVirt's other
// programs run as.
const (
	accounts = "root:x:0:0:root:/root:/bin/sh\nqemu:x:107:107:qemu:/home/qemu:/bin/sh\n" +
		"libvirt-qemu:x:64055:107:libvirt:/var/lib/libvirt:/usr/sbin/nologin\nnonroot:x:1001:1001::/:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
	groups = "root:x:0:\ntty:x:5:\nkvm:x:36:qemu\nqemu:x:107:\nlibvirt:x:108:\nlibvirt-qemu:x:64055:\nnonroot:x:1001:\nnogroup:x:65534:\n"
)

// netBindService is the file capability CAP_NET_BIND_SERVICE, permitted and
// effective, as the kernel keeps it with a file: struct vfs_cap_data of version
// 2 in linux/capability.h, little endian. virt-launcher runs as an ordinary user
// and may not start without it.
const netBindService = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// launcher is the one image of virt-handler and virt-launcher.
func (b *builder) launcher(kv built) (image, error) {
	tree, err := b.DebianTreeOf(launcherRelease, recipe.Configured, launcherPackages())
	if err != nil {
		return image{}, err
	}
	system := func(l *layer) {
		l.tree(tree, kept)
		for _, dir := range []string{"dev", "proc", "sys", "run", "home/qemu", "var/log/libvirt/qemu", "var/lib/libvirt", "var/cache/libvirt"} {
			l.folder(dir, 0o755)
		}
		l.folder("tmp", 0o1777)
		l.link("var/run", "../run")
		l.text("etc/passwd", accounts, 0o644)
		l.text("etc/group", groups, 0o644)
		l.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644)
		l.text("etc/libvirt/virtlogd.conf", "# defaults\n", 0o644)
		l.text("usr/sbin/virtqemud", virtqemud, 0o755)
	}
	programs := func(l *layer) {
		l.file("etc/libvirt/qemu.conf", kv.file("cmd/virt-launcher/qemu.conf"), 0o644, "")
		l.file("etc/libvirt/virtqemud.conf", kv.file("cmd/virt-launcher/virtqemud.conf"), 0o644, "")
		l.file("etc/libvirt/hooks/qemu", kv.file("cmd/virt-launcher/qemu"), 0o755, "")
		l.program("usr/bin/node-labeller.sh", kv.file("cmd/virt-launcher/node-labeller/node-labeller.sh"))
		l.file("usr/bin/virt-launcher-monitor", kv.shared("virt-launcher-monitor"), 0o755, netBindService)
		for _, name := range []string{"virt-launcher", "virt-handler"} {
			l.program("usr/bin/"+name, kv.shared(name))
		}
		for _, name := range []string{"container-disk", "virt-chroot", "virt-freezer", "virt-probe", "virt-tail"} {
			l.program("usr/bin/"+name, kv.static(name))
		}
	}
	return image{name: "kubevirt-launcher", references: []string{reference("virt-handler"), reference("virt-launcher")},
		entrypoint: []string{"/usr/bin/virt-launcher"}, layers: []func(*layer){system, programs}}, nil
}

// controllers is the image of what runs beside the API: KubeVirt's operator, API
// and controller. They insist on not being root.
func controllers(kv built) image {
	i := image{name: "kubevirt", user: "1001"}
	names := []string{"virt-operator", "virt-api", "virt-controller"}
	for _, name := range names {
		i.references = append(i.references, reference(name))
	}
	i.entrypoint = []string{"/usr/bin/" + names[0]}
	i.layers = []func(*layer){func(l *layer) {
		l.folder("tmp", 0o1777)
		l.text("etc/passwd", accounts, 0o644)
		l.text("etc/group", groups, 0o644)
		for _, name := range names {
			l.program("usr/bin/"+name, kv.static(name))
		}
	}}
	return i
}
