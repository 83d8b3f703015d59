package main

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
)

// builtVersion is the form of as-built reports that this code writes and reads.
const builtVersion = "metalrise.dev/as-built/v1"

// asBuilt is what a site was built as: what a person signs, and what
// `metalrise verify` compares with later. It never holds secrets.
type asBuilt struct {
	APIVersion string           `json:"apiVersion"`
	Site       string           `json:"site"`
	Plan       string           `json:"plan"`
	Metalrise  string           `json:"metalrise"` // version of the program
	MadeAt     time.Time        `json:"madeAt"`
	HandedOver time.Time        `json:"handedOver,omitzero"` // zero: not all is done
	Consents   []builtConsent   `json:"consents"`
	System     fleet.ImageRef   `json:"system"`
	Cluster    *builtCluster    `json:"cluster,omitempty"`
	Servers    []builtServer    `json:"servers"`
	Components []builtComponent `json:"components,omitempty"`
	Proofs     []builtProof     `json:"proofs,omitempty"`
	Platform   *builtPlatform   `json:"platform,omitempty"`
	Findings   []fleet.Finding  `json:"findings,omitempty"` // what the plan remarked and a person went on with
	Accepted   []builtAccepted  `json:"accepted,omitempty"` // differences that a person took for meant
}

type builtConsent struct {
	At         time.Time `json:"at"`
	Plan       string    `json:"plan"`
	By         string    `json:"by"`
	EraseDisks int       `json:"eraseDisks"`
}

type builtCluster struct {
	Version     string            `json:"version"`
	Endpoint    fleet.APIEndpoint `json:"endpoint"`
	PodCIDR     string            `json:"podCIDR"`
	ServiceCIDR string            `json:"serviceCIDR"`
	CNI         fleet.CNI         `json:"cni"`
	Payload     string            `json:"payloadDigest"`
	Emulation   bool              `json:"emulation,omitempty"`
}

type builtServer struct {
	Server       fleet.ServerID    `json:"server"`
	Identity     fleet.Identity    `json:"identity"`
	Hostname     string            `json:"hostname"`
	Role         fleet.Role        `json:"role"`
	Phase        fleet.Phase       `json:"phase"`
	BMC          string            `json:"bmc"`
	Manufacturer string            `json:"manufacturer,omitempty"`
	Model        string            `json:"model,omitempty"`
	BIOS         string            `json:"bios,omitempty"`
	BMCFirmware  string            `json:"bmcFirmware,omitempty"`
	CPU          string            `json:"cpu,omitempty"`
	Threads      int               `json:"threads,omitempty"`
	MemoryMiB    int64             `json:"memoryMiB,omitempty"`
	NICs         []builtNIC        `json:"nics"`
	Network      fleet.Network     `json:"network"`
	Erased       *fleet.DiskRef    `json:"erasedDisk,omitempty"` // nil: it was kept as it was
	Kept         []fleet.DiskRef   `json:"keptDisks,omitempty"`
	KVM          *fleet.KVM        `json:"kvm,omitempty"`
	OS           string            `json:"os,omitempty"`
	Attempts     int               `json:"attempts"`
	Route        fleet.BootRoute   `json:"route,omitempty"`   // by which the live system came
	Medium       fleet.Medium      `json:"medium,omitempty"`  // that the BMC was given
	Fetched      int64             `json:"fetched,omitempty"` // bytes of it that the BMC read
	Timings      []builtTiming     `json:"timings,omitempty"`
	Cause        *fleet.Cause      `json:"cause,omitempty"` // of one that is held
	Seen         map[string]string `json:"seen,omitempty"`  // when facts were read, by who read them
}

type builtNIC struct {
	Name  string `json:"name,omitempty"`
	MAC   string `json:"mac"`
	Speed int    `json:"speedMbps,omitempty"`
	Used  bool   `json:"used,omitempty"` // by the server's network
}

// builtTiming is how long a server took from one milestone to the next.
type builtTiming struct {
	To      string  `json:"to"`
	Seconds float64 `json:"seconds"`
}

type builtComponent struct {
	Name     fleet.Component `json:"name"`
	Version  string          `json:"version,omitempty"`
	State    fleet.StepState `json:"state"`
	Note     string          `json:"note,omitempty"`
	Seconds  float64         `json:"seconds,omitempty"`
	Unproven string          `json:"unproven,omitempty"`
}

type builtProof struct {
	Name    fleet.Proof        `json:"name"`
	State   fleet.StepState    `json:"state"`
	Note    string             `json:"note,omitempty"` // why it was left out
	At      time.Time          `json:"at,omitzero"`
	Seconds float64            `json:"seconds,omitempty"`
	Cause   *fleet.Cause       `json:"cause,omitempty"`
	Result  *fleet.ProofResult `json:"result,omitempty"`
}

// builtPlatform are the settings of the VM platform.
type builtPlatform struct {
	Emulation        bool              `json:"emulation,omitempty"`
	CPUModel         string            `json:"cpuModel,omitempty"`
	MemoryOvercommit int               `json:"memoryOvercommit,omitempty"`
	Networks         []fleet.VMNetwork `json:"networks,omitempty"`
	Storage          fleet.VMStorage   `json:"storage,omitzero"`
	Capacity         fleet.Capacity    `json:"capacity"`
}

type builtAccepted struct {
	At          time.Time `json:"at"`
	By          string    `json:"by"`
	Differences []string  `json:"differences"`
}

// build makes the report of the plan that was applied last, from what the state
// folder holds.
func build(ctx context.Context, st *store.Store, view fleet.Overview, now time.Time) (asBuilt, error) {
	b := asBuilt{APIVersion: builtVersion, Site: view.Site, Plan: view.Plan, Metalrise: version(), MadeAt: now.UTC(), Servers: []builtServer{}, Consents: []builtConsent{}}
	p, ok, err := st.Plan(ctx, view.Plan)
	if err != nil {
		return b, err
	}
	if !ok {
		return b, fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, nil, "no plan was applied yet: there is nothing to report")
	}
	b.System, b.Findings = p.Image, p.Findings
	if c := p.Cluster; c != nil {
		b.Cluster = &builtCluster{Version: c.Version, Endpoint: c.Endpoint, PodCIDR: c.PodCIDR, ServiceCIDR: c.ServiceCIDR, CNI: c.CNI, Payload: c.PayloadDigest, Emulation: c.Emulation}
	}
	events, err := allOf(ctx, st)
	if err != nil {
		return b, err
	}
	inBand, err := st.InBand(ctx)
	if err != nil {
		return b, err
	}
	for _, s := range view.Servers {
		a, known := p.Assignment(s.Server)
		if !known {
			continue
		}
		outside, _, err := st.OutOfBand(ctx, a.Identity)
		if err != nil {
			return b, err
		}
		b.Servers = append(b.Servers, buildServer(a, s, outside, inBand[string(s.Server)], events))
	}
	for _, e := range events {
		var c fleet.Consent
		if e.Action == fleet.ActConsent && json.Unmarshal(e.Data, &c) == nil {
			b.Consents = append(b.Consents, builtConsent{e.At.UTC(), e.Plan, c.By, c.EraseDisks})
		}
	}
	b.platform(p, view)
	b.HandedOver = handedOver(p, view, events)
	return b, nil
}

// allOf reads the whole journal.
func allOf(ctx context.Context, st *store.Store) ([]fleet.Event, error) {
	var out []fleet.Event
	for after := int64(0); ; after = out[len(out)-1].Seq {
		events, err := st.Events(ctx, after, 10_000)
		if err != nil || len(events) == 0 {
			return out, err
		}
		out = append(out, events...)
	}
}

func buildServer(a fleet.Assignment, s fleet.Status, outside, inside fleet.Facts, events []fleet.Event) builtServer {
	b := builtServer{Server: a.Server, Identity: a.Identity, Hostname: a.Hostname, Role: a.Role, Phase: s.Phase, BMC: a.BMC.Address,
		Manufacturer: outside.Manufacturer.Or(inside.Manufacturer.Or("")), Model: outside.Model.Or(inside.Model.Or("")),
		BIOS: outside.BIOSVersion.Or(inside.BIOSVersion.Or("")), BMCFirmware: outside.BMCFirmware.Or(""),
		CPU: inside.CPU.Model.Or(outside.CPU.Model.Or("")), Threads: inside.CPU.Threads.Or(outside.CPU.Threads.Or(0)), MemoryMiB: inside.MemoryMiB.Or(outside.MemoryMiB.Or(0)),
		Network: a.Network, Kept: a.KeepDisks, OS: inside.OS.Or(""), Attempts: s.Attempt, Route: s.Route, Medium: s.Medium, Fetched: s.Fetched, Cause: s.Cause, NICs: []builtNIC{}, Seen: map[string]string{}}
	if a.Kept == "" {
		b.Erased = &a.InstallDisk
	}
	if kvm, ok := s.KVM.Get(); ok {
		b.KVM = &kvm
	}
	for _, f := range []fleet.Facts{outside, inside} {
		if !f.At.IsZero() {
			b.Seen[string(f.Source)] = f.At.UTC().Format(time.RFC3339)
		}
	}
	nics := inside.NICs
	if len(nics) == 0 {
		nics = outside.NICs
	}
	for _, n := range nics {
		b.NICs = append(b.NICs, builtNIC{n.Name, n.MAC, n.SpeedMbps.Or(0), a.Network.Has(n.MAC)})
	}
	b.Timings = timings(a, events)
	return b
}

// milestones are the ends of a server's stretches, in order.
var milestones = []struct {
	action fleet.Action
	name   string
}{
	{fleet.ActHello, "live system"}, {fleet.ActWrite, "disk written"}, {fleet.ActArrive, "installed"},
	{fleet.ActPrepare, "software in place"}, {fleet.ActAdmit, "joined"}, {fleet.ActReady, "ready"},
}

// timings reads from the journal how long a server took from one milestone to
// the next, in the attempt that succeeded; waits for others are part of it.
func timings(a fleet.Assignment, events []fleet.Event) []builtTiming {
	var last time.Time
	at := map[fleet.Action]time.Time{}
	for _, e := range events {
		switch {
		case e.Server != a.Server:
		case e.Action == fleet.ActStage && e.Outcome == fleet.OK:
			last, at = e.At, map[fleet.Action]time.Time{}
		case e.Edge == fleet.Ended && (e.Outcome == fleet.OK || e.Outcome == fleet.Adopted):
			if _, had := at[e.Action]; !had {
				at[e.Action] = e.At
			}
		}
	}
	var out []builtTiming
	for _, m := range milestones {
		if t := at[m.action]; !t.IsZero() && !last.IsZero() {
			out = append(out, builtTiming{m.name, max(t.Sub(last), 0).Seconds()})
			last = t
		}
	}
	return out
}

func (b *asBuilt) platform(p fleet.Plan, view fleet.Overview) {
	if p.Stack == nil || view.Stack == nil {
		return
	}
	s := p.Stack
	b.Platform = &builtPlatform{Emulation: s.Emulation, CPUModel: s.CPUModel, MemoryOvercommit: s.MemoryOvercommit, Networks: s.Networks, Storage: s.Storage, Capacity: s.Capacity}
	unproven := map[fleet.Component]string{}
	for _, c := range s.Components {
		unproven[c.Name] = c.Unproven
	}
	for _, x := range view.Stack.Steps {
		if x.Component != "" {
			b.Components = append(b.Components, builtComponent{x.Component, x.Version, x.State, x.Note, x.Took, unproven[x.Component]})
			continue
		}
		proof := builtProof{Name: x.Proof, State: x.State, Note: x.Note, Seconds: x.Took, Cause: x.Cause, Result: x.Result}
		if x.State == fleet.StepOK || x.State == fleet.StepFailed {
			proof.At = x.Since.UTC()
		}
		b.Proofs = append(b.Proofs, proof)
	}
}

// handedOver is when all was done, zero while it is not.
func handedOver(p fleet.Plan, view fleet.Overview, events []fleet.Event) time.Time {
	var at time.Time
	for _, s := range view.Servers {
		if s.Condition != fleet.Settled {
			return time.Time{}
		}
	}
	if view.Stack != nil && !view.Stack.Done {
		return time.Time{}
	}
	for _, e := range events {
		if e.Plan == p.ID && (e.Action == fleet.ActHandOver || e.Action == fleet.ActFinish) && e.Outcome == fleet.OK {
			at = e.At.UTC()
		}
	}
	return at
}

// figureNames are those of a result, in a fixed order.
func figureNames(r *fleet.ProofResult) []string {
	if r == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(r.Measured))
}
