package kubernetes

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

const containerdUnit = `[Unit]
Description=Container runtime
After=network.target
[Service]
Environment=PATH=/opt/metalrise/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/opt/metalrise/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=2
LimitNOFILE=infinity
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
`

const containerdConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.10.1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
`

const kubeletUnit = `[Unit]
Description=Kubelet
ConditionPathExists=/var/lib/kubelet/config.yaml
Wants=containerd.service
After=containerd.service
[Service]
Environment=PATH=/opt/metalrise/bin:/usr/sbin:/usr/bin:/sbin:/bin
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/opt/metalrise/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
Restart=always
RestartSec=2
[Install]
WantedBy=multi-user.target
`

const clusterUnit = `[Unit]
Description=Make this machine a node
Wants=network-online.target
After=network-online.target
[Service]
Type=exec
Environment=PATH=/opt/metalrise/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
ExecStart=/usr/local/bin/join-cluster
StandardOutput=journal+console
StandardError=journal+console
[Install]
WantedBy=multi-user.target
`

// keepalivedPod holds the virtual address on one of the control planes.
const keepalivedPod = `apiVersion: v1
kind: Pod
metadata: {name: keepalived, namespace: kube-system}
spec:
  hostNetwork: true
  priorityClassName: system-node-critical
  containers:
  - name: keepalived
    image: metalrise.dev/keepalived:2.2.7
    imagePullPolicy: Never
    args: [--dont-fork, --log-console, --log-detail, --vrrp, --use-file=/etc/keepalived/keepalived.conf]
    securityContext: {capabilities: {add: [NET_ADMIN, NET_BROADCAST, NET_RAW]}}
    volumeMounts: [{name: config, mountPath: /etc/keepalived, readOnly: true}]
  volumes: [{name: config, hostPath: {path: /etc/keepalived, type: Directory}}]
`

func (c *testCluster) keepalivedConfig(n *testNode) string {
	return fmt.Sprintf(`global_defs {
  script_user root
  enable_script_security
}
vrrp_script api {
  script "/usr/local/bin/healthcheck https://127.0.0.1:6443/readyz 3s"
  interval 2
  timeout 4
  rise 1
  fall 2
}
vrrp_instance api {
  state BACKUP
  interface ens3
  virtual_router_id 51
  priority %d
  advert_int 1
  nopreempt
  virtual_ipaddress { %s/32 dev ens3 }
  track_script { api }
}
`, 100-n.index, c.virtual())
}

func (c *testCluster) kubeadmConfig(n *testNode) string {
	registration := fmt.Sprintf(`nodeRegistration:
  name: %s
  criSocket: unix:///run/containerd/containerd.sock
  imagePullPolicy: Never
  kubeletExtraArgs: [{name: node-ip, value: %s}]
`, n.name, c.address(n.index))
	if n.index > 1 {
		join := fmt.Sprintf("apiVersion: kubeadm.k8s.io/v1beta4\nkind: JoinConfiguration\n"+
			"discovery: {bootstrapToken: {token: %s, apiServerEndpoint: %q, caCertHashes: [%q]}}\n", testToken, c.virtual()+":6443", c.caHash)
		if n.controlPlane {
			join += fmt.Sprintf("controlPlane: {localAPIEndpoint: {advertiseAddress: %s}}\n", c.address(n.index))
		}
		return join + registration
	}
	return fmt.Sprintf(`apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens: [{token: %s, ttl: 1h0m0s}]
localAPIEndpoint: {advertiseAddress: %s}
%s---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: %s
controlPlaneEndpoint: "%s:6443"
networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
conntrack: {maxPerCore: 0, min: 0}
`, testToken, c.address(n.index), registration, Version, c.virtual())
}

// script fetches the payload and runs kubeadm.
func (c *testCluster) script(n *testNode) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#!/bin/bash\nset -eu\nsay() { echo \"$(cut -d' ' -f1 /proc/uptime) CLUSTER $*\"; }\nget() { mkdir -p $(dirname $2); curl -fsS --retry 10 --retry-connrefused -o $2.new %s/$1; mv -f $2.new $2; }\n", c.url)
	for _, f := range c.payload.Files {
		if f.Target != "" {
			fmt.Fprintf(&b, "ln -sf %s %s\n", f.Target, f.Path)
			continue
		}
		fmt.Fprintf(&b, "get %s %s; chmod %o %s\n", fleet.Blob(f.Digest), f.Path, f.Mode, f.Path)
	}
	b.WriteString("say files fetched\nsystemctl start containerd\nsay containerd runs\n")
	role := fleet.Worker
	if n.controlPlane {
		role = fleet.ControlPlane
	}
	for _, i := range c.payload.Images {
		if i.For(role) {
			fmt.Fprintf(&b, "get %s /var/tmp/image; ctr -n k8s.io images import /var/tmp/image >/dev/null; rm /var/tmp/image\n", fleet.Blob(i.Digest))
		}
	}
	// containerd believes after a power cut that what it unpacked is there.
	b.WriteString("sync -f /var/lib/containerd\nsay images imported\n")
	if n.index == 1 {
		b.WriteString("kubeadm init --config /etc/kubernetes/kubeadm.yaml && say init done\n")
	} else {
		fmt.Fprintf(&b, "until [ \"$(curl -ks --max-time 3 https://%s:6443/readyz)\" = ok ]; do sleep 1; done\nsay API answers\n", c.virtual())
		b.WriteString("until kubeadm join --config /etc/kubernetes/kubeadm.yaml; do say join failed; kubeadm reset --force >/dev/null 2>&1; sleep 3; done; say join done\n")
	}
	return b.String()
}

func (c *testCluster) config(n *testNode) []byte {
	c.t.Helper()
	keyfile := fmt.Sprintf("[connection]\nid=lab\ntype=ethernet\n\n[ethernet]\nmac-address=52:54:00:ac:00:%02x\n\n[ipv4]\nmethod=manual\naddress1=%s/24,%s.1\n\n[ipv6]\nmethod=disabled\n",
		n.index, c.address(n.index), c.prefix)
	files := []any{
		ignitionFile("/etc/hostname", 0o644, n.name+"\n"),
		ignitionFile("/etc/hosts", 0o644, fmt.Sprintf("127.0.0.1 localhost\n%s %s\n", c.address(n.index), n.name)),
		ignitionFile("/etc/resolv.conf", 0o644, "nameserver "+c.prefix+".1\n"),
		ignitionFile("/etc/NetworkManager/system-connections/lab.nmconnection", 0o600, keyfile),
		ignitionFile("/etc/sysctl.d/90-kubernetes.conf", 0o644, "net.ipv4.ip_forward = 1\n"),
		ignitionFile("/etc/containerd/config.toml", 0o644, containerdConfig),
		ignitionFile("/etc/kubernetes/kubeadm.yaml", 0o600, c.kubeadmConfig(n)),
		ignitionFile("/etc/cni/net.d/10-flannel.conflist", 0o644, flannelCNI),
		ignitionFile("/usr/local/bin/join-cluster", 0o755, c.script(n)),
	}
	if n.controlPlane {
		for name, text := range c.pki {
			files = append(files, ignitionFile("/etc/kubernetes/pki/"+name, 0o600, string(text)))
		}
		files = append(files, ignitionFile("/etc/keepalived/keepalived.conf", 0o644, c.keepalivedConfig(n)),
			ignitionFile("/etc/kubernetes/manifests/keepalived.yaml", 0o600, keepalivedPod))
	}
	unit := func(name, text string, on bool) any {
		return map[string]any{"name": name, "enabled": on, "contents": text}
	}
	b, err := json.Marshal(map[string]any{
		"ignition": map[string]any{"version": "3.4.0"},
		"storage":  map[string]any{"files": files},
		"systemd": map[string]any{"units": []any{unit("containerd.service", containerdUnit, false),
			unit("kubelet.service", kubeletUnit, true), unit("join-cluster.service", clusterUnit, true)}},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return b
}

// admin returns the kubeconfig of an administrator, signed with the cluster's key.
func (c *testCluster) admin() ([]byte, error) {
	certBlock, _ := pem.Decode(c.pki["ca.crt"])
	keyBlock, _ := pem.Decode(c.pki["ca.key"])
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, err
	}
	ca := &authority{cert: cert, key: key.(crypto.Signer), pem: c.pki["ca.crt"]}
	user, err := ca.issue(template("admin", "system:masters"), x509.ExtKeyUsageClientAuth)
	return kubeconfig("https://"+c.virtual()+":6443", ca.pem, user), err
}

// quiet runs the payload's kubectl and returns what it prints, or nothing.
func quiet(t *testing.T, software string, config []byte, args ...string) string {
	t.Helper()
	hyper, err := findHyper(software)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, config, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := &exec.Cmd{Path: hyper, Args: append([]string{"kubectl", "--request-timeout=10s"}, args...), Stdout: &out, Env: []string{"KUBECONFIG=" + path, "HOME=" + t.TempDir()}}
	if cmd.Run() != nil {
		return ""
	}
	return out.String()
}

// memoryOf tells what each machine's processes hold, by its control group.
func memoryOf(nodes []*testNode) string {
	var all []string
	for _, n := range nodes {
		found, _ := filepath.Glob("/sys/fs/cgroup/memory/metalrise-" + n.name + "-*/memory.stat")
		deeper, _ := filepath.Glob("/sys/fs/cgroup/memory/*/*/metalrise-" + n.name + "-*/memory.stat")
		for _, f := range slices.Concat(found, deeper) {
			text, _ := os.ReadFile(f)
			for line := range strings.Lines(string(text)) {
				var bytes int64
				if _, err := fmt.Sscanf(line, "total_rss %d", &bytes); err == nil {
					all = append(all, fmt.Sprintf("%s %d MiB", n.name, bytes>>20))
				}
			}
		}
	}
	return strings.Join(all, ", ")
}

const flannelCNI = `{"cniVersion":"0.3.1","name":"cbr0","plugins":[
{"type":"flannel","delegate":{"hairpinMode":true,"isDefaultGateway":true}},
{"type":"portmap","capabilities":{"portMappings":true}}]}
`

const flannelManifest = `apiVersion: v1
kind: ServiceAccount
metadata: {name: flannel, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: flannel}
rules:
- {apiGroups: [""], resources: [pods], verbs: [get]}
- {apiGroups: [""], resources: [nodes], verbs: [get, list, watch]}
- {apiGroups: [""], resources: [nodes/status], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: flannel}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: flannel}
subjects: [{kind: ServiceAccount, name: flannel, namespace: kube-system}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: flannel, namespace: kube-system}
data:
  net-conf.json: '{"Network": "10.244.0.0/16", "EnableNFTables": true, "Backend": {"Type": "vxlan"}}'
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: flannel, namespace: kube-system}
spec:
  selector: {matchLabels: {app: flannel}}
  template:
    metadata: {labels: {app: flannel}}
    spec:
      hostNetwork: true
      priorityClassName: system-node-critical
      serviceAccountName: flannel
      tolerations: [{operator: Exists}]
      containers:
      - name: flannel
        image: ghcr.io/flannel-io/flannel:v0.26.7
        imagePullPolicy: Never
        args: [--ip-masq, --kube-subnet-mgr]
        env:
        - {name: KUBERNETES_SERVICE_HOST, value: "VIRTUAL"}
        - {name: KUBERNETES_SERVICE_PORT, value: "6443"}
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        securityContext: {capabilities: {add: [NET_ADMIN, NET_RAW]}}
        volumeMounts:
        - {name: run, mountPath: /run/flannel}
        - {name: config, mountPath: /etc/kube-flannel}
      volumes:
      - {name: run, hostPath: {path: /run/flannel, type: DirectoryOrCreate}}
      - {name: config, configMap: {name: flannel}}
`

const echoManifest = `apiVersion: apps/v1
kind: DaemonSet
metadata: {name: echo}
spec:
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      tolerations: [{operator: Exists}]
      terminationGracePeriodSeconds: 0
      containers:
      - {name: echo, image: "metalrise.dev/echo:1", imagePullPolicy: Never, args: [serve, ":8080"], readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports: [{port: 80, targetPort: 8080}]
`
