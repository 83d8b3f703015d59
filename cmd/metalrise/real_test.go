package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// The tests in this file run the built program on a lab of container machines,
// from powered off to installed. They need root and some minutes, so they run
// only with METALRISE_REAL=1, as make test does.

// rack is a lab and the site that points at it, driven by commands alone.
type rack struct {
	t     *testing.T
	bin   string
	lab   string
	site  string
	state string
}

func newRack(t *testing.T, lab string, servers int, flags ...string) *rack {
	t.Helper()
	r := builtRack(t, lab)
	t.Cleanup(func() {
		r.try("stop")
		r.try("lab", "down", "--name", lab)
	})
	r.must(append([]string{"lab", "up", "--name", lab, "--servers", strconv.Itoa(servers)}, flags...)...)
	r.site = r.labView().Site
	return r
}

// builtRack has the program, and no lab yet.
func builtRack(t *testing.T, lab string) *rack {
	t.Helper()
	if os.Getenv("METALRISE_REAL") == "" {
		t.Skip("skipped: real parts run with METALRISE_REAL=1")
	}
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	dir := t.TempDir()
	r := &rack{t: t, bin: filepath.Join(dir, "metalrise"), lab: lab, state: filepath.Join(dir, "state")}
	build := exec.Command("go", "build", "-trimpath", "-o", r.bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return r
}

// try runs a command and gives its standard output and exit code.
func (r *rack) try(args ...string) (string, int) {
	r.t.Helper()
	cmd := exec.Command(r.bin, args...)
	if args[0] != "lab" {
		cmd.Args = append(cmd.Args, "-f", r.site, "--state", r.state)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		r.t.Fatalf("metalrise %s: %v", strings.Join(args, " "), err)
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 && args[0] == "status" {
		return out.String(), code
	} else if code != 0 {
		r.t.Logf("metalrise %s: exit %d\n%s%s", strings.Join(args, " "), code, out.String(), errs.String())
		return out.String(), code
	}
	return out.String(), 0
}

func (r *rack) must(args ...string) string {
	r.t.Helper()
	out, code := r.try(args...)
	if code != 0 {
		r.t.Fatalf("metalrise %s: exit %d", strings.Join(args, " "), code)
	}
	return out
}

type labView struct {
	Site    string `json:"site"`
	Servers []struct {
		Name    string `json:"name"`
		BMC     string `json:"bmc"`
		Touched string `json:"touched"`
		Boots   int    `json:"boots"`
	} `json:"servers"`
}

func (r *rack) labView() labView {
	r.t.Helper()
	var v labView
	if err := json.Unmarshal([]byte(r.must("lab", "status", "--name", r.lab, "--output", "json")), &v); err != nil {
		r.t.Fatal(err)
	}
	return v
}

func (r *rack) overview() fleet.Overview {
	r.t.Helper()
	out, code := r.try("status", "--output", "json")
	if code != exitOK && code != exitHeld {
		r.t.Fatalf("status: exit %d: %s", code, out)
	}
	var v fleet.Overview
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		r.t.Fatal(err)
	}
	return v
}

func (r *rack) events() []fleet.Event {
	r.t.Helper()
	var all []fleet.Event
	for _, line := range strings.Split(strings.TrimSpace(r.must("events", "--output", "json")), "\n") {
		var e fleet.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			r.t.Fatalf("event %q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

// await waits until want holds for the overview.
func (r *rack) await(limit time.Duration, what string, want func(fleet.Overview) bool) fleet.Overview {
	r.t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(time.Second) {
		v := r.overview()
		if want(v) {
			return v
		}
		if time.Now().After(end) {
			for _, s := range v.Servers {
				r.t.Logf("%+v", s)
			}
			r.t.Fatalf("after %s still not: %s", limit, what)
		}
	}
}

func (r *rack) planned(servers int) {
	r.t.Helper()
	r.must("discover")
	r.must("inspect")
	var p planReport
	if err := json.Unmarshal([]byte(r.must("plan", "--output", "json")), &p); err != nil {
		r.t.Fatal(err)
	}
	if len(p.Erase) != servers || p.Blocked {
		r.t.Fatalf("plan erases %d disks of %d servers, blocked %v: %+v", len(p.Erase), servers, p.Blocked, p.Plan.Findings)
	}
}

func allSettled(v fleet.Overview) bool {
	for _, s := range v.Servers {
		if s.Condition != fleet.Settled {
			return false
		}
	}
	return len(v.Servers) > 0
}

// engine finds the engine's process by its state folder.
func (r *rack) engine() int {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		r.t.Fatal(err)
	}
	for _, path := range lines {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		args := strings.Split(string(b), "\x00")
		if len(args) > 2 && args[1] == "engine" && strings.Contains(string(b), r.state) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				r.t.Fatal(err)
			}
			return pid
		}
	}
	return 0
}

// installedOnce checks the end of every good run: all installed, each disk
// granted once and written once, all other disks as they were.
func (r *rack) installedOnce() {
	r.t.Helper()
	grants, writes, last := map[fleet.ServerID]int{}, map[fleet.ServerID]int{}, int64(0)
	for _, e := range r.events() {
		if e.Seq != last+1 {
			r.t.Errorf("event %d follows %d", e.Seq, last)
		}
		last = e.Seq
		if e.Action == fleet.ActWrite && e.Edge == fleet.Began {
			grants[e.Server]++
		}
		if e.Action == fleet.ActWrite && e.Edge == fleet.Ended {
			writes[e.Server]++
		}
	}
	for _, s := range r.overview().Servers {
		if s.Phase != fleet.Installed || grants[s.Server] != 1 || writes[s.Server] != 1 {
			r.t.Errorf("%s: %s, %d grants, %d writes", s.Server, s.Phase, grants[s.Server], writes[s.Server])
		}
		if kvm, ok := s.KVM.Get(); !ok || kvm.Usable || kvm.Why == "" {
			r.t.Errorf("%s: a container machine has no KVM and must say so, it says %+v", s.Server, kvm)
		}
	}
	for _, s := range r.labView().Servers {
		if s.Touched != "" {
			r.t.Errorf("%s: a disk that was not planned was written: %s", s.Name, s.Touched)
		}
	}
}

// TestRealInstallSurvivesTenKills kills the engine with SIGKILL at ten random
// moments of an install of three machines.
func TestRealInstallSurvivesTenKills(t *testing.T) {
	r := newRack(t, "kills", 3)
	r.planned(3)
	if _, code := r.try("apply", "--erase-disks", "2", "--detach"); code != exitDenied {
		t.Fatalf("apply with the wrong number of disks: exit %d, want %d", code, exitDenied)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	begin := time.Now()
	for _, end := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP} { // Ctrl-C, then a lost terminal
		r.loseView(end, "apply", "--erase-disks", "3")
	}
	kills, missed := 0, 0
	for range 10 {
		time.Sleep(time.Duration(50+random.IntN(750)) * time.Millisecond)
		pid := r.engine()
		if pid != 0 {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			kills++
		}
		if v := r.overview(); allSettled(v) {
			break
		}
		if pid == 0 {
			missed++
		}
		r.must("apply", "--detach") // continues; the consent was given
	}
	r.await(5*time.Minute, "all servers installed", allSettled)
	t.Logf("installed in %s with %d kills of the engine", time.Since(begin).Round(time.Second), kills)
	if kills == 0 || missed > 2 { // the install may be over before the last ones
		t.Errorf("%d kills hit a running engine, %d met none while servers were on their way", kills, missed)
	}
	r.installedOnce()
}

// loseView runs an attached command, ends its whole process group by a signal
// as a terminal does, and wants the engine to go on.
func (r *rack) loseView(end syscall.Signal, args ...string) {
	r.t.Helper()
	cmd := exec.Command(r.bin, append(args, "-f", r.site, "--state", r.state)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	pid := 0
	for i := 0; pid == 0 && i < 100; i++ {
		time.Sleep(50 * time.Millisecond)
		pid = r.engine()
	}
	time.Sleep(500 * time.Millisecond)
	if err := syscall.Kill(-cmd.Process.Pid, end); err != nil {
		r.t.Fatal(err)
	}
	_ = cmd.Wait() // its exit code is that of the signal or of an interrupted view
	if code := cmd.ProcessState.ExitCode(); end == syscall.SIGINT && code != exitInterrupted {
		r.t.Errorf("interrupted view: exit %d, want %d", code, exitInterrupted)
	}
	time.Sleep(200 * time.Millisecond)
	if now := r.engine(); pid == 0 || now != pid {
		r.t.Errorf("after %s to the view the engine is process %d, was %d", end, now, pid)
	}
}

// typed runs a command with something typed into it and gives its exit code.
func (r *rack) typed(text string, args ...string) int {
	r.t.Helper()
	cmd := exec.Command(r.bin, append(args, "-f", r.site, "--state", r.state)...)
	cmd.Stdin = strings.NewReader(text)
	_ = cmd.Run() // the exit code says it all
	return cmd.ProcessState.ExitCode()
}

// TestRealFaultsOfOneServer breaks two of four servers in different ways. The
// others must be installed meanwhile; the two must say why, and be finished by
// a retry once they are mended.
func TestRealFaultsOfOneServer(t *testing.T) {
	r := newRack(t, "faults", 4)
	r.planned(4)
	r.must("lab", "fault", "--name", r.lab, "n2", "unreachable")
	r.must("lab", "fault", "--name", r.lab, "n3", "media-download-fails")
	for typed, want := range map[string]int{"3\n": exitDenied, "four\n": exitDenied, "": exitDenied} {
		if code := r.typed(typed, "apply", "--detach"); code != want {
			t.Fatalf("apply after typing %q: exit %d, want %d", typed, code, want)
		}
	}
	if code := r.typed("4\n", "apply", "--detach"); code != exitOK {
		t.Fatalf("apply after typing the right number: exit %d", code)
	}
	v := r.await(6*time.Minute, "two installed, two held", func(v fleet.Overview) bool { return v.Quiet })
	want := map[fleet.ServerID]fleet.Condition{"LAB0001": fleet.Settled, "LAB0002": fleet.Held, "LAB0003": fleet.Held, "LAB0004": fleet.Settled}
	for _, s := range v.Servers {
		if s.Condition != want[s.Server] {
			t.Errorf("%s is %s, want %s: %+v", s.Server, s.Condition, want[s.Server], s.Cause)
		}
		if s.Condition == fleet.Held {
			if s.Cause == nil || len(s.Cause.Chain) == 0 {
				t.Errorf("%s is held without a cause", s.Server)
				continue
			}
			out := r.must("explain", string(s.Cause.Code))
			if !strings.Contains(out, "what to do") {
				t.Errorf("explain %s: %s", s.Cause.Code, out)
			}
			t.Logf("%s held with %s: %s", s.Server, s.Cause.Code, strings.Join(s.Cause.Chain, ": "))
		}
	}
	r.must("lab", "fault", "--name", r.lab, "n2", "--clear")
	r.must("lab", "fault", "--name", r.lab, "n3", "--clear")
	r.must("retry", "all")
	r.await(5*time.Minute, "all installed after retry", allSettled)
	r.installedOnce()
	var facts []fleet.Facts
	if err := json.Unmarshal([]byte(r.must("facts", "LAB0001", "--output", "json")), &facts); err != nil {
		t.Fatal(err)
	}
	if len(facts) != 2 || facts[1].Source != fleet.SeenByAgent || len(facts[1].Disks) != 2 || !facts[1].Clock.IsKnown() || !facts[1].KVM.IsKnown() {
		t.Errorf("facts of one server: %+v", facts)
	}
}
