package kube

import (
	"fmt"
	"net/netip"
	"strings"

	"metalrise.dev/fleet"
)

// Where things of ours lie on a node, besides the payload's files.
const (
	ownDir        = "/etc/metalrise/kube"
	patchesDir    = ownDir + "/patches"
	vipTemplate   = ownDir + "/keepalived.conf.in"
	vipRunDir     = "/run/metalrise/keepalived"
	initConfig    = ownDir + "/init.yaml"
	joinConfig    = ownDir + "/join.yaml"
	begunMark     = ownDir + "/begun"
	joinedMark    = ownDir + "/joined"
	beforeKubelet = ownDir + "/before-kubelet"
	settleScript  = ownDir + "/settle"
	onceScript    = ownDir + "/kubeadm-once"
	afterReset    = ownDir + "/after-reset"

	kubernetesDir = "/etc/kubernetes"
	pkiDir        = kubernetesDir + "/pki"
	manifestsDir  = kubernetesDir + "/manifests"
	cniConfDir    = "/etc/cni/net.d"
	cniBinDir     = "/opt/cni/bin"
	shell         = "/bin/sh"
)

// The scripts hold no value from outside but addresses, ports and paths that
// were checked for their letters. They are given to the shell by name, because
// SELinux lets systemd execute nothing that lies in /etc.

// modules is what pods' network and file systems need of the kernel.
func modules() []string { return []string{"overlay", "br_netfilter", "nf_conntrack", "vxlan"} }

// settings are kernel settings, and whether a node can do without. br_netfilter
// is not in every kernel; without it a pod cannot reach itself through a
// service on the same bridge.
func (n Node) settings() []setting {
	s := []setting{{"net.ipv4.ip_forward", "1", true}}
	if n.address().Is6() {
		s = []setting{{"net.ipv6.conf.all.forwarding", "1", true}}
	}
	s = append(s, setting{"net.bridge.bridge-nf-call-iptables", "1", false}, setting{"net.bridge.bridge-nf-call-ip6tables", "1", false})
	if !n.inContainer() {
		// Each watched log and each virt-launcher takes instances; the kernel's own
		// limit of 128 is for one desktop. A container shares its host's.
		s = append(s, setting{"fs.inotify.max_user_instances", "8192", false}, setting{"fs.inotify.max_user_watches", "524288", false})
	}
	return s
}

type setting struct {
	key, value string
	must       bool
}

// sysctlFile is for sysctl.d(5): "-" lets a setting fail that this kernel lacks.
func (n Node) sysctlFile() string {
	var b strings.Builder
	for _, s := range n.settings() {
		if !s.must {
			b.WriteByte('-')
		}
		fmt.Fprintf(&b, "%s = %s\n", s.key, s.value)
	}
	return b.String()
}

// beforeKubeletScript makes true what the kubelet and the pods take for granted.
// It runs at each start of the kubelet, because files below /etc that say the
// same are not honoured in containers, and because names of network interfaces
// may change from one boot to the next.
func (n Node) beforeKubeletScript() string {
	var b strings.Builder
	fmt.Fprintf(&b, `#!/bin/sh
# Runs before each start of the kubelet.
set -u
PATH=%s
export PATH

for module in %s; do
	modprobe -q "$module" 2>/dev/null # built in, or not there: seen below
done

`, n.searchPath(), strings.Join(modules(), " "))
	b.WriteString(`# put VALUE where SETTING should have it
put() {
	[ -e "$2" ] || return 1
	[ "$(cat "$2")" = "$1" ] || echo "$1" >"$2"
}
`)
	for _, s := range n.settings() {
		file := "/proc/sys/" + strings.ReplaceAll(s.key, ".", "/")
		if s.must {
			fmt.Fprintf(&b, "put %s %s || { echo 'metalrise: cannot set %s to %s' >&2; exit 1; }\n", s.value, file, s.key, s.value)
		} else {
			fmt.Fprintf(&b, "put %s %s 2>/dev/null\n", s.value, file)
		}
	}
	if !n.inContainer() {
		// Memory of VMs must not go to a disk unasked, and the kubelet would not
		// start. zram devices come back at each boot.
		b.WriteString("\n[ \"$(wc -l </proc/swaps)\" -le 1 ] || swapoff -a\n")
	}
	b.WriteString(`
# pods get a copy of it; without one none would start
[ -e /etc/resolv.conf ] || : >/etc/resolv.conf
mkdir -p /etc/kubernetes/manifests
`)
	if n.holdsVIP() {
		b.WriteString(n.interfaceScript())
	}
	b.WriteString("exit 0\n")
	return b.String()
}

// interfaceScript finds the interface that carries the node's own address: the
// plan knows ports by MAC, but a port, a bond over it and a VLAN on that share
// one. It may take a while until the network is up.
func (n Node) interfaceScript() string {
	return fmt.Sprintf(`
# keepalived wants the name of the interface that holds the node's address
interface=
tries=0
while [ -z "$interface" ]; do
	set -- $(ip -o address show to %s)
	interface=${2:-}
	interface=${interface%%%%@*}
	tries=$((tries + 1))
	[ "$tries" -lt 60 ] || { echo 'metalrise: no interface holds %s' >&2; exit 1; }
	[ -n "$interface" ] || sleep 1
done
mkdir -p %s
sed "s/@INTERFACE@/$interface/" %s >%s/new && mv %s/new %s/keepalived.conf || exit 1
`, single(n.address()), n.address(), vipRunDir, vipTemplate, vipRunDir, vipRunDir, vipRunDir)
}

// single is the prefix that holds one address.
func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// settle gives files below /opt and /etc the SELinux types that their places
// have by the system's policy: programs that the agent wrote would otherwise
// not be executed by systemd.
const settle = `#!/bin/sh
# Gives new files the SELinux types of their places, where there is SELinux.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
command -v restorecon >/dev/null 2>&1 || exit 0
[ -e /sys/fs/selinux/enforce ] || exit 0
exec restorecon -R "$@"
`

// once runs kubeadm and leaves a mark when it succeeded. Both are one step, so
// that a machine that stops in between is rare; a second run is then refused by
// kubeadm's own checks (join), or does no harm (init).
//
// kubeadm refuses a system that does not show how its kernel was configured, in
// any of the places that its checks know (k8s.io/system-validators, kernel
// validator). That says nothing of the kernel: what nodes need of it is loaded
// and tried before and after. So where there is no such file, that one check only warns.
func (n Node) once() string {
	return fmt.Sprintf(`#!/bin/sh
# kubeadm-once MARK ARGUMENT...: runs kubeadm unless MARK says that it was done.
# With - for MARK it runs always.
set -u
PATH=%s
export PATH
mark=$1
shift
[ ! -e "$mark" ] || exit 0
case $1 in init | join)
	modprobe -q configs 2>/dev/null
	kernel=$(uname -r)
	shown=
	for file in /proc/config.gz /boot/config-$kernel /usr/src/linux-$kernel/.config /usr/src/linux/.config /usr/lib/modules/$kernel/config \
		/usr/lib/ostree-boot/config-$kernel /usr/lib/kernel/config-$kernel /usr/src/linux-headers-$kernel/.config /lib/modules/$kernel/build/.config; do
		[ ! -e $file ] || shown=1
	done
	[ -n "$shown" ] || set -- "$@" --ignore-preflight-errors=SystemVerification
	;;
esac
%s "$@" || exit $?
[ "$mark" = - ] || { : >"$mark" && sync; }
`, n.searchPath(), n.program("kubeadm"))
}

// afterResetScript removes what kubeadm leaves in the kernel: links with the
// addresses of the pod network that was, and an API address that keepalived
// could not give back because it was killed.
func (n Node) afterResetScript() string {
	var b strings.Builder
	fmt.Fprintf(&b, `#!/bin/sh
# Removes what kubeadm reset leaves behind in the kernel.
PATH=%s
export PATH
`, n.searchPath())
	switch n.Plan.Cluster.CNI {
	case fleet.Flannel, fleet.FlannelHostGW:
		b.WriteString("for link in cni0 flannel.1 flannel-v6.1; do ip link delete $link 2>/dev/null; done\n")
	}
	if n.holdsVIP() {
		fmt.Fprintf(&b, `set -- $(ip -o address show to %s)
[ -z "${2:-}" ] || ip address delete %s dev "${2%%%%@*}"
`, single(n.vip()), single(n.vip()))
	}
	b.WriteString(`for family in ip ip6; do nft delete table $family kube-proxy 2>/dev/null; done
for family in ip ip6; do nft delete table $family flannel-ipv4 2>/dev/null; nft delete table $family flannel-ipv6 2>/dev/null; done
exit 0
`)
	return b.String()
}
