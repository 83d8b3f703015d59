package node

import (
	"path"
	"slices"
	"strings"
)

// The lists are a second line of defence behind the pinned and authenticated
// orders: a mistake in an order must not cost a machine its boot loader, its
// logins or somebody's data.

// writeRoots are the folders below which a step may put files.
func writeRoots() []string {
	return []string{
		"/etc/kubernetes", "/etc/containerd", "/etc/crio", "/etc/containers", "/etc/cni", "/etc/keepalived",
		"/etc/systemd/system", "/etc/sysctl.d", "/etc/modules-load.d", "/etc/modprobe.d", "/etc/udev/rules.d", "/etc/security/limits.d",
		"/etc/NetworkManager/conf.d", "/etc/profile.d", "/etc/logrotate.d", "/etc/metalrise/kube",
		"/opt/metalrise", "/opt/cni", "/usr/local/bin",
		"/var/lib/kubelet", "/var/lib/containerd", "/var/lib/etcd", "/var/lib/cni", "/var/lib/kube-proxy",
	}
}

// writeFiles are single files outside of those folders.
func writeFiles() []string { return []string{"/etc/crictl.yaml"} }

// removeRoots are the folders that a step may remove, or remove from.
func removeRoots() []string {
	return []string{
		"/etc/kubernetes", "/etc/cni", "/etc/containerd", "/etc/keepalived", "/etc/metalrise/kube",
		"/opt/metalrise", "/opt/cni", "/run/flannel", "/run/metalrise/keepalived",
		"/var/lib/kubelet", "/var/lib/etcd", "/var/lib/cni", "/var/lib/kube-proxy", Spool,
	}
}

// removeBelow are folders of others, of which a step may remove single entries.
func removeBelow() []string {
	return []string{"/etc/systemd/system", "/etc/sysctl.d", "/etc/modules-load.d", "/etc/modprobe.d", "/etc/NetworkManager/conf.d", "/etc/profile.d", "/usr/local/bin"}
}

// Spool is where archives lie while they are imported.
const Spool = "/var/lib/metalrise/spool"

// forbidden are places that no link may lead to, wherever it lies. All other
// programs of a node's software live elsewhere.
func forbidden() []string {
	return []string{"/boot", "/efi", "/dev", "/proc", "/sys", "/run/metalrise/agent", "/var/lib/metalrise/agent"}
}

// own are this program's own files below those folders.
func own() []string { return []string{"/usr/local/bin/metalrise", "/usr/local/bin/metalrise-fetch"} }

// plain tells whether p is an absolute path in its shortest form that a person
// could have typed.
func plain(p string) bool {
	const most = 1024
	if len(p) < 2 || len(p) > most || p[0] != '/' || path.Clean(p) != p {
		return false
	}
	return strings.IndexFunc(p, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '�' }) < 0
}

// within tells whether p is root or lies below it.
func within(p, root string) bool { return p == root || strings.HasPrefix(p, root+"/") }

// rootOf finds the longest of the roots that p is or lies below.
func rootOf(p string, roots []string) (string, bool) {
	best := ""
	for _, r := range roots {
		if within(p, r) && len(r) > len(best) {
			best = r
		}
	}
	return best, best != ""
}

// mayWrite gives the folder below which p may be written.
func mayWrite(p string) (root string, ok bool) {
	if !plain(p) || slices.Contains(own(), p) {
		return "", false
	}
	if slices.Contains(writeFiles(), p) {
		return path.Dir(p), true
	}
	root, ok = rootOf(p, writeRoots())
	return root, ok && root != p
}

// mayRemove gives the folder that holds what p may cost.
func mayRemove(p string) (root string, ok bool) {
	if !plain(p) || slices.Contains(own(), p) {
		return "", false
	}
	if slices.Contains(writeFiles(), p) {
		return path.Dir(p), true
	}
	if root, ok = rootOf(p, removeRoots()); ok {
		return root, true
	}
	root, ok = rootOf(p, removeBelow())
	return root, ok && root != p
}

// mayPoint tells whether a link at p may lead to target. A link to /dev/null is
// how systemd masks a unit.
func mayPoint(p, target string) bool {
	if target == "/dev/null" {
		return true
	}
	if target == "" || len(target) > 1024 || path.Clean(target) != target || strings.ContainsAny(target, "\x00\n") {
		return false
	}
	full := target
	if !path.IsAbs(full) {
		full = path.Join(path.Dir(p), target)
	}
	_, bad := rootOf(full, forbidden())
	return !bad && full != "/" && plain(full)
}
