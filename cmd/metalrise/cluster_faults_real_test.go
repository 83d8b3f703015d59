package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// TestRealClusterFaults has one cluster go through what happens to clusters: a
// token that is void before its node shows it, a worker that never comes back
// from its restart, a disk that was swapped, an engine that is killed while a
// node is replaced. Each time the others must be ready, the one must say why it
// is not, and it must be brought back.
func TestRealClusterFaults(t *testing.T) {
	r := newRack(t, "nodefaults", 5, "--kubernetes")
	r.planned(5)
	begin := time.Now()
	at := func() time.Duration { return time.Since(begin).Round(time.Second) }
	r.must("apply", "--erase-disks", "5", "--detach")

	r.happens(3*time.Minute, "the fourth server restarts into its disk", func() bool { return r.seen("LAB0004", fleet.ActRestart, fleet.Began) })
	r.must("lab", "power", "--name", r.lab, "n4", "off")
	t.Logf("%s: the first worker loses its power while it restarts", at())
	r.voidToken("LAB0005")
	t.Logf("%s: the token of the second worker is void", at())

	v := r.await(4*time.Minute, "three ready control planes without the workers", func(v fleet.Overview) bool {
		return readyOf(v, "LAB0001", "LAB0002", "LAB0003")
	})
	t.Logf("%s: three control planes are ready", at())
	if s := statusOf(v, "LAB0004"); s.Phase != fleet.Booted || s.Condition != fleet.Waiting || s.Step == "" {
		t.Errorf("a worker that never comes is shown as %+v", s)
	} else {
		t.Logf("the worker that does not come: %s, %s: %s", s.Phase, s.Condition, s.Step)
	}
	r.must("lab", "power", "--name", r.lab, "n4", "on")
	r.await(4*time.Minute, "the worker that was away is ready", func(v fleet.Overview) bool { return readyOf(v, "LAB0004") })
	t.Logf("%s: the worker that was away is a ready node", at())
	r.joinsAgain("LAB0005", at)
	r.await(4*time.Minute, "five ready nodes", allReady)
	r.ready(5)
	t.Logf("%s: five nodes are ready, %d MiB", at(), r.memory())

	r.swaps("LAB0004", "n4", at)
	r.replaces("LAB0004", at)
	r.ready(5)
	r.servesWorkload(2)
	t.Logf("%s: the workload answers", at())
	for _, s := range r.labView().Servers {
		if s.Touched != "" {
			t.Errorf("%s: a disk that was not planned was written: %s", s.Name, s.Touched)
		}
	}
}

// happens waits for a moment that lasts shortly.
func (r *rack) happens(limit time.Duration, what string, did func() bool) {
	r.t.Helper()
	for end := time.Now().Add(limit); !did(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("after %s still not: %s", limit, what)
		}
	}
}

func statusOf(v fleet.Overview, id fleet.ServerID) fleet.Status {
	for _, s := range v.Servers {
		if s.Server == id {
			return s
		}
	}
	return fleet.Status{}
}

func readyOf(v fleet.Overview, ids ...fleet.ServerID) bool {
	for _, id := range ids {
		if s := statusOf(v, id); s.Phase != fleet.Ready || s.Condition != fleet.Settled {
			return false
		}
	}
	return true
}

// voidToken deletes the token that a server was invited with the moment it is
// there, as when it expired. It asks the API itself: before kubectl has started, the node
// has joined.
func (r *rack) voidToken(server fleet.ServerID) {
	r.t.Helper()
	r.happens(5*time.Minute, "the cluster has a kubeconfig", func() bool {
		_, err := os.Stat(filepath.Join(r.state, "kubeconfig"))
		return err == nil
	})
	const secrets = "/api/v1/namespaces/kube-system/secrets"
	api := r.api()
	r.happens(5*time.Minute, "its token is there and deleted", func() bool {
		var all struct {
			Items []struct {
				Metadata struct {
					Name        string            `json:"name"`
					Annotations map[string]string `json:"annotations"`
				} `json:"metadata"`
			} `json:"items"`
		}
		if err := api("GET", secrets+"?fieldSelector=type%3Dbootstrap.kubernetes.io/token", &all); err != nil {
			return false // it is coming up, or a control plane is joining
		}
		for _, s := range all.Items {
			if s.Metadata.Annotations["metalrise.dev/server"] == string(server) {
				return api("DELETE", secrets+"/"+s.Metadata.Name, nil) == nil
			}
		}
		return false
	})
}

// api calls the cluster's API as its administrator.
func (r *rack) api() func(method, path string, out any) error {
	r.t.Helper()
	text := r.must("cluster", "kubeconfig")
	field := func(name string) string {
		found := regexp.MustCompile(name + `: "?([^"\s]+)`).FindStringSubmatch(text)
		if found == nil {
			r.t.Fatalf("the kubeconfig has no %s", name)
		}
		return found[1]
	}
	data := func(name string) []byte {
		b, err := base64.StdEncoding.DecodeString(field(name))
		if err != nil {
			r.t.Fatal(err)
		}
		return b
	}
	pair, err := tls.X509KeyPair(data("client-certificate-data"), data("client-key-data"))
	if err != nil {
		r.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(data("certificate-authority-data"))
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}}
	r.t.Cleanup(client.CloseIdleConnections)
	return func(method, path string, out any) error {
		req, err := http.NewRequestWithContext(r.t.Context(), method, field("server")+path, nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s %s: %s", method, path, res.Status)
		}
		if out == nil {
			return nil
		}
		return json.NewDecoder(res.Body).Decode(out)
	}
}

// joinsAgain wants a join whose token was void to fail, to be taken back and to
// succeed with another token, all by itself. The node may have been quicker
// than the deletion; then there is nothing to be seen.
func (r *rack) joinsAgain(server fleet.ServerID, at func() time.Duration) {
	r.t.Helper()
	joins := func(o fleet.Outcome) (found []fleet.Event) {
		for _, e := range r.events() {
			if e.Server == server && e.Action == fleet.ActJoin && e.Edge == fleet.Ended && e.Outcome == o {
				found = append(found, e)
			}
		}
		return found
	}
	// kubeadm gives the API until the end of its discovery timeout to know the token.
	r.await(10*time.Minute, "the join with a void token ends", func(fleet.Overview) bool {
		return len(joins(fleet.OK)) > 0 || len(joins(fleet.Failed)) > 0
	})
	failed := joins(fleet.Failed)
	if len(failed) == 0 {
		r.t.Logf("%s: the node joined before its token was deleted", at())
		return
	}
	cause := failed[0].Cause
	if cause == nil || cause.Code != fleet.CodeNodeJoin || len(cause.Chain) == 0 {
		r.t.Errorf("a join without a token failed with %+v", cause)
	} else {
		r.t.Logf("%s: the join failed: %.400s", at(), strings.Join(cause.Chain, ": "))
	}
	r.await(3*time.Minute, "the node joins with another token", func(fleet.Overview) bool { return len(joins(fleet.OK)) > 0 })
	if !r.seen(server, fleet.ActReset, fleet.Ended) {
		r.t.Error("the failed join was not taken back")
	}
	r.t.Logf("%s: it joined with another token", at())
}

// swaps puts another disk into a node. The cluster's list of nodes must show
// that one as not ready, and the others as they were.
func (r *rack) swaps(server fleet.ServerID, name string, at func() time.Duration) {
	r.t.Helper()
	if _, code := r.try("lab", "swap-disk", "--name", r.lab, name); code != exitDenied {
		r.t.Errorf("a disk was swapped in a running server: exit %d", code)
	}
	r.must("lab", "power", "--name", r.lab, name, "off")
	r.must("lab", "swap-disk", "--name", r.lab, name)
	r.must("lab", "power", "--name", r.lab, name, "on")
	r.t.Logf("%s: the disk of %s is swapped", at(), name)
	var missing string
	r.eventually(3*time.Minute, "the kubelet's check is not true", func() error {
		var v fleet.Overview
		if err := json.Unmarshal([]byte(r.must("node", "list", "--output", "json")), &v); err != nil {
			return err
		}
		for _, s := range v.Servers {
			for _, k := range s.Checks {
				if s.Server == server && k.Name == fleet.CheckKubelet && !k.OK && k.Missing != "" {
					missing = k.Missing
					return nil
				}
			}
		}
		return fmt.Errorf("%+v", statusOf(v, server).Checks)
	})
	r.t.Logf("%s: its kubelet is shown with %q", at(), missing)
}

// replaces installs a node anew on its other disk while its engine is killed
// twice, and wants nothing else to be touched.
func (r *rack) replaces(server fleet.ServerID, at func() time.Duration) {
	r.t.Helper()
	host := statusOf(r.overview(), server).Hostname
	boots := map[string]int{}
	for _, s := range r.labView().Servers {
		boots[s.Name] = s.Boots
	}
	last := r.events()
	since := last[len(last)-1].Seq
	happened := func(a fleet.Action, edge fleet.Edge) bool {
		for _, e := range r.events() {
			if e.Seq > since && e.Server == server && e.Action == a && e.Edge == edge {
				return true
			}
		}
		return false
	}
	begin := time.Now()
	kills := []struct {
		action fleet.Action
		edge   fleet.Edge
	}{{fleet.ActRemove, fleet.Began}, {fleet.ActWrite, fleet.Progressed}, {fleet.ActJoin, fleet.Began}}
	for tries := 1; ; tries++ {
		cmd := exec.Command(r.bin, "node", "replace", host, "--force", "--confirm", host, "--erase-disks", "1", "-f", r.site, "--state", r.state)
		var text strings.Builder
		cmd.Stdout, cmd.Stderr = &text, &text
		if err := cmd.Start(); err != nil {
			r.t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		var err error
		for running := true; running; {
			select {
			case err = <-ended:
				running = false
			case <-time.After(50 * time.Millisecond):
				if len(kills) == 0 || !happened(kills[0].action, kills[0].edge) {
					continue
				}
				if pid := r.engine(); pid != 0 {
					_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
					r.t.Logf("%s: the engine is killed when %s %s", at(), kills[0].action, kills[0].edge)
					kills = kills[1:]
				}
			}
		}
		r.t.Logf("%s: node replace, call %d: %v: ...%s", at(), tries, err, text.String()[max(0, text.Len()-500):])
		if err == nil {
			break
		}
		if tries == 6 {
			r.t.Fatalf("node replace did not come to its end:\n%s", text.String())
		}
	}
	if len(kills) > 0 {
		r.t.Errorf("these kills of the engine were not needed: %v", kills)
	}
	v := r.await(3*time.Minute, "the node is back", func(v fleet.Overview) bool { return readyOf(v, server) && allReady(v) })
	r.t.Logf("%s: the node is back on its other disk after %s", at(), time.Since(begin).Round(time.Second))
	for _, s := range v.Servers {
		if s.Server != server && s.Step != "kept as it is" {
			r.t.Errorf("%s was not kept: %s", s.Server, s.Step)
		}
	}
	for i, s := range r.labView().Servers {
		if v.Servers[i].Server != server && s.Boots != boots[s.Name] {
			r.t.Errorf("%s was booted %d times meanwhile", s.Name, s.Boots-boots[s.Name])
		}
	}
}
