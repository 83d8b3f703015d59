package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/provision/store"
)

func handoverCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "handover",
		Short: "Show how to use what was built, and what is proven of it",
		Long: `handover prints the page that is handed over with a cluster: the ways in, where
the credentials lie, storage classes and VM networks, which checks passed and which
were waived, the proofs with their figures, the DNS records that are still owed, and
a command that makes a first VM when it is pasted. Secrets are named, never shown.

Once all is done the as-built report lies beside the journal, signed; metalrise
report as-built writes it elsewhere.
` + exitHelp,
		Example: "  metalrise handover\n  metalrise handover --output json | jq .firstVM",
		Args:    usage(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return o.handover(c.Context()) },
	}
}

// handOff is all that the page says.
type handOff struct {
	Site       string            `json:"site"`
	Plan       string            `json:"plan"`
	HandedOver time.Time         `json:"handedOver,omitzero"`
	Owed       []string          `json:"owed,omitempty"` // what of the plan is not done
	Kubeconfig string            `json:"kubeconfig,omitempty"`
	API        string            `json:"api,omitempty"`
	Reachable  bool              `json:"reachable"`
	Kubernetes string            `json:"kubernetes,omitempty"`
	Console    string            `json:"console"` // of the cluster, in a browser
	Kubectl    string            `json:"kubectl,omitempty"`
	Virtctl    string            `json:"virtctl,omitempty"`
	Secrets    map[string]string `json:"secrets"` // what lies where
	Checks     []string          `json:"checks"`  // that are not true now
	Platform   *builtPlatform    `json:"platform,omitempty"`
	Components []builtComponent  `json:"components,omitempty"`
	Proofs     []builtProof      `json:"proofs,omitempty"`
	Fencing    string            `json:"fencing,omitempty"`
	DNS        []dnsRecord       `json:"dns"`
	FirstVM    string            `json:"firstVM,omitempty"` // commands to paste
	NoFirstVM  string            `json:"removeFirstVM,omitempty"`
	Report     string            `json:"report,omitempty"`
	Signer     string            `json:"signer,omitempty"` // fingerprint of the key that signed it
}

// dnsRecord is one that people will want.
type dnsRecord struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Value   string `json:"value"`
	Present bool   `json:"present"` // this computer's resolver gives it
}

func (o *options) handover(ctx context.Context) error {
	dir, err := o.siteDir()
	if err != nil {
		return err
	}
	h, view, err := o.handOff(ctx, dir)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return o.json(h)
	}
	o.printHandOff(h, view)
	return nil
}

// handOff gathers the page, and keeps the report once all is done.
func (o *options) handOff(ctx context.Context, dir string) (handOff, fleet.Overview, error) {
	view, err := overview(ctx, dir)
	if err != nil {
		return handOff{}, view, err
	}
	o.lookAtCluster(ctx, &view)
	st, err := store.OpenReader(dir)
	if err != nil {
		return handOff{}, view, fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, err, "nothing was built for this site yet")
	}
	defer st.Close()
	b, err := build(ctx, st, view, time.Now())
	if err != nil {
		return handOff{}, view, err
	}
	if err := keepBuilt(ctx, st, view); err != nil {
		return handOff{}, view, err
	}
	p, _, err := st.Plan(ctx, view.Plan)
	if err != nil {
		return handOff{}, view, err
	}
	h := handOff{Site: b.Site, Plan: b.Plan, HandedOver: b.HandedOver, Console: "none was installed", Platform: b.Platform, Components: b.Components, Proofs: b.Proofs,
		Secrets: secretPlaces(dir), Checks: []string{}, Owed: owed(view), DNS: dnsOf(ctx, p)}
	if !b.HandedOver.IsZero() {
		h.Report = filepath.Join(dir, builtJSON)
		if _, signer, err := checkBuilt(h.Report); err == nil { // metalrise report verify tells what is wrong with it
			h.Signer = signer.Fingerprint()
		}
	}
	if c := view.Cluster; c != nil {
		h.Kubeconfig, h.API, h.Reachable, h.Kubernetes = cmp.Or(c.Kubeconfig, store.KubeconfigPath(dir)), c.Endpoint, c.Reachable, c.Version
		h.Kubectl, h.Virtctl = o.programPath(ctx, dir, "kubectl"), o.programPath(ctx, dir, "virtctl")
		for _, k := range c.Checks {
			if !k.OK {
				h.Checks = append(h.Checks, "cluster "+k.Name+": "+k.Missing)
			}
		}
	}
	for _, s := range view.Servers {
		for _, k := range s.Checks {
			if !k.OK {
				h.Checks = append(h.Checks, s.Hostname+" "+k.Name+": "+k.Missing)
			}
		}
	}
	if p.Stack != nil {
		h.Fencing = fencingText(*p.Stack, b)
		kubectl := cmp.Or(h.Kubectl, "kubectl")
		if h.FirstVM = firstVM(*p.Stack, h.Kubeconfig, kubectl); h.FirstVM != "" {
			h.NoFirstVM = firstVMRemoved(kubectl)
		}
	}
	return h, view, nil
}

// programPath finds a program of the nodes' software that runs here, "" when
// there is none.
func (o *options) programPath(ctx context.Context, dir, name string) string {
	f, _ := site.Load(o.file)
	if f == nil { // on a node that was installed from a prepared medium, for example
		if path := filepath.Join(nodePrograms, name); runnable(path) {
			return path
		}
		return ""
	}
	path, err := payloadProgram(ctx, f.Site().Cluster.Software, dir, name)
	if err != nil {
		return ""
	}
	link := filepath.Join(dir, "programs", name) // a name to type in place of a digest
	if linkTo(path, link) == nil {
		return link
	}
	return path
}

// nodePrograms is where the nodes' software puts its programs on a node.
const nodePrograms = "/opt/metalrise/bin"

func runnable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// secretPlaces tells where credentials lie; all are readable by their owner only.
func secretPlaces(dir string) map[string]string {
	return map[string]string{
		"administrator of the cluster":                       store.KubeconfigPath(dir),
		"authority of the cluster, keys of the site":         filepath.Join(dir, "secrets"),
		"passwords of the BMCs, where the site file says so": "vault or files named in the site file",
	}
}

// owed lists what of the plan is not done.
func owed(view fleet.Overview) []string {
	var out []string
	for _, s := range view.Servers {
		if s.Condition != fleet.Settled {
			out = append(out, s.Hostname+" is "+string(s.Condition)+": "+s.Step)
		}
	}
	if view.Stack == nil || view.Stack.Done {
		return out
	}
	for _, s := range view.Stack.Steps {
		if s.State != fleet.StepOK && s.State != fleet.StepSkipped {
			out = append(out, strings.TrimSuffix(stepName(s)+" is "+string(s.State)+": "+s.Note, ": "))
		}
	}
	return out
}

// fencingText says what happens to VMs when a node is lost.
func fencingText(p fleet.StackPlan, b asBuilt) string {
	text := "the proof of a lost node is not part of this plan"
	for _, proof := range b.Proofs {
		if proof.Name != fleet.ProofFence {
			continue
		}
		switch proof.State {
		case fleet.StepOK:
			text = "proven: a node was switched off through its BMC and its VM came back elsewhere"
			if proof.Result != nil && len(proof.Result.Measured) > 0 {
				text += " (" + figures(proof.Result.Measured) + ")"
			}
		case fleet.StepSkipped:
			text = "not proven: " + proof.Note
		case fleet.StepFailed:
			text = "FAILED when it was tried: VMs do not survive the loss of a node"
		case fleet.StepPending, fleet.StepRunning:
			text = "not proven yet"
		}
	}
	automatic := slices.ContainsFunc(p.Components, func(c fleet.ComponentPlan) bool {
		return c.Name == fleet.ComponentNodeHealth || c.Name == fleet.ComponentSelfRemedy
	})
	if !automatic {
		text += ". Nothing in the cluster does it by itself: a lost node's VMs wait until a person switches it off (metalrise bmc power) and marks it (kubectl taint node NAME node.kubernetes.io/out-of-service=nodeshutdown:NoExecute)"
	}
	return text
}

// dnsOf lists the records that the cluster's names need, and asks the resolver
// which are there.
func dnsOf(ctx context.Context, p fleet.Plan) []dnsRecord {
	out := []dnsRecord{}
	for _, a := range p.Assignments {
		address, err := netip.ParsePrefix(a.Network.Address)
		if a.Role == fleet.Excluded || err != nil {
			continue
		}
		kind := "A"
		if address.Addr().Is6() {
			kind = "AAAA"
		}
		out = append(out, dnsRecord{Name: a.Hostname, Type: kind, Value: address.Addr().String()})
	}
	if p.Cluster != nil {
		if _, err := netip.ParseAddr(p.Cluster.Endpoint.Address); err != nil {
			out = append(out, dnsRecord{Name: p.Cluster.Endpoint.Address, Type: "A", Value: "the load balancer"})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second) // a resolver that is away must not keep the page
	defer cancel()
	var wg sync.WaitGroup
	for i := range out {
		wg.Go(func() {
			found, err := net.DefaultResolver.LookupHost(ctx, out[i].Name)
			out[i].Present = err == nil && (slices.Contains(found, out[i].Value) || out[i].Value == "the load balancer")
		})
	}
	wg.Wait()
	return out
}

func (o *options) printHandOff(h handOff, view fleet.Overview) {
	o.printf("\nHAND-OFF of site %s, plan %.12s\n", h.Site, h.Plan)
	if h.HandedOver.IsZero() {
		o.printf("NOT DONE YET: what follows is how it stands now\n")
		for _, t := range h.Owed {
			o.printf("  ! %s\n", t)
		}
	} else {
		o.printf("handed over %s, %d servers\n", stamp(h.HandedOver), len(view.Servers))
	}
	w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	row := func(label, format string, args ...any) {
		fmt.Fprintf(w, "  %s\t%s\n", label, fmt.Sprintf(format, args...))
	}
	title := func(t string) {
		_ = w.Flush()
		o.printf("\n%s\n", t)
	}
	if h.API != "" {
		title("Ways in")
		answers := "answers"
		if !h.Reachable {
			answers = "DOES NOT ANSWER this computer"
		}
		row("API", "%s (Kubernetes %s), %s", h.API, h.Kubernetes, answers)
		row("kubeconfig", "%s", h.Kubeconfig)
		row("kubectl", "%s", cmp.Or(h.Kubectl, "not found in the nodes' software"))
		row("virtctl", "%s", cmp.Or(h.Virtctl, "not found in the nodes' software"))
		row("web console", "%s", h.Console)
	}
	title("Credentials (nothing is shown here)")
	for _, name := range []string{"administrator of the cluster", "authority of the cluster, keys of the site", "passwords of the BMCs, where the site file says so"} {
		row(name, "%s", h.Secrets[name])
	}
	o.printHandOffPlatform(title, row, h)
	title("DNS records")
	present := 0
	for _, d := range h.DNS {
		if d.Present {
			present++
			continue
		}
		row("owed", "%s %s %s", d.Name, d.Type, d.Value)
	}
	row("there", "%d of %d, asked from this computer", present, len(h.DNS))
	title("Checks")
	for _, c := range h.Checks {
		row("NOT TRUE", "%s", c)
	}
	if len(h.Checks) == 0 {
		row("all", "every check of nodes and cluster that this computer can see is true")
	}
	_ = w.Flush()
	if h.FirstVM != "" {
		o.printf("\nA first VM; paste it, and see what its guest says on its console:\n\n%s\nIt goes on until you remove it: %s\n\n", h.FirstVM, h.NoFirstVM)
	}
	if h.Report != "" {
		o.printf("As-built report, signed: %s (also .md and .html)\n", h.Report)
		if h.Signer != "" {
			o.printf("Elsewhere, check it with: metalrise report verify %s --signer %s\n", builtJSON, h.Signer)
		}
		o.printf("metalrise verify tells later what differs from it.\n")
	}
}

func (o *options) printHandOffPlatform(title func(string), row func(string, string, ...any), h handOff) {
	if h.Platform == nil {
		return
	}
	title("VM platform")
	if h.Platform.Emulation {
		row("processor", "EMULATED in software: slow, and only for rehearsal")
	}
	row("volumes", "%s", storageText(h.Platform.Storage))
	for _, n := range h.Platform.Networks {
		row("VM network", "%s", networkText(n, ""))
	}
	if len(h.Platform.Networks) == 0 {
		row("VM network", "none besides the pods' own")
	}
	row("room", "%s", roomText(h.Platform.Capacity))
	row("fencing", "%s", h.Fencing)
	title("Components")
	for _, c := range h.Components {
		text := cmp.Or(c.Version, "by metalrise") + ", " + string(c.State)
		if c.Note != "" {
			text += ", " + c.Note
		}
		if c.Unproven != "" {
			text += ", UNPROVEN: " + c.Unproven
		}
		row(string(c.Name), "%s", text)
	}
	title("Proofs")
	for _, p := range h.Proofs {
		switch p.State {
		case fleet.StepOK:
			text := fmt.Sprintf("passed in %.0f s", p.Seconds)
			if p.Result != nil && len(p.Result.Measured) > 0 {
				text += ": " + figures(p.Result.Measured)
			}
			row(string(p.Name), "%s", text)
		case fleet.StepSkipped:
			row(string(p.Name), "not proven: %s", p.Note)
		case fleet.StepFailed:
			row(string(p.Name), "FAILED: %s", causeText(p.Cause))
		case fleet.StepPending, fleet.StepRunning:
			row(string(p.Name), "not done yet")
		}
	}
}

func causeText(c *fleet.Cause) string {
	if c == nil {
		return ""
	}
	return string(c.Code) + " " + strings.Join(c.Chain, ": ")
}
