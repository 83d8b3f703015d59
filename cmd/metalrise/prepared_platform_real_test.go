package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// TestRealPreparedPlatform gives a machine a medium with the VM platform, and
// power. Its engine is killed while KubeVirt comes up. It ends with real
// KubeVirt, the proofs that one hypervisor can give, the hand-off page on its own
// console, and a signed report on its disk; nothing else ran anywhere.
func TestRealPreparedPlatform(t *testing.T) {
	// With 4096 MiB the two VMs that the proof of networks runs at a time do not fit.
	// CDI's pods ask for 0.4 CPUs, and with those a node of two has none left for VMs.
	b := newBox(t, "preparedkv", "platform:\n  without: [cdi]\n", "--platform", "--memory", "5120")
	begin := time.Now()
	b.power("on")
	at := b.shows(2*time.Minute, 0, "write      began")
	at = b.shows(8*time.Minute, at, "component  began      kubevirt")
	t.Logf("%s: KubeVirt is being installed", time.Since(begin).Round(time.Second))
	b.killEngine()
	at = b.shows(20*time.Minute, at, "HAND-OFF of site")
	page := at
	at = b.shows(time.Minute, at, "this machine is done")
	t.Logf("handed over %s after power-on, with a killed engine", time.Since(begin).Round(time.Second))
	all, err := os.ReadFile(b.file("console.log"))
	if err != nil {
		t.Fatal(err)
	}
	shown := string(all[page:at])
	t.Logf("%s", shown)
	for _, want := range []string{"handed over ", "kubectl apply", "/opt/metalrise/bin/virtctl", "passed in", "there is only one hypervisor", "As-built report, signed"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the page on the console does not say %q", want)
		}
	}
	if pid := b.engine(); pid != 0 {
		t.Errorf("an engine runs here: process %d", pid)
	}
	signer := regexp.MustCompile(`--signer (SHA256:\S+)`).FindStringSubmatch(shown)
	if signer == nil {
		t.Fatal("the page does not say who signed the report")
	}
	if strings.Contains(shown, "NOT TRUE") {
		t.Error("the page says of a check that it is not true")
	}
	b.power("off")
	b.keptReport(signer[1])
	b.power("on")
	b.ready(1)
	b.eventually(5*time.Minute, "KubeVirt is available after a power cut", func() error {
		out, err := b.kubectl("", "wait", "-n", "kubevirt", "--for=condition=Available", "kubevirt/kubevirt", "--timeout=5s")
		return annotate(err, out)
	})
	b.servesOn(1)
	b.pastesConsole(shown)
	b.hearsSilence(filepath.Join(b.state, "kubeconfig"))
	for _, s := range b.labView().Servers {
		if s.Touched != "" {
			t.Errorf("%s: a disk that was not planned was written: %s", s.Name, s.Touched)
		}
	}
}

// keptReport reads kubeconfig and report from the disk of the machine, which is
// off, and wants the report whole and signed.
func (b *box) keptReport(signer string) {
	b.t.Helper()
	root := b.rootOf()
	dir := b.t.TempDir()
	for _, name := range []string{"kubeconfig", builtJSON, builtSignature, builtMarkdown, builtHTML} {
		text, mode := b.read(root, "/var/lib/metalrise/prepared/site/"+name)
		if mode != "0600" || text == "" {
			b.t.Fatalf("%s has mode %q, %d bytes", name, mode, len(text))
		}
		to := filepath.Join(dir, name)
		if name == "kubeconfig" {
			if err := os.MkdirAll(b.state, 0o700); err != nil {
				b.t.Fatal(err)
			}
			to = filepath.Join(b.state, name)
		}
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	for _, gone := range []string{"medium", "pending", "software"} {
		if _, mode := b.read(root, "/var/lib/metalrise/prepared/"+gone); mode != "" {
			b.t.Errorf("%s is still there, mode %s", gone, mode)
		}
	}
	b.must("report", "verify", filepath.Join(dir, builtJSON), "--signer", signer)
	text, err := os.ReadFile(filepath.Join(dir, builtJSON))
	if err != nil {
		b.t.Fatal(err)
	}
	var built asBuilt
	if err := json.Unmarshal(text, &built); err != nil {
		b.t.Fatal(err)
	}
	if built.HandedOver.IsZero() {
		b.t.Error("the report does not say when it was handed over")
	}
	must := map[fleet.Proof]bool{fleet.ProofStart: true, fleet.ProofNetwork: true, fleet.ProofVolume: true}
	for _, p := range built.Proofs {
		switch {
		case must[p.Name] && (p.State != fleet.StepOK || p.Result == nil || len(p.Result.VMs) == 0 || p.Result.VMs[0].Guest == ""):
			b.t.Errorf("proof %s is %s: %s %+v", p.Name, p.State, p.Note, p.Result)
		case p.Name == fleet.ProofSnapshot && p.State == fleet.StepOK: // the software may bring storage that takes snapshots
		case !must[p.Name] && (p.State != fleet.StepSkipped || p.Note == ""):
			b.t.Errorf("proof %s is %s, note %q; one hypervisor cannot give it", p.Name, p.State, p.Note)
		}
	}
}
