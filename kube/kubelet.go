package kube

import (
	"fmt"
	"maps"

	"metalrise.dev/fleet"
)

const kubeletUnit = `[Unit]
Description=kubelet, the node agent of Kubernetes
Documentation=https://kubernetes.io/docs/
Wants=containerd.service
After=network.target containerd.service
ConditionPathExists=/var/lib/kubelet/config.yaml
StartLimitIntervalSec=0

[Service]
ExecStart=%s
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
`

// kubeletDropIn is in the form that kubeadm's documentation names: kubeadm
// writes config.yaml and kubeadm-flags.env and starts the unit.
const kubeletDropIn = `[Service]
Environment="PATH=%s"
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStartPre=` + shell + ` ` + beforeKubelet + `
ExecStart=
ExecStart=%s $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS
`

const containerdUnit = `[Unit]
Description=containerd, the container runtime
Documentation=https://containerd.io
After=network.target local-fs.target

[Service]
Type=notify
Environment="PATH=%s"
ExecStart=%s --config /etc/containerd/config.toml
Restart=always
RestartSec=2
# containers outlive a restart of it, and have control groups of their own
KillMode=process
Delegate=yes
LimitNPROC=infinity
LimitCORE=infinity
LimitNOFILE=1048576
TasksMax=infinity
%s
[Install]
WantedBy=multi-user.target
`

func (n Node) containerdUnit() string {
	oom := ""
	if n.Runtime.MayLowerOOM {
		oom = "OOMScoreAdjust=-999\n"
	}
	return fmt.Sprintf(containerdUnit, n.searchPath(), n.program("containerd"), oom)
}

// containerdConfig is in the form of version 2, which containerd 1.3 to 2.x read.
func (n Node) containerdConfig() string {
	oomScore := 0
	if n.Runtime.MayLowerOOM {
		oomScore = -999
	}
	return fmt.Sprintf(`version = 2
oom_score = %d

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = %t
  disable_apparmor = %t

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = %q
    conf_dir = %q

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = %q
        SystemdCgroup = true

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
`, oomScore, n.image("pause").String(), !n.Runtime.MayLowerOOM, n.inContainer(), cniBinDir, cniConfDir, n.program("runc"))
}

// kubeletDefaults is the kubelet's configuration for all nodes alike; kubeadm
// keeps it in the cluster for those who come later.
//
// Images come with the payload and from nowhere else, so none is ever removed
// because it was idle: 100 % switches that off. Under disk pressure the kubelet
// still removes idle ones before it evicts pods.
func kubeletDefaults(gates map[string]bool) map[string]any {
	k := map[string]any{
		"apiVersion":                  "kubelet.config.k8s.io/v1beta1",
		"kind":                        "KubeletConfiguration",
		"cgroupDriver":                "systemd", // it is pid 1 on every node, and one owner is enough
		"rotateCertificates":          true,
		"serverTLSBootstrap":          true,
		"imageGCHighThresholdPercent": 100,
		"imageGCLowThresholdPercent":  99,
		"memorySwap":                  map[string]any{"swapBehavior": "NoSwap"},
		// All of them: one that is left out would be off. Memory is kept above the
		// kubelet's own 100 MiB, because VMs take it in large pieces.
		"evictionHard": map[string]string{
			"memory.available": "200Mi", "nodefs.available": "10%", "imagefs.available": "10%",
			"nodefs.inodesFree": "5%", "imagefs.inodesFree": "5%",
		},
	}
	if len(gates) > 0 {
		k["featureGates"] = gates
	}
	return k
}

// kubeletPatch is what differs from node to node; kubeadm merges it into the
// defaults when it writes the node's own file.
//
// Swap: VMs' memory must not be swapped, so hardware has none (before-kubelet
// switches it off) and the kubelet refuses to start with any. A container sees
// its host's swap and cannot change it; its pods get none by NoSwap.
func (n Node) kubeletPatch() map[string]any {
	k := map[string]any{
		"failSwapOn": !n.inContainer(),
	}
	if n.Runtime.CgroupVersion == 1 {
		k["failCgroupV1"] = false
	}
	if !n.Runtime.MayLowerOOM {
		k["oomScoreAdj"] = 0
	}
	reserved := maps.Clone(n.Assignment.Node.SystemReserved)
	if n.Assignment.Node.StaticCPUs {
		k["cpuManagerPolicy"] = "static"
		if reserved["cpu"] == "" {
			// The policy needs something to keep for everybody else.
			if reserved == nil {
				reserved = map[string]string{}
			}
			reserved["cpu"] = "500m"
		}
	}
	if len(reserved) > 0 {
		k["systemReserved"] = reserved
	}
	return k
}

// proxyConfig is kube-proxy's for all nodes. A container may not change how many
// connections its host's kernel tracks.
func (n Node) proxyConfig() map[string]any {
	p := map[string]any{
		"apiVersion":  "kubeproxy.config.k8s.io/v1alpha1",
		"kind":        "KubeProxyConfiguration",
		"mode":        "nftables",
		"clusterCIDR": n.Plan.Cluster.PodCIDR,
	}
	if n.inContainer() {
		p["conntrack"] = map[string]any{"maxPerCore": 0, "min": 0}
	}
	if !n.Runtime.MayLowerOOM {
		p["oomScoreAdj"] = 0
	}
	if len(n.Gates) > 0 {
		p["featureGates"] = n.Gates
	}
	return p
}

// hasFlannel tells whether the pod network is ours to configure.
func hasFlannel(c fleet.CNI) bool { return c == fleet.Flannel || c == fleet.FlannelHostGW }
