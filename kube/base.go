package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"

	"metalrise.dev/fleet"
)

// BaseManifests makes what is applied to a cluster as soon as its API answers:
// the pod network, what asks each node whether Services answer from it and, where
// no node has a DNS server, a CoreDNS that asks nobody. They are YAML documents in the order in which they should be applied.
// All images are such that the payload brings them.
func BaseManifests(p fleet.Plan, payload fleet.Payload) ([]byte, error) {
	if p.Cluster == nil {
		return nil, fleet.NewFault(fleet.CodePlanStale, fleet.Invalid, nil, "make the base manifests: plan %.12s has no cluster", p.ID)
	}
	var parts [][]byte
	if offline(p) {
		dns, err := documents(lonelyDNS(p.Cluster.Domain))
		if err != nil {
			return nil, err
		}
		parts = append(parts, dns)
	}
	switch p.Cluster.CNI {
	case fleet.OwnCNI:
		parts = append(parts, bytes.TrimSuffix([]byte(p.Cluster.Manifests), []byte("\n")))
	case fleet.Flannel, fleet.FlannelHostGW:
		i, _, ok := reference(payload, "flannel")
		if !ok {
			return nil, fleet.NewFault(fleet.CodePayloadInvalid, fleet.Invalid, nil, `make the base manifests: image "flannel" is missing in the payload`)
		}
		network, err := flannelManifests(*p.Cluster, i)
		if err != nil {
			return nil, err
		}
		parts = append(parts, network)
	default:
		return nil, fleet.NewFault(fleet.CodePayloadInvalid, fleet.Invalid, nil, "make the base manifests: pod network %q is not known", p.Cluster.CNI)
	}
	if routed(p) {
		probe, err := withServiceProbe(*p.Cluster, payload)
		if err != nil {
			return nil, err
		}
		parts = append(parts, probe)
	}
	var all bytes.Buffer
	for i, part := range parts {
		if i > 0 {
			all.WriteString("---\n")
		}
		all.Write(part)
		if !bytes.HasSuffix(part, []byte("\n")) {
			all.WriteByte('\n')
		}
	}
	return all.Bytes(), nil
}

// offline tells whether a node of the cluster may have nobody to ask for names.
func offline(p fleet.Plan) bool {
	for _, a := range p.Assignments {
		if a.Node != nil && a.Role != fleet.Excluded && len(a.Network.DNS) == 0 {
			return true
		}
	}
	return false
}

// lonelyDNS is CoreDNS' configuration without a place to forward to: with one,
// CoreDNS refuses to start where the node's resolv.conf names no server. Names
// from outside the cluster do not exist then, which is said at once.
func lonelyDNS(domain string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": "coredns", "namespace": "kube-system"},
		"data": map[string]string{"Corefile": fmt.Sprintf(`.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes %s in-addr.arpa ip6.arpa {
       pods insecure
       ttl 30
    }
    prometheus :9153
    cache 30
    reload
    loadbalance
}
`, domain)},
	}
}

const flannelNamespace = "kube-flannel"

// flannelManifests are flannel's objects. flannel asks the API by its own
// address, not by that of the service: it then depends on nothing in the
// cluster. It reads its node's range, and says where the node is reached.
func flannelManifests(c fleet.ClusterPlan, i image) ([]byte, error) {
	config, err := flannelConfig(c)
	if err != nil {
		return nil, err
	}
	meta := func(name string, more ...any) map[string]any {
		m := map[string]any{"name": name, "labels": map[string]string{"app.kubernetes.io/name": "flannel"}}
		for k := 0; k+1 < len(more); k += 2 {
			m[more[k].(string)] = more[k+1]
		}
		return m
	}
	rules := []map[string]any{
		{"apiGroups": []string{""}, "resources": []string{"pods"}, "verbs": []string{"get"}},
		{"apiGroups": []string{""}, "resources": []string{"nodes"}, "verbs": []string{"get", "list", "watch"}},
		{"apiGroups": []string{""}, "resources": []string{"nodes/status"}, "verbs": []string{"patch"}},
	}
	namespace := meta(flannelNamespace)
	namespace["labels"] = map[string]string{"app.kubernetes.io/name": "flannel", "pod-security.kubernetes.io/enforce": "privileged"}
	return documents(
		map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": namespace},
		map[string]any{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta("flannel", "namespace", flannelNamespace)},
		map[string]any{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": meta("flannel"), "rules": rules},
		map[string]any{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": meta("flannel"),
			"roleRef":  map[string]string{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "flannel"},
			"subjects": []map[string]string{{"kind": "ServiceAccount", "name": "flannel", "namespace": flannelNamespace}}},
		map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta("kube-flannel-cfg", "namespace", flannelNamespace),
			"data": map[string]string{"net-conf.json": config}},
		map[string]any{"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta("kube-flannel-ds", "namespace", flannelNamespace),
			"spec": map[string]any{
				"selector":       map[string]any{"matchLabels": map[string]string{"app.kubernetes.io/name": "flannel"}},
				"updateStrategy": map[string]any{"type": "RollingUpdate", "rollingUpdate": map[string]any{"maxUnavailable": "20%"}},
				"template":       map[string]any{"metadata": map[string]any{"labels": map[string]string{"app.kubernetes.io/name": "flannel"}}, "spec": flannelPod(c, i)},
			}},
	)
}

func flannelPod(c fleet.ClusterPlan, i image) map[string]any {
	field := func(name, path string) map[string]any {
		return map[string]any{"name": name, "valueFrom": map[string]any{"fieldRef": map[string]string{"fieldPath": path}}}
	}
	args := []string{"--ip-masq", "--kube-subnet-mgr", "--iface=$(NODE_IP)"}
	return map[string]any{
		"hostNetwork":        true,
		"priorityClassName":  "system-node-critical",
		"serviceAccountName": "flannel",
		// It is what makes a node ready, so it may not wait for a ready node.
		"tolerations":                   []map[string]string{{"operator": "Exists"}},
		"nodeSelector":                  map[string]string{"kubernetes.io/os": "linux"},
		"terminationGracePeriodSeconds": 5,
		"containers": []map[string]any{{
			"name":            "flannel",
			"image":           i.String(),
			"imagePullPolicy": "IfNotPresent",
			"command":         []string{"/opt/bin/flanneld"},
			"args":            args,
			"env": []map[string]any{
				field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace"), field("NODE_IP", "status.hostIP"),
				{"name": "KUBERNETES_SERVICE_HOST", "value": c.Endpoint.Address},
				{"name": "KUBERNETES_SERVICE_PORT", "value": strconv.Itoa(c.Endpoint.Port)},
			},
			"securityContext": map[string]any{"privileged": false, "capabilities": map[string]any{"add": []string{"NET_ADMIN", "NET_RAW"}}},
			"resources":       map[string]any{"requests": map[string]string{"cpu": "50m", "memory": "50Mi"}},
			"volumeMounts": []map[string]any{
				{"name": "run", "mountPath": "/run/flannel"},
				{"name": "config", "mountPath": "/etc/kube-flannel", "readOnly": true},
			},
		}},
		"volumes": []map[string]any{
			{"name": "run", "hostPath": map[string]string{"path": "/run/flannel", "type": "DirectoryOrCreate"}},
			{"name": "config", "configMap": map[string]string{"name": "kube-flannel-cfg"}},
		},
	}
}

// flannelConfig is flannel's own configuration, in JSON.
func flannelConfig(c fleet.ClusterPlan) (string, error) {
	pods, err := netip.ParsePrefix(c.PodCIDR)
	if err != nil {
		return "", fleet.NewFault(fleet.CodeClusterNetwork, fleet.Invalid, err, "pod range %q is none", c.PodCIDR)
	}
	backend := map[string]any{"Type": "vxlan"}
	if c.CNI == fleet.FlannelHostGW {
		backend = map[string]any{"Type": "host-gw"}
	}
	v := map[string]any{"EnableNFTables": true, "Backend": backend}
	if pods.Addr().Is6() {
		v["EnableIPv4"], v["EnableIPv6"], v["IPv6Network"] = false, true, pods.String()
	} else {
		v["Network"] = pods.String()
	}
	raw, err := json.MarshalIndent(v, "", "  ")
	return string(raw) + "\n", err
}
