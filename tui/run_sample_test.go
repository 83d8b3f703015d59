package tui

import (
	"fmt"

	"metalrise.dev/fleet"
)

// sampleCluster is a run of n servers on their way to nodes.
func sampleCluster(n int) Watched {
	w := sampleRun(n)
	w.Overview.Cluster = &fleet.ClusterStatus{Flavour: fleet.Kubeadm, Version: "v1.34.4", Endpoint: "https://10.0.1.20:6443", Reachable: true, Begun: true, Up: true,
		Kubeconfig: "/root/.local/state/metalrise/osaka/kubeconfig"}
	for i := range w.Overview.Servers {
		s := &w.Overview.Servers[i]
		s.Cause, s.Condition, s.Phase, s.Done, s.Total, s.Attempt = nil, fleet.Waiting, fleet.Installed, 0, 0, 1
		s.Step = "wait for control plane osaka-cp1 to begin the cluster"
		if i < 3 {
			s.Role, s.Hostname = fleet.ControlPlane, fmt.Sprintf("osaka-cp%d", i+1)
		}
		switch i {
		case 0:
			s.Phase, s.Condition, s.Step = fleet.Ready, fleet.Settled, "installed"
			s.KVM = fleet.Known(fleet.KVM{Usable: true})
		case 2:
			s.Condition, s.Step, s.Done, s.Total = fleet.Moving, "prepare-1: fetch kubelet", 41e6, 100e6
		case 1:
			s.Phase = fleet.Joined
			s.Checks = []fleet.Check{{Name: fleet.CheckRegistered, OK: true}, {Name: fleet.CheckDressed, OK: true},
				{Name: fleet.CheckNetwork, Since: noon.Add(-95e9), Missing: "DaemonSet kube-flannel has no ready pod on it"}, {Name: fleet.CheckEtcd, OK: true}}
		}
	}
	return w
}

// readyCluster is a cluster with all nodes ready, one of them without KVM.
func readyCluster(n int) Watched {
	w := sampleCluster(n)
	w.Overview.Quiet = true
	for i := range w.Overview.Servers {
		s := &w.Overview.Servers[i]
		s.Phase, s.Condition, s.Checks, s.KVM = fleet.Ready, fleet.Settled, nil, fleet.Known(fleet.KVM{Usable: i > 0, Why: "no /dev/kvm"})
	}
	return w
}

// provenCluster is a cluster with a VM platform: all is proven, or a proof failed.
func provenCluster(n int, failed bool) Watched {
	w := readyCluster(n)
	s := &fleet.StackStatus{Done: !failed, Held: failed}
	for _, c := range []fleet.Component{fleet.ComponentKubeVirt, fleet.ComponentCDI, fleet.ComponentInstanceTypes} {
		x := fleet.StackStep{Component: c, State: fleet.StepOK, Took: 118, Tries: 1}
		if c != fleet.ComponentInstanceTypes {
			x.Version = "v1.6.0"
		}
		s.Steps = append(s.Steps, x)
	}
	for _, p := range fleet.Proofs() {
		x := fleet.StackStep{Proof: p, State: fleet.StepOK, Took: 31, Tries: 1}
		switch p {
		case fleet.ProofSnapshot:
			x.State, x.Note = fleet.StepSkipped, "waived by anna"
		case fleet.ProofNetwork:
			x.Result = &fleet.ProofResult{Measured: map[string]float64{"pingMilliseconds": 0.42}}
		case fleet.ProofFence:
			x.Result = &fleet.ProofResult{Measured: map[string]float64{"restartSeconds": 95}}
			if failed {
				x.State, x.Result = fleet.StepFailed, nil
				x.Cause = &fleet.Cause{Code: fleet.CodeFencingFailed, Kind: fleet.Transient, Chain: []string{"fence did not end within 1h0m0s; last: switch off osaka-w2"}}
			}
		}
		s.Steps = append(s.Steps, x)
	}
	w.Overview.Stack = s
	return w
}

// heldBy is a run whose second server is held with this code.
func heldBy(c fleet.Code) Watched {
	w := sampleRun(5)
	w.Overview.Servers[1].Cause = &fleet.Cause{Code: c, Kind: fleet.Conflict, Chain: []string{"planned disk serial D2-A: 0 disks of the machine match"}}
	w.Overview.Servers[3].Phase, w.Overview.Servers[3].Condition = fleet.Booted, fleet.Moving
	return w
}

// onRun is the wizard on its run screen.
func onRun(l Language, w, h int, run Watched) *App {
	s := sampleSheet(5)
	a := sized(Options{Language: l, Sheet: &s}, w, h)
	a.hub.go_(stepRun)
	a.Step(at(Input{Watched: &run}))
	return a
}

// changedDisk is the run screen after another disk was chosen for the held
// server, and the sheet that followed.
func changedDisk(l Language, w, h int) (*App, Sheet) {
	a := onRun(l, w, h, heldBy(fleet.CodeDiskChanged))
	press(a, "h", "c", "down", "enter")
	next := sampleSheet(5)
	next.Revision, next.Plan.ID = 2, "c0ffee00c0ffee00c0ffee00"
	next.Plan.Assignments[1].InstallDisk, next.Plan.Assignments[1].KeepDisks = next.Plan.Assignments[1].KeepDisks[0], nil
	a.Step(at(Input{Done: &Done{Do: DoOverride, Sheet: &next}}))
	return a, next
}
