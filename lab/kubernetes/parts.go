package kubernetes

import (
	"fmt"
	"path/filepath"
	"slices"

	"metalrise.dev/fleet"
)

// Folders on a node. /usr may be read-only there; /opt never is.
const (
	// BinDir holds programs.
	BinDir = "/opt/metalrise/bin"
	// CNIDir holds CNI plugins; it is the folder that container runtimes look into
	// by default.
	CNIDir = "/opt/cni/bin"
)

// part is one file of a payload.
type part struct {
	name, path string // as in fleet.PayloadFile
	source     string // on this computer; "" for a link
	target     string // of a link, on the node
}

// files lists what lies on nodes. programs is the folder that builder.programs
// returned.
func files(programs string, d debian) []part {
	var all []part
	program := func(name, source string) {
		all = append(all, part{name: name, path: filepath.Join(BinDir, name), source: source})
	}
	program(hyperName, filepath.Join(programs, "0", hyperName))
	for _, name := range []string{"kubelet", "kubeadm", "kubectl", "etcdctl"} {
		all = append(all, part{name: name, path: filepath.Join(BinDir, name), target: filepath.Join(BinDir, hyperName)})
	}
	for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
		program(name, filepath.Join(d.root, "usr/bin", name))
	}
	program("runc", filepath.Join(d.root, "usr/sbin/runc"))
	for _, name := range cniPlugins() {
		all = append(all, part{name: "cni/" + name, path: filepath.Join(CNIDir, name), source: filepath.Join(programs, "0", name)})
	}
	return append(all, part{name: "cni/flannel", path: filepath.Join(CNIDir, "flannel"), source: filepath.Join(programs, "2/flannel")})
}

// archive is one image with its place in a payload.
type archive struct {
	image
	name  string
	roles []fleet.Role // nodes that need it; none: all
}

// protocols names the protocols of transport (netbase, /etc/protocols). nft shows
// their numbers without it, and kube-proxy, which reads its own rules back once an
// hour, then takes them for leftovers of others and removes them: no address of a
// Service answers from that node any more.
func protocols() imageFile {
	return imageFile{path: "etc/protocols", text: "icmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6-icmp 58 IPv6-ICMP\nsctp 132 SCTP\n"}
}

// images lists what runs in containers. One archive serves all programs of
// hyper: five would carry the same file.
func images(programs string, d debian) ([]archive, error) {
	built := func(n int, name, path string) imageFile {
		return imageFile{path: path, source: filepath.Join(programs, fmt.Sprint(n), name)}
	}
	nft, err := d.program("usr/sbin/nft")
	if err != nil {
		return nil, err
	}
	conntrack, err := d.program("usr/sbin/conntrack")
	if err != nil {
		return nil, err
	}
	keepalived, err := d.program("usr/sbin/keepalived")
	if err != nil {
		return nil, err
	}
	hyper := []imageFile{built(0, hyperName, "usr/local/bin/"+hyperName)}
	var names []string
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "etcd"} {
		hyper = append(hyper, imageFile{path: "usr/local/bin/" + name, target: hyperName})
		tag := Version
		if name == "etcd" {
			tag = etcdTag
		}
		names = append(names, registry+name+":"+tag)
	}
	hyper = append(hyper, imageFile{path: "usr/local/bin/etcdctl", target: hyperName})
	controlPlanes := []fleet.Role{fleet.ControlPlane, fleet.SingleNode}
	return []archive{
		{name: "pause", image: image{references: []string{registry + "pause:" + pauseTag}, entrypoint: []string{"/pause"},
			files: []imageFile{built(0, "pause", "pause")}}},
		{name: "kubernetes", image: image{references: names, files: slices.Concat(hyper, nft, conntrack, []imageFile{protocols()})}},
		{name: "coredns", image: image{references: []string{registry + "coredns/coredns:" + dnsTag}, entrypoint: []string{"/coredns"},
			files: []imageFile{built(0, "coredns", "coredns")}}},
		{name: "flannel", image: image{references: []string{"ghcr.io/flannel-io/flannel:" + flannelTag}, entrypoint: []string{"/opt/bin/flanneld"},
			files: append([]imageFile{built(1, "flannel", "opt/bin/flanneld")}, nft...)}},
		{name: "keepalived", roles: controlPlanes, image: image{references: []string{"metalrise.dev/keepalived:" + keepalivedTag},
			entrypoint: []string{"/usr/sbin/keepalived"},
			files: append([]imageFile{built(0, "healthcheck", "usr/local/bin/healthcheck"),
				// It looks up the user under whom it runs its checks.
				{path: "etc/passwd", text: "root:x:0:0:root:/root:/sbin/nologin\n"}, {path: "etc/group", text: "root:x:0:\n"}}, keepalived...)}},
		{name: "echo", image: image{references: []string{"metalrise.dev/echo:1"}, entrypoint: []string{"/echo"},
			files: []imageFile{built(0, "echo", "echo")}}},
	}, nil
}
