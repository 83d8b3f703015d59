package kube

import (
	"fmt"
	"net"
	"strconv"
)

// The API's virtual address is held by keepalived on the control planes (see
// docs/decisions/0014-keepalived.md).
//
// All control planes have the same priority, so that none takes the address
// back when it returns: VRRP (RFC 5798, 6.4.3) lets only a higher priority do
// that. The priority falls by half while the API server beside it does not
// answer. A healthy one then takes over after three missed advertisements and
// a fraction, some four seconds. When none is healthy, the address stays where
// it is: an API server without etcd still says why, and a first one that is
// being made is reached as soon as it answers.
const (
	vrrpPriority = 100
	vrrpPenalty  = 50
	// checkEvery and checkWithin are seconds between two questions to the API
	// server, and how long it may take to answer.
	checkEvery  = 2
	checkWithin = 3
	// An API server under load may miss one question; it is healthy again at once.
	checkFalls = 3
	checkRises = 1
)

// keepalivedConfig holds @INTERFACE@ where before-kubelet puts a name.
func (n Node) keepalivedConfig() string {
	e := n.Plan.Cluster.Endpoint
	url := "https://" + net.JoinHostPort(n.address().String(), strconv.Itoa(bindPort(e))) + "/readyz"
	return fmt.Sprintf(`global_defs {
	script_user root
	enable_script_security
	vrrp_version 3
	vrrp_garp_master_refresh 60
}

vrrp_script api {
	script "/usr/local/bin/healthcheck %s %ds"
	interval %d
	timeout %d
	fall %d
	rise %d
	weight -%d
	init_fail
}

vrrp_instance api {
	state BACKUP
	interface @INTERFACE@
	virtual_router_id %d
	priority %d
	advert_int 1
	virtual_ipaddress {
		%s
	}
	track_script {
		api
	}
}
`, url, checkWithin, checkEvery, checkWithin+1, checkFalls, checkRises, vrrpPenalty, e.VRRP, vrrpPriority, single(n.vip()))
}

// keepalivedPod is the static pod. What the image must hold is said in the
// package's comment.
func (n Node) keepalivedPod() ([]byte, error) {
	return documents(map[string]any{
		"apiVersion": "v1",
		"kind":       "Pod",
		"metadata": map[string]any{"name": "keepalived", "namespace": "kube-system",
			"labels": map[string]string{"app.kubernetes.io/name": "keepalived", "app.kubernetes.io/managed-by": "metalrise"}},
		"spec": map[string]any{
			"hostNetwork":       true,
			"dnsPolicy":         "Default",
			"priorityClassName": "system-node-critical",
			// Time to hand the address over before the pod is killed.
			"terminationGracePeriodSeconds": 10,
			"containers": []map[string]any{{
				"name":            "keepalived",
				"image":           n.image("keepalived").String(),
				"imagePullPolicy": "IfNotPresent",
				"command":         []string{"/usr/sbin/keepalived"},
				"args":            []string{"--dont-fork", "--log-console", "--log-detail", "--vrrp", "--use-file=/etc/keepalived/keepalived.conf"},
				"securityContext": map[string]any{"capabilities": map[string]any{"add": []string{"NET_ADMIN", "NET_BROADCAST", "NET_RAW"}}},
				"resources":       map[string]any{"requests": map[string]string{"cpu": "10m", "memory": "16Mi"}},
				"volumeMounts": []map[string]any{
					{"name": "config", "mountPath": "/etc/keepalived", "readOnly": true},
					{"name": "scratch", "mountPath": "/run", "subPath": "run"},
					{"name": "scratch", "mountPath": "/tmp", "subPath": "tmp"},
				},
			}},
			"volumes": []map[string]any{
				{"name": "config", "hostPath": map[string]string{"path": vipRunDir, "type": "Directory"}},
				{"name": "scratch", "emptyDir": map[string]string{"medium": "Memory"}},
			},
		},
	})
}
