package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// pastes puts the page's first VM into a shell as a person would, and wants to
// hear its guest; then takes it away as the page says.
func (r *rack) pastes(commands, remove string) {
	r.t.Helper()
	begin := time.Now()
	out, err := exec.Command("bash", "-e", "-c", commands).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "metalrise-guest 1 nonce=first") {
		r.t.Errorf("the pasted first VM: %v\n%s\n%s", err, commands, out)
	}
	r.t.Logf("the first VM was heard %s after it was pasted", time.Since(begin).Round(time.Second))
	export, _, _ := strings.Cut(commands, "\n")
	if out, err := exec.Command("bash", "-c", export+"\n"+remove).CombinedOutput(); err != nil {
		r.t.Errorf("%s: %v\n%s", remove, err, out)
	}
}

// pastesPage pastes what handover says.
func (r *rack) pastesPage() {
	r.t.Helper()
	var h handOff
	if err := json.Unmarshal([]byte(r.must("handover", "--output", "json")), &h); err != nil {
		r.t.Fatal(err)
	}
	r.pastes(h.FirstVM, h.NoFirstVM)
}

// pastesConsole pastes what the console of a single node showed, with the paths of
// this computer in the place of the node's.
func (b *box) pastesConsole(shown string) {
	b.t.Helper()
	text := regexp.MustCompile(`(?m)^\[ *\d+\.\d+\] metalrise-prepared\[\d+\]: `).ReplaceAllString(strings.ReplaceAll(shown, "\r", ""), "")
	text = strings.NewReplacer("/opt/metalrise/bin/kubectl", fmt.Sprintf("%s cluster kubectl -f %s --state %s", b.bin, b.rack.site, b.state),
		"/var/lib/metalrise/prepared/site", b.state).Replace(text)
	_, rest, begins := strings.Cut(text, "on its console:\n")
	commands, rest, ends := strings.Cut(rest, "It goes on until you remove it: ")
	remove, _, _ := strings.Cut(rest, "\n")
	if !begins || !ends {
		b.t.Fatalf("there is no first VM on the console:\n%s", text)
	}
	b.pastes(commands, remove)
}

// servesOn wants addresses of Services to answer on every node, also after their
// kube-proxies read their own rules back, which they do once an hour and when a
// node's zone changes.
func (r *rack) servesOn(nodes int) {
	r.t.Helper()
	asked := func() error {
		out, err := r.kubectl("", "get", "pods", "-n", "kube-system", "-l", "app.kubernetes.io/name=metalrise-services", "--no-headers")
		if err != nil || strings.Count(out, " 1/1 ") != nodes {
			return fmt.Errorf("want %d that answer: %v\n%s", nodes, err, out)
		}
		return nil
	}
	r.eventually(2*time.Minute, "Services answer on every node", asked)
	if out, err := r.kubectl("", "label", "nodes", "--all", "topology.kubernetes.io/zone=try"); err != nil {
		r.t.Fatal(annotate(err, out))
	}
	// Three failures at ten seconds each make a probe say that it is not ready.
	for end := time.Now().Add(45 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Second) {
		if err := asked(); err != nil {
			r.t.Errorf("after the rules were read back: %v", err)
			break
		}
	}
	if out, err := r.kubectl("", "label", "nodes", "--all", "topology.kubernetes.io/zone-"); err != nil {
		r.t.Error(annotate(err, out))
	}
}

// hearsSilence has the ring judge a VM whose kernel stops while KubeVirt calls it
// Running.
func (r *rack) hearsSilence(kubeconfig string) {
	r.t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		r.t.Fatal(err)
	}
	begin := time.Now()
	cmd := exec.Command("go", "test", "-count=1", "-v", "-run", "^TestRealSilentGuest$", "./kube/vmstack/ring")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "METALRISE_KUBECONFIG="+kubeconfig)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestRealSilentGuest") {
		r.t.Errorf("a silent guest: %v\n%s", err, out)
	}
	r.t.Logf("the silent guest was found out after %s", time.Since(begin).Round(time.Second))
}
