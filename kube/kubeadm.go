package kube

import (
	"bytes"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

const kubeadmAPI = "kubeadm.k8s.io/v1beta4"

// nodeRegistration is the part that init and join share. Taints are written even
// when there are none: kubeadm would add its own to a control plane.
func (n Node) nodeRegistration(ignore ...string) map[string]any {
	taints := []map[string]any{}
	for _, t := range n.Assignment.Node.Taints {
		taint := map[string]any{"key": t.Key, "effect": t.Effect}
		if t.Value != "" {
			taint["value"] = t.Value
		}
		taints = append(taints, taint)
	}
	if n.inContainer() {
		// What kubeadm looks at there is the host's: the kernel's configuration and
		// modules, its memory and processors, its swap.
		ignore = append(ignore, "SystemVerification", "Swap", "Mem", "NumCPU", "FileContent--proc-sys-net-bridge-bridge-nf-call-iptables")
	}
	r := map[string]any{
		"name":             n.Assignment.Node.Name,
		"criSocket":        criSocket,
		"imagePullPolicy":  "Never",
		"taints":           taints,
		"kubeletExtraArgs": []map[string]string{arg("node-ip", n.address().String())},
	}
	if len(ignore) > 0 {
		r["ignorePreflightErrors"] = ignore
	}
	return r
}

func arg(name, value string) map[string]string {
	return map[string]string{"name": name, "value": value}
}

// timeouts are kubeadm's own but for those that small or busy machines exceed
// while nothing is wrong.
func timeouts() map[string]string {
	return map[string]string{
		"controlPlaneComponentHealthCheck": "8m0s", "kubeletHealthCheck": "4m0s", "kubernetesAPICall": "3m0s",
		"etcdAPICall": "4m0s", "tlsBootstrap": "8m0s", "discovery": "2m0s",
	}
}

func (n Node) localEndpoint() map[string]any {
	return map[string]any{"advertiseAddress": n.address().String(), "bindPort": bindPort(n.Plan.Cluster.Endpoint)}
}

// resumed are the checks that an init fails which is repeated after it was cut
// off. Everything they find was left by that: the disk was written by us, and
// the certificates are the same.
func resumed(port int) []string {
	ignore := []string{"DirAvailable--var-lib-etcd", "Port-" + strconv.Itoa(port)}
	for _, p := range []int{2379, 2380, 10250, 10257, 10259} {
		ignore = append(ignore, "Port-"+strconv.Itoa(p))
	}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"} {
		ignore = append(ignore, "FileAvailable--etc-kubernetes-manifests-"+name+".yaml")
	}
	return ignore
}

// initDocuments is what `kubeadm init` reads.
//
// The token that kubeadm always makes is of a group without rights and expires
// at once: nodes get tokens of their own. kubeadm's words at the end would
// show it, so that phase is skipped.
func (n Node) initDocuments() ([]byte, error) {
	c := n.Plan.Cluster
	port := bindPort(c.Endpoint)
	return documents(map[string]any{
		"apiVersion":       kubeadmAPI,
		"kind":             "InitConfiguration",
		"nodeRegistration": n.nodeRegistration(resumed(port)...),
		"localAPIEndpoint": n.localEndpoint(),
		"patches":          map[string]string{"directory": patchesDir},
		"skipPhases":       []string{"show-join-command"},
		"timeouts":         timeouts(),
		"bootstrapTokens": []map[string]any{{
			"ttl": "1s", "groups": []string{"system:bootstrappers:metalrise:none"}, "usages": []string{"authentication", "signing"},
			"description": "expired; made because kubeadm always makes one",
		}},
	}, n.clusterConfiguration(), kubeletDefaults(n.Gates), n.proxyConfig())
}

func (n Node) clusterConfiguration() map[string]any {
	c := n.Plan.Cluster
	server, etcd, dns := n.image("kube-apiserver"), n.image("etcd"), n.image("coredns")
	// Kubelets serve with certificates that were approved one by one; the API
	// server believes no others.
	arguments := append(n.gates(), arg("kubelet-certificate-authority", pkiDir+"/ca.crt"))
	config := map[string]any{
		"apiVersion":           kubeadmAPI,
		"kind":                 "ClusterConfiguration",
		"clusterName":          n.Plan.Site,
		"kubernetesVersion":    c.Version,
		"controlPlaneEndpoint": hostPort(c.Endpoint),
		"imageRepository":      server.repository,
		"certificatesDir":      pkiDir,
		"encryptionAlgorithm":  "ECDSA-P256",
		"networking":           map[string]string{"podSubnet": c.PodCIDR, "serviceSubnet": c.ServiceCIDR, "dnsDomain": c.Domain},
		"apiServer":            map[string]any{"certSANs": []string{c.Endpoint.Address}, "extraArgs": arguments},
		"etcd":                 map[string]any{"local": map[string]any{"dataDir": "/var/lib/etcd", "imageRepository": etcd.repository, "imageTag": etcd.tag}},
		"dns":                  map[string]any{"imageRepository": dns.repository, "imageTag": dns.tag},
	}
	if gates := n.gates(); len(gates) > 0 {
		config["controllerManager"] = map[string]any{"extraArgs": gates}
		config["scheduler"] = map[string]any{"extraArgs": gates}
	}
	return config
}

// gates are the feature gates as one argument, in a fixed order; nil for none.
func (n Node) gates() []map[string]string {
	if len(n.Gates) == 0 {
		return nil
	}
	var all []string
	for name, on := range n.Gates {
		all = append(all, fmt.Sprintf("%s=%t", name, on))
	}
	sort.Strings(all)
	return []map[string]string{arg("feature-gates", strings.Join(all, ","))}
}

// joinDocument is what `kubeadm join` reads. It holds the token.
func (n Node) joinDocument(a *Authority, token string) ([]byte, error) {
	c := n.Plan.Cluster
	config := map[string]any{
		"apiVersion":       kubeadmAPI,
		"kind":             "JoinConfiguration",
		"nodeRegistration": n.nodeRegistration(),
		"patches":          map[string]string{"directory": patchesDir},
		"timeouts":         timeouts(),
		"discovery": map[string]any{"bootstrapToken": map[string]any{
			"token": token, "apiServerEndpoint": hostPort(c.Endpoint),
			"caCertHashes": []string{a.PinHash()},
		}},
	}
	if n.controlPlane() {
		config["controlPlane"] = map[string]any{"localAPIEndpoint": n.localEndpoint()}
	}
	return documents(config)
}

// documents writes values as YAML documents of one file. Keys come sorted, so
// equal values give equal bytes.
func documents(values ...map[string]any) ([]byte, error) {
	var b bytes.Buffer
	for i, v := range values {
		if i > 0 {
			b.WriteString("---\n")
		}
		y, err := yaml.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("write %v: %w", v["kind"], err)
		}
		b.Write(y)
	}
	return b.Bytes(), nil
}
