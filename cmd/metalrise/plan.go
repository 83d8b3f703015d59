package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/ignition"
	"metalrise.dev/images"
	"metalrise.dev/kube"
	"metalrise.dev/plan"
	"metalrise.dev/provision"
	"metalrise.dev/provision/store"
)

func planCommand(o *options) *cobra.Command {
	var scratch bool
	c := &cobra.Command{
		Use:   "plan",
		Short: "Decide everything from the site file and the facts, and show it",
		Long: `plan decides roles, host names, addresses, network ports and install disks, and
keeps the result under its digest. It talks to nobody. Findings say what could
not be decided or looks wrong, where, and what to do; the disks that apply would
erase are listed by serial number.

Where the nodes' software has KubeVirt, the plan also has the VM platform: its
components in their order, for how many VMs there is room, and which proofs are
run, or why not. The section platform of the site file changes it.

Servers that an earlier plan installed are kept as they are: they are not erased,
and what the site file now says differently of them is a finding. --from-scratch
forgets them: everything is installed anew.
` + exitHelp,
		Example: "  metalrise plan -f site.yaml\n  metalrise plan --output json | jq .plan.assignments\n  metalrise plan --from-scratch",
		Args:    usage(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return o.plan(c.Context(), scratch) },
	}
	c.Flags().BoolVar(&scratch, "from-scratch", false, "plan to install every server anew, also those that are installed")
	return c
}

// planReport is the one JSON object of plan.
type planReport struct {
	Plan    fleet.Plan      `json:"plan"`
	Erase   []fleet.DiskRef `json:"erase"`
	Blocked bool            `json:"blocked"`
	Changes []string        `json:"changes"` // since the plan before
}

func (o *options) plan(ctx context.Context, scratch bool) error {
	f, findings, err := o.siteFile()
	if err != nil {
		return err
	}
	findings = append(findings, f.CheckSecrets()...)
	s := f.Site()
	st, err := o.writer(s.Name)
	if err != nil {
		return err
	}
	defer st.Close()
	before, had, err := st.LatestPlan(ctx)
	if err != nil {
		return err
	}
	p, err := makePlan(ctx, f, st, scratch)
	if err != nil {
		return err
	}
	if err := st.KeepPlan(ctx, p); err != nil {
		return err
	}
	if _, err := st.Append(ctx, fleet.Event{At: time.Now(), Plan: p.ID, Action: fleet.ActPlan, Edge: fleet.Ended, Outcome: fleet.OK,
		Note: fmt.Sprintf("%d servers, %d disks to erase, %d findings", len(p.Assignments), len(p.ErasedDisks()), len(p.Findings))}); err != nil {
		return err
	}
	var changes []string
	if had && before.ID != p.ID {
		changes = plan.Diff(before, p)
	}
	if o.output == "json" {
		err = o.json(planReport{p, orEmpty(p.ErasedDisks()), p.Blocked(), orEmpty(changes)})
	} else {
		printPlan(o.out, p)
		o.printFindings(append(findings, p.Findings...))
		for _, c := range changes {
			o.printf("changed: %s\n", c)
		}
	}
	if err == nil && p.Blocked() {
		return &exitError{code: exitFindings}
	}
	return err
}

// makePlan gathers what is known and lets package plan decide.
func makePlan(ctx context.Context, f *site.File, st *store.Store, scratch bool) (fleet.Plan, error) {
	s := f.Site()
	servers, err := st.Servers(ctx)
	if err != nil {
		return fleet.Plan{}, err
	}
	facts, err := st.Facts(ctx)
	if err != nil {
		return fleet.Plan{}, err
	}
	in := plan.Input{Site: s, Facts: map[fleet.ServerID]fleet.Facts{}, Now: time.Now(), IgnitionDigest: ignition.Digest}
	// Servers that are no longer among the site's addresses stay enrolled, but
	// are not planned with.
	wanted, err := bmc.Expand(s.BMCs.Addresses, orPort(s.BMCs.Port))
	if err != nil {
		return fleet.Plan{}, fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, err, "bmcs.addresses")
	}
	in.Site = s.WithListed(servers)
	site, recognised, left := byRules(in.Site, servers, facts)
	in.Site = site
	for id, v := range servers {
		if _, ok := recognised[id]; ok || slices.Contains(wanted, v.BMC.Address) {
			in.Servers = append(in.Servers, v)
			in.Facts[v.ID] = facts[id]
		}
	}
	if in.SiteDigest, err = f.Digest(); err != nil {
		return fleet.Plan{}, err
	}
	// A missing release is a finding of the plan, made from the empty reference.
	if r, err := images.Load(ctx, s.Image); err != nil {
		in.ImageProblem = err.Error()
	} else {
		in.Image = r.Ref()
	}
	planCluster(ctx, s, &in)
	if err := planStanding(ctx, st, &in, scratch); err != nil {
		return fleet.Plan{}, err
	}
	p := plan.Make(in)
	if len(left) > 0 {
		p.Findings = append(p.Findings, left...)
		if err := p.Seal(); err != nil {
			return p, err
		}
	}
	if p.Cluster == nil || in.Payload == nil {
		return p, nil
	}
	p.Findings = append(p.Findings, kube.Validate(p, *in.Payload)...)
	return p, p.Seal()
}

// mostManifests bounds the file under cluster.cniManifests.
const mostManifests = 1 << 20

// planCluster gathers what the cluster is to be made of. What cannot be read is a
// finding of the plan.
func planCluster(ctx context.Context, s fleet.Site, in *plan.Input) {
	if s.Cluster.Software == "" {
		return
	}
	if payload, err := images.LoadPayload(ctx, s.Cluster.Software); err != nil {
		in.PayloadProblem = err.Error()
	} else {
		v := payload.Value()
		in.Payload = &v
	}
	if s.Cluster.CNIManifests == "" {
		return
	}
	manifests, err := readBounded(s.Cluster.CNIManifests, mostManifests)
	if err != nil {
		in.ManifestsProblem = err.Error()
	}
	in.Manifests = string(manifests)
}

// planStanding tells the plan what earlier runs left in place: that is kept,
// unless a person wants it forgotten.
func planStanding(ctx context.Context, st *store.Store, in *plan.Input, scratch bool) error {
	standing, ok, err := provision.StandingOf(ctx, st, st)
	if err != nil || !ok {
		return err
	}
	if scratch {
		in.FromScratch = standing.Scratch(time.Now())
		return nil
	}
	in.Previous, in.Done, in.Unbegun = &standing.Plan, standing.Done, !standing.Begun
	return nil
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, err
}

func printPlan(out io.Writer, p fleet.Plan) {
	fmt.Fprintf(out, "plan %.12s for site %s: %s %s\n\n", p.ID, p.Site, p.Image.Stream, p.Image.Version)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "HOST\tROLE\tSERVER\tADDRESS\tPORT\tDISK TO ERASE")
	for _, a := range p.Assignments {
		disk := a.InstallDisk.String()
		switch {
		case a.Role == fleet.Excluded:
			disk = "none"
		case a.Kept != "":
			disk = "none (kept)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", a.Hostname, a.Role, a.Server, a.Network.Address, a.Network.MAC, disk)
	}
	_ = w.Flush()
	if p.Stack != nil {
		fmt.Fprintln(out)
		printStack(out, p)
	}
	erase := p.ErasedDisks()
	fmt.Fprintf(out, "\n%d disks will be ERASED:\n", len(erase))
	for _, d := range erase {
		size := ""
		if d.SizeBytes > 0 {
			size = bytesText(d.SizeBytes)
		}
		fmt.Fprintf(out, "  %s %s %s\n", d, d.Model, size)
	}
	fmt.Fprintln(out)
}
