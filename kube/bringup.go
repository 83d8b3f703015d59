package kube

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// bringUpTimeout bounds one run of kubeadm. Its own timeouts end it earlier with
// a better reason.
const bringUpTimeout = 30 * time.Minute

// Begin makes the first control plane out of a prepared node. Only one node of a
// plan may be given it. It may be repeated at any time, also after it was cut
// off: what is there already is kept. The task holds the authority's keys: it
// is a secret.
func Begin(n Node, a *Authority) (callhome.Task, error) {
	if err := n.check(); err != nil {
		return callhome.Task{}, err
	}
	if !n.Assignment.Node.Initial {
		return callhome.Task{}, fleet.NewFault(fleet.CodeClusterBegin, fleet.Conflict, nil,
			"begin the cluster on %s: the plan begins it on another node", n.Assignment.Hostname)
	}
	config, err := n.initDocuments()
	if err != nil {
		return callhome.Task{}, err
	}
	keys, err := a.pkiSteps()
	if err != nil {
		return callhome.Task{}, err
	}
	t := callhome.Task{ID: n.taskID("begin"), Name: "begin the cluster"}
	if n.holdsVIP() {
		t.Steps = append(t.Steps, callhome.Step{Name: "make sure that nobody has " + n.Plan.Cluster.Endpoint.Address,
			Claim: &callhome.ClaimStep{Address: n.Plan.Cluster.Endpoint.Address, MAC: n.Assignment.Network.MAC}})
	}
	t.Steps = append(t.Steps, keys...)
	if n.holdsVIP() {
		vip, err := n.vipSteps()
		if err != nil {
			return callhome.Task{}, err
		}
		// Before kubeadm runs: the last part of it speaks to the API by this address.
		t.Steps = append(t.Steps, vip...)
	}
	t.Steps = append(t.Steps,
		fileStep("write the kubeadm configuration", initConfig, 0o600, string(config)),
		kubeadm("run kubeadm init", begunMark, "init", "--config", initConfig),
	)
	return t, nil
}

func kubeadm(name, mark string, args ...string) callhome.Step {
	s := run(name, bringUpTimeout, append([]string{shell, onceScript, mark}, args...)...)
	s.Run.Unless = mark
	return s
}

// tokenShape is that of bootstrap tokens: a public name and a secret
// (kubernetes.io, "Authenticating with Bootstrap Tokens").
var tokenShape = regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)

// Join lets a prepared node join the cluster. The token goes into a file that
// only root reads and that is removed afterwards, never into an argument. A
// join that failed or was cut off is not repeated: Reset comes first, then Join
// of a higher attempt, with another token. The task holds the token and, for a control plane, the
// authority's keys: it is a secret.
func Join(n Node, a *Authority, token string) (callhome.Task, error) {
	if err := n.check(); err != nil {
		return callhome.Task{}, err
	}
	if !tokenShape.MatchString(token) {
		return callhome.Task{}, fleet.NewFault(fleet.CodeNodeJoin, fleet.Invalid, nil,
			"let %s join: the token is not of the form [a-z0-9]{6}.[a-z0-9]{16}", n.Assignment.Hostname)
	}
	config, err := n.joinDocument(a, token)
	if err != nil {
		return callhome.Task{}, err
	}
	t := callhome.Task{ID: n.taskID("join"), Name: "join the cluster"}
	if n.controlPlane() {
		keys, err := a.pkiSteps()
		if err != nil {
			return callhome.Task{}, err
		}
		t.Steps = append(t.Steps, keys...)
	}
	t.Steps = append(t.Steps,
		fileStep("write the kubeadm configuration", joinConfig, 0o600, string(config)),
		kubeadm("run kubeadm join", joinedMark, "join", "--config", joinConfig),
		goneStep(joinConfig),
	)
	if n.holdsVIP() {
		vip, err := n.vipSteps()
		if err != nil {
			return callhome.Task{}, err
		}
		// Only now: before, this node has no API to offer at that address.
		t.Steps = append(t.Steps, vip...)
	}
	return t, nil
}

// Reset takes away what a failed Begin or Join left, so that Join may run again
// on the prepared node: pods, etcd's data and membership, certificates, the
// addresses of the pod network. It does no harm to a node that is clean. On a
// member of a working cluster it takes the node's part of it away.
func Reset(n Node) (callhome.Task, error) {
	if err := n.check(); err != nil {
		return callhome.Task{}, err
	}
	t := callhome.Task{ID: n.taskID("reset"), Name: "take back what is half done"}
	t.Steps = append(t.Steps, unitStep("start", "containerd.service"))
	if n.holdsVIP() {
		// First, so that the address goes to who can answer.
		t.Steps = append(t.Steps, goneStep(manifestsDir+"/keepalived.yaml"))
	}
	t.Steps = append(t.Steps,
		goneStep(begunMark), goneStep(joinedMark), goneStep(initConfig), goneStep(joinConfig),
		run("run kubeadm reset", 10*time.Minute, shell, onceScript, "-", "reset", "--force", "--cri-socket", criSocket),
		unitStep("stop", "kubelet.service"),
		run("clear the kernel of the old network", time.Minute, shell, afterReset),
	)
	for _, p := range []string{kubernetesDir, "/var/lib/etcd", "/var/lib/cni", "/run/flannel", vipRunDir,
		"/var/lib/kubelet/config.yaml", "/var/lib/kubelet/instance-config.yaml", "/var/lib/kubelet/kubeadm-flags.env", "/var/lib/kubelet/pki", "/var/lib/kubelet/cpu_manager_state", "/var/lib/kubelet/memory_manager_state"} {
		t.Steps = append(t.Steps, goneStep(p))
	}
	return t, nil
}

// pkiSteps write the authority where kubeadm looks for one that exists already.
// Keys first: kubeadm takes a certificate without its key for one that somebody
// else keeps.
func (a *Authority) pkiSteps() ([]callhome.Step, error) {
	var steps []callhome.Step
	for _, v := range []struct {
		name string
		pair pair
	}{{"ca", a.cluster}, {"front-proxy-ca", a.frontProxy}, {"etcd/ca", a.etcd}} {
		key, err := keyPEM(v.pair.key)
		if err != nil {
			return nil, err
		}
		to := pkiDir + "/" + v.name
		steps = append(steps,
			fileStep("write the key of "+v.name, to+".key", 0o600, string(key)),
			fileStep("write the certificate of "+v.name, to+".crt", 0o644, string(certPEM(v.pair.cert))))
	}
	key, err := keyPEM(a.accounts)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(a.accounts.Public())
	if err != nil {
		return nil, fmt.Errorf("write the service-account key: %w", err)
	}
	return append(steps,
		fileStep("write the service-account key", pkiDir+"/sa.key", 0o600, string(key)),
		fileStep("write the service-account public key", pkiDir+"/sa.pub", 0o644,
			string(pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: public})))), nil
}

// vipSteps put keepalived among the node's static pods.
func (n Node) vipSteps() ([]callhome.Step, error) {
	pod, err := n.keepalivedPod()
	if err != nil {
		return nil, err
	}
	return []callhome.Step{fileStep("write the keepalived pod", manifestsDir+"/keepalived.yaml", 0o600, string(pod))}, nil
}

// vip is the API's virtual address. check has parsed it.
func (n Node) vip() netip.Addr {
	a, _ := netip.ParseAddr(n.Plan.Cluster.Endpoint.Address)
	return a
}
