package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/images"
	"metalrise.dev/kube"
	"metalrise.dev/kube/vmstack"
	"metalrise.dev/provision/api"
	"metalrise.dev/provision/store"
)

func verifyCommand(o *options) *cobra.Command {
	var accept, prove bool
	var proofs []string
	c := &cobra.Command{
		Use:   "verify",
		Short: "Compare the cluster with what was handed over; run proofs again",
		Long: `verify reads the as-built report of the site, checks its signature, and tells what
is different now: nodes, their machines and versions, components of the VM platform
and whether they are ready, and firmware, ports and disks as inspect read them last
(run metalrise inspect before to have that fresh). It changes nothing. A difference
is VM-016 and exit code 6; --accept takes the differences for meant: they are
written into the report, which is signed anew.

With --prove the proofs that disturb nobody are run again, with VMs of their own:
start, migrate, network, volume, snapshot. --proof NAME runs that one, and is the
only way to have a node drained or switched off in a cluster that is in use: drain
and fence move or restart the VMs of others too.
` + exitHelp,
		Example: "  metalrise verify\n  metalrise verify --output json | jq -r '.differences[]'\n  metalrise verify --proof fence",
		Args:    usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := o.siteDir()
			if err != nil {
				return err
			}
			if prove || len(proofs) > 0 {
				if accept {
					return &exitError{exitUsage, errors.New("--accept and proofs exclude each other")}
				}
				return o.proveAgain(c.Context(), dir, proofs)
			}
			return o.verify(c.Context(), dir, accept)
		},
	}
	c.Flags().BoolVar(&accept, "accept", false, "write the differences into the report as meant")
	c.Flags().BoolVar(&prove, "prove", false, "run the proofs again that disturb nobody")
	c.Flags().StringSliceVar(&proofs, "proof", nil, "run this proof again (repeatable)")
	return c
}

// verified is what verify found.
type verified struct {
	Report      string    `json:"report"`
	HandedOver  time.Time `json:"handedOver"`
	SignedBy    string    `json:"signedBy"`
	Differences []string  `json:"differences"`
	Unseen      []string  `json:"unseen,omitempty"` // what could not be looked at
	Accepted    bool      `json:"accepted,omitempty"`
}

func (o *options) verify(ctx context.Context, dir string, accept bool) error {
	path := filepath.Join(dir, builtJSON)
	b, signer, err := checkBuilt(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := o.firstReport(ctx, dir); err != nil {
			return err
		}
		b, signer, err = checkBuilt(path)
	}
	if err != nil {
		return err
	}
	if own, ok := ownKey(dir); !ok || own != signer.Fingerprint() {
		return fmt.Errorf("report %s was signed by %s, which is not this site's key", path, signer.Fingerprint())
	}
	now, err := o.sight(ctx, dir, b)
	if err != nil {
		return err
	}
	v := verified{Report: path, HandedOver: b.HandedOver, SignedBy: signer.Fingerprint(), Differences: append([]string{}, drift(b, now)...), Unseen: now.Unseen}
	if accept && len(v.Differences) > 0 {
		if err := acceptDrift(dir, b, v.Differences); err != nil {
			return err
		}
		v.Accepted = true
	}
	return o.printVerified(v)
}

// firstReport makes the report of a site that was built before reports were.
func (o *options) firstReport(ctx context.Context, dir string) error {
	st, err := store.OpenReader(dir)
	if err != nil {
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, err, "nothing was built for this site yet")
	}
	defer st.Close()
	view, err := overview(ctx, dir)
	if err != nil {
		return err
	}
	if err := keepBuilt(ctx, st, view); err != nil {
		return err
	}
	if _, err := readBuilt(filepath.Join(dir, builtJSON)); errors.Is(err, fs.ErrNotExist) {
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Conflict, nil, "nothing was handed over yet: see metalrise status")
	}
	return nil
}

// sight looks at what is there now. An API that does not answer is told, and
// costs what only it can tell.
func (o *options) sight(ctx context.Context, dir string, b asBuilt) (sighted, error) {
	now := sighted{Facts: map[fleet.ServerID]fleet.Facts{}}
	st, err := store.OpenReader(dir)
	if err != nil {
		return now, err
	}
	defer st.Close()
	for _, s := range b.Servers {
		f, ok, err := st.OutOfBand(ctx, s.Identity)
		if err != nil {
			return now, err
		}
		if ok {
			now.Facts[s.Server] = f
		}
	}
	if b.Cluster == nil {
		return now, nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c, p, err := o.openCluster(ctx)
	if err != nil {
		return now, err
	}
	defer c.Close()
	if now.Nodes, err = c.NodesSeen(ctx); err != nil {
		now.Unseen = append(now.Unseen, "nodes: "+err.Error())
		return now, nil
	}
	now.NodesKnown = true
	if b.Platform == nil {
		return now, nil
	}
	now.Components, err = lookAtPlatform(ctx, c, p)
	if now.StackKnown = err == nil; err != nil {
		now.Unseen = append(now.Unseen, "components: "+err.Error())
	}
	return now, nil
}

func lookAtPlatform(ctx context.Context, c *kube.Cluster, p fleet.Plan) ([]vmstack.Installed, error) {
	none := func(sha256 string) ([]byte, error) {
		return nil, fmt.Errorf("content %s is not needed to look", sha256)
	}
	return vmstack.New(c, p, none).Look(ctx)
}

// ownKey is the fingerprint of the key in a state folder; none is made.
func ownKey(dir string) (string, bool) {
	seed, err := readBounded(filepath.Join(dir, "secrets", "bundle-key"), 64)
	if err != nil {
		return "", false
	}
	key, err := images.NewBundleKey(seed)
	if err != nil {
		return "", false
	}
	return key.Signer().Fingerprint(), true
}

func acceptDrift(dir string, b asBuilt, differences []string) error {
	st, err := store.OpenReader(dir)
	if err != nil {
		return err
	}
	defer st.Close()
	b.Accepted = append(b.Accepted, builtAccepted{At: time.Now().UTC(), By: who(false), Differences: differences})
	return storeBuilt(st, b)
}

func (o *options) printVerified(v verified) error {
	if o.output == "json" {
		if err := o.json(v); err != nil {
			return err
		}
	} else {
		o.printf("report of %s, signed by this site's key (%s)\n", stamp(v.HandedOver), v.SignedBy)
		for _, u := range v.Unseen {
			o.printf("  NOT SEEN  %s\n", u)
		}
		for _, d := range v.Differences {
			o.printf("  %s  %s\n", fleet.CodeDrift, d)
		}
	}
	switch {
	case v.Accepted:
		o.toReader("%d differences were accepted; the report was signed anew\n", len(v.Differences))
		return nil
	case len(v.Differences) > 0:
		o.toReader("%d differences; if they are meant: metalrise verify --accept\n", len(v.Differences))
		return &exitError{code: exitDrift}
	case len(v.Unseen) > 0:
		return &exitError{exitFailed, errors.New("not everything could be looked at")}
	}
	o.toReader("nothing differs from what was handed over\n")
	return nil
}

// toReader prints a sentence where a person reads.
func (o *options) toReader(format string, args ...any) {
	if o.output == "text" {
		o.printf(format, args...)
	}
}

// disturbing proofs move or restart VMs of others.
func disturbing(p fleet.Proof) bool { return p == fleet.ProofDrain || p == fleet.ProofFence }

// proveAgain has the engine run proofs, those named or all that disturb nobody.
func (o *options) proveAgain(ctx context.Context, dir string, names []string) error {
	client := api.NewClient(dir)
	if err := o.ensureEngine(ctx, client, dir, ""); err != nil {
		return err
	}
	view, err := client.Overview(ctx)
	if err != nil {
		return err
	}
	st, err := store.OpenReader(dir)
	if err != nil {
		return err
	}
	p, _, err := st.Plan(ctx, view.Plan)
	events, errEvents := allOf(ctx, st)
	if err := errors.Join(err, errEvents, st.Close()); err != nil {
		return err
	}
	if p.Stack == nil {
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, nil, "the plan that was applied has no VM platform")
	}
	q := fleet.PlatformRetry{By: who(false)}
	for _, n := range names {
		q.Prove = append(q.Prove, fleet.Proof(n))
	}
	for _, x := range p.Stack.Proofs {
		if len(names) == 0 && x.Skip == "" && !disturbing(x.Name) {
			q.Prove = append(q.Prove, x.Name)
		}
	}
	if len(q.Prove) == 0 {
		return fleet.NewFault(fleet.CodePlatformInvalid, fleet.Unsupported, nil, "no proof can be run here that disturbs nobody")
	}
	slices.Sort(q.Prove)
	if err := client.RetryPlatform(ctx, q); err != nil {
		return err
	}
	after := int64(0)
	if len(events) > 0 {
		after = events[len(events)-1].Seq
	}
	return o.watchFrom(ctx, dir, p, after)
}
