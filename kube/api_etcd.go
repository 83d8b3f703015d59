package kube

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/remotecommand"

	"metalrise.dev/fleet"
)

// Member is one member of the cluster's etcd.
type Member struct {
	ID      uint64
	Name    string   // of its node; "" while it has never started
	Peers   []string // "https://10.0.1.21:2380"
	Learner bool     // it does not vote yet
	Healthy bool     // it answers and knows a leader
	Trouble string   // why it is not healthy
}

// is tells whether the member lives on a node, by name, or by the planned
// address where it has never started.
func (m Member) is(a fleet.Assignment) bool {
	if m.Name != "" {
		return a.Node != nil && m.Name == a.Node.Name
	}
	planned := plannedAddress(a)
	return planned.IsValid() && slices.ContainsFunc(m.Peers, func(p string) bool {
		u, err := url.Parse(p)
		return err == nil && u.Hostname() == planned.String()
	})
}

func (m Member) label() string {
	return cmp.Or(m.Name, strings.Join(m.Peers, ","), strconv.FormatUint(m.ID, 16))
}

// etcdctl is called in etcd's own container, where its certificates are
// (kubeadm's layout). It asks the member beside it.
func etcdctl(args ...string) []string {
	const pki = "/etc/kubernetes/pki/etcd/"
	return append([]string{"etcdctl", "--endpoints=https://127.0.0.1:2379", "--cacert=" + pki + "ca.crt",
		"--cert=" + pki + "server.crt", "--key=" + pki + "server.key", "--dial-timeout=3s", "--command-timeout=6s"}, args...)
}

const (
	execTimeout = 20 * time.Second
	maxOutput   = 1 << 20
)

// Members asks etcd for its members and how they are, through etcdctl in the
// pod of any control plane that is ready.
func (c *Cluster) Members(ctx context.Context) ([]Member, error) {
	pod, err := c.etcdPod(ctx, "")
	if err != nil {
		return nil, err
	}
	return c.membersFrom(ctx, pod)
}

func (c *Cluster) membersFrom(ctx context.Context, pod string) ([]Member, error) {
	text, err := c.exec(ctx, pod, etcdctl("member", "list", "--write-out=json")...)
	if err != nil {
		return nil, fmt.Errorf("list etcd's members: %w", err)
	}
	// A member that is down makes this command fail, and tell all the same.
	health, err := c.exec(ctx, pod, etcdctl("endpoint", "health", "--cluster", "--write-out=json")...)
	if err != nil && len(health) == 0 {
		return nil, fmt.Errorf("ask for the health of etcd's members: %w", err)
	}
	return readMembers(text, health)
}

// readMembers joins the two answers of etcdctl 3.5 and 3.6.
func readMembers(list, health []byte) ([]Member, error) {
	var found struct {
		Members []struct {
			ID         uint64   `json:"ID"`
			Name       string   `json:"name"`
			PeerURLs   []string `json:"peerURLs"`
			ClientURLs []string `json:"clientURLs"`
			IsLearner  bool     `json:"isLearner"`
		} `json:"members"`
	}
	if err := json.Unmarshal(bytes.TrimSpace(list), &found); err != nil || len(found.Members) == 0 {
		return nil, fmt.Errorf("etcdctl's list of members cannot be read: %q", clip(string(list)))
	}
	var states []struct {
		Endpoint string `json:"endpoint"`
		Health   bool   `json:"health"`
		Error    string `json:"error"`
	}
	if err := json.Unmarshal(bytes.TrimSpace(health), &states); err != nil {
		return nil, fmt.Errorf("etcdctl's health of members cannot be read: %q", clip(string(health)))
	}
	var out []Member
	for _, f := range found.Members {
		m := Member{ID: f.ID, Name: f.Name, Peers: f.PeerURLs, Learner: f.IsLearner, Trouble: "it has not started"}
		for _, s := range states {
			if slices.Contains(f.ClientURLs, s.Endpoint) {
				m.Healthy, m.Trouble = s.Health, words(s.Error)
			}
		}
		out = append(out, m)
	}
	return out, nil
}

// etcdPod finds the pod of a member that is ready, not on the node to be spared.
func (c *Cluster) etcdPod(ctx context.Context, spare string) (string, error) {
	pods, err := list[corev1.Pod](ctx, c, podsResource, metav1.NamespaceSystem, metav1.ListOptions{LabelSelector: "component=etcd,tier=control-plane"})
	if err != nil {
		return "", err
	}
	for _, pod := range pods {
		if ok, _ := podReady(&pod); ok && pod.Spec.NodeName != spare {
			return pod.Name, nil
		}
	}
	other := ""
	if spare != "" {
		other = " other than " + spare
	}
	return "", fleet.NewFault(fleet.CodeAPIUnreachable, fleet.Transient, nil, "no control plane%s has a ready pod of etcd", other)
}

// exec runs a command in the container etcd of a pod and returns what it wrote.
func (c *Cluster) exec(ctx context.Context, pod string, command ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, execTimeout)
	defer cancel()
	to := c.server.JoinPath("api/v1/namespaces", metav1.NamespaceSystem, "pods", pod, "exec")
	to.RawQuery = url.Values{"command": command, "container": {"etcd"}, "stdout": {"true"}, "stderr": {"true"}}.Encode()
	run, err := remotecommand.NewWebSocketExecutor(c.config, http.MethodGet, to.String())
	if err != nil {
		return nil, err
	}
	var out, trouble limited
	err = run.StreamWithContext(ctx, remotecommand.StreamOptions{Stdout: &out, Stderr: &trouble})
	var exit interface{ ExitStatus() int }
	if errors.As(err, &exit) {
		return out.Bytes(), fleet.NewFault(fleet.CodeAPIRefused, fleet.Transient, nil, "%s in pod %s ended with code %d: %s",
			command[0], pod, exit.ExitStatus(), words(trouble.String()))
	}
	return out.Bytes(), c.fault(err, "run "+command[0]+" in pod "+pod)
}

// limited keeps the beginning of what is written.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if free := maxOutput - l.Len(); free > 0 {
		l.Buffer.Write(p[:min(free, len(p))])
	}
	return len(p), nil
}

// CheckQuorum refuses when etcd would have no majority of healthy members after
// the node's member left. A node without a member puts nothing at risk.
func (c *Cluster) CheckQuorum(ctx context.Context, node string) error {
	members, err := c.Members(ctx)
	if err != nil {
		return fmt.Errorf("check what remains without %s: %w", node, err)
	}
	a, _ := nodeOf(c.plan, node)
	if a.Node == nil {
		a.Node = &fleet.NodePlan{Name: node}
	}
	return quorumWithout(members, a)
}

// lastVoter tells whether nobody but this node has a vote.
func lastVoter(members []Member, a fleet.Assignment) bool {
	here, others := false, 0
	for _, m := range members {
		switch {
		case m.is(a):
			here = !m.Learner
		case !m.Learner:
			others++
		}
	}
	return here && others == 0
}

func quorumWithout(members []Member, a fleet.Assignment) error {
	voters, healthy, here := 0, 0, false
	var ill []string
	for _, m := range members {
		switch {
		case m.is(a):
			here = true
		case m.Learner:
		case m.Healthy:
			voters, healthy = voters+1, healthy+1
		default:
			voters++
			ill = append(ill, m.label())
		}
	}
	need := voters/2 + 1
	if !here || healthy >= need {
		return nil
	}
	text := fmt.Sprintf("without %s etcd would have %d healthy of %d voting members and needs %d", a.Node.Name, healthy, voters, need)
	if voters == 0 {
		text = a.Node.Name + " is the only voting member of etcd"
	}
	if len(ill) > 0 {
		text += "; not healthy: " + strings.Join(ill, ", ")
	}
	return fleet.NewFault(fleet.CodeQuorumAtRisk, fleet.Conflict, nil, "%s", text)
}

// LeaveEtcd removes the node's member from etcd, asked of another member. One
// that is gone is fine. It does not ask whether the majority stays: CheckQuorum
// does, and who forces a removal does without. The last voting member stays in
// any case, because nothing brings a cluster back that has none.
func (c *Cluster) LeaveEtcd(ctx context.Context, a fleet.Assignment) error {
	if a.Node == nil {
		return fleet.NewFault(fleet.CodeAPIRefused, fleet.Invalid, nil, "take %s out of etcd: it is no node of a cluster", a.Server)
	}
	pod, err := c.etcdPod(ctx, a.Node.Name)
	if err != nil {
		return fmt.Errorf("take %s out of etcd: %w", a.Node.Name, err)
	}
	members, err := c.membersFrom(ctx, pod)
	if err != nil {
		return fmt.Errorf("take %s out of etcd: %w", a.Node.Name, err)
	}
	if lastVoter(members, a) {
		return fleet.NewFault(fleet.CodeQuorumAtRisk, fleet.Conflict, nil, "%s is the only voting member of etcd", a.Node.Name)
	}
	for _, m := range members {
		if !m.is(a) {
			continue
		}
		if _, err := c.exec(ctx, pod, etcdctl("member", "remove", strconv.FormatUint(m.ID, 16))...); err != nil {
			return fmt.Errorf("take %s out of etcd: %w", a.Node.Name, err)
		}
	}
	return nil
}
