package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
	"metalrise.dev/provision"
	"metalrise.dev/provision/store"
)

func clusterCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use:   "cluster",
		Short: "The site's cluster: kubeconfig, kubectl, certificates",
		Args:  usage(cobra.NoArgs),
	}
	c.AddCommand(kubeconfigCommand(o), kubectlCommand(o), certificatesCommand(o), approveCommand(o))
	return c
}

// mergeFlags say where the kubeconfig goes.
type mergeFlags struct {
	into, name string
	replace    bool
}

func kubeconfigCommand(o *options) *cobra.Command {
	var m mergeFlags
	c := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the administrator's kubeconfig, or merge it into a file",
		Long: `kubeconfig prints the administrator's way into the cluster as it lies in the state
folder (mode 0600). With --merge it is added to an existing kubeconfig, of which
nothing is lost; a different cluster of the same name is left alone unless
--replace is given.
` + exitHelp,
		Example: "  metalrise cluster kubeconfig > kubeconfig\n  metalrise cluster kubeconfig --merge ~/.kube/config --name oslo",
		Args:    usage(cobra.NoArgs),
		RunE:    func(*cobra.Command, []string) error { return o.kubeconfig(m) },
	}
	c.Flags().StringVar(&m.into, "merge", "", "kubeconfig file to add it to")
	c.Flags().StringVar(&m.name, "name", "", "name of cluster, user and context there (default: the site's name)")
	c.Flags().BoolVar(&m.replace, "replace", false, "replace another cluster of that name")
	return c
}

func (o *options) kubeconfig(m mergeFlags) error {
	s, _, err := o.loadSite()
	if err != nil {
		return err
	}
	dir, err := o.stateDir(s.Name)
	if err != nil {
		return err
	}
	ours, err := readKubeconfig(dir)
	if err != nil {
		return err
	}
	if m.into == "" {
		if o.output == "json" {
			return o.json(map[string]string{"path": store.KubeconfigPath(dir), "kubeconfig": string(ours)})
		}
		o.printf("%s", ours)
		return nil
	}
	if m.name == "" {
		m.name = s.Name
	}
	file, err := behindLinks(m.into)
	if err != nil {
		return err
	}
	existing, err := readBounded(file, mostManifests)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	option := kube.RefuseOther
	if m.replace {
		option = kube.ReplaceOther
	}
	merged, changed, err := kube.MergeKubeconfig(existing, ours, m.name, option)
	if err != nil {
		return fmt.Errorf("merge into %s: %w", m.into, err)
	}
	if changed {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		if err := replaceFile(file, merged, 0o600); err != nil {
			return err
		}
	}
	if o.output == "json" {
		return o.json(map[string]any{"path": m.into, "context": m.name, "changed": changed})
	}
	o.printf("%s has context %s; use it with: kubectl --context %s get nodes\n", m.into, m.name, m.name)
	return nil
}

func readKubeconfig(dir string) ([]byte, error) {
	ours, err := os.ReadFile(store.KubeconfigPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fleet.NewFault(fleet.CodeAPIUnreachable, fleet.Invalid, nil, "no cluster was begun for this site yet: see metalrise status")
	}
	return ours, err
}

// behindLinks gives the file to which symbolic links lead, which need not exist:
// a link that was replaced would leave its file as it was.
func behindLinks(path string) (string, error) {
	at := path
	for range 40 {
		to, err := os.Readlink(at)
		if err != nil {
			return at, nil // no link, or nothing there: reading it tells
		}
		if !filepath.IsAbs(to) {
			dir, err := filepath.EvalSymlinks(filepath.Dir(at))
			if err != nil {
				return "", fmt.Errorf("follow the link %s: %w", path, err)
			}
			to = filepath.Join(dir, to)
		}
		at = to
	}
	return "", fmt.Errorf("follow the link %s: it leads to too many others", path)
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, b []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".metalrise-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// openCluster connects to the site's cluster as its administrator.
func (o *options) openCluster(ctx context.Context) (*kube.Cluster, fleet.Plan, error) {
	dir, err := o.siteDir()
	if err != nil {
		return nil, fleet.Plan{}, err
	}
	kubeconfig, err := readKubeconfig(dir)
	if err != nil {
		return nil, fleet.Plan{}, err
	}
	st, err := store.OpenReader(dir)
	if err != nil {
		return nil, fleet.Plan{}, err
	}
	defer st.Close()
	standing, ok, err := provision.StandingOf(ctx, st, st)
	if err != nil {
		return nil, fleet.Plan{}, err
	}
	if !ok || standing.Plan.Cluster == nil {
		return nil, fleet.Plan{}, fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, nil, "no plan with a cluster was applied")
	}
	// Servers that were taken away are no nodes any more.
	p := standing.Plan
	p.Assignments = slices.DeleteFunc(slices.Clone(p.Assignments), func(a fleet.Assignment) bool { return !standing.Done[a.Server] })
	c, err := kube.Connect(kubeconfig, p)
	return c, p, err
}

// undrain lets pods on nodes again whose removal was given up.
func (o *options) undrain(ctx context.Context, nodes []fleet.Assignment) error {
	if len(nodes) == 0 {
		return nil
	}
	c, _, err := o.openCluster(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	var failed error
	for _, a := range nodes {
		if err := c.Uncordon(ctx, a.Node.Name); err != nil {
			failed = errors.Join(failed, fmt.Errorf("the consent was taken back, but node %s may still be cordoned: %w", a.Node.Name, err))
		}
	}
	return failed
}

func certificatesCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "certificates",
		Short: "Show the cluster's certificates and until when they are valid",
		Long: `certificates shows the administrator's certificate, and asks every node for those
with which its API server and kubelet serve, soonest end first.
` + exitHelp,
		Example: "  metalrise cluster certificates\n  metalrise cluster certificates --output json",
		Args:    usage(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return o.certificates(c.Context()) },
	}
}

func (o *options) certificates(ctx context.Context) error {
	c, _, err := o.openCluster(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	list, failed := c.Certificates(ctx)
	sortByEnd(list)
	if o.output == "json" {
		return errors.Join(o.json(list), failed)
	}
	w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "CERTIFICATE\tSUBJECT\tVALID UNTIL\tDAYS LEFT")
	for _, k := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\n", k.Name, k.Subject, k.Until.UTC().Format(time.DateOnly), int(time.Until(k.Until).Hours()/24))
	}
	return errors.Join(w.Flush(), failed)
}

func approveCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "approve",
		Short: "Approve the certificates that planned nodes ask for, and no others",
		Long: `approve looks once at the certificates that kubelets ask for, approves those whose
name and addresses are the planned ones of the node that asks, and refuses others.
The engine does this by itself while it runs. Kubelets ask for a new serving
certificate before each year ends; run approve then, or at each maintenance.
` + exitHelp,
		Example: "  metalrise cluster approve",
		Args:    usage(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return o.approve(c.Context()) },
	}
}

func (o *options) approve(ctx context.Context) error {
	c, _, err := o.openCluster(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	judged, err := c.ApprovePending(ctx, nil) // the tokens in force tell who may join
	if o.output == "json" {
		return errors.Join(o.json(orEmpty(judged)), err)
	}
	if len(judged) == 0 && err == nil {
		o.printf("no certificate waits for an answer\n")
	}
	for _, a := range judged {
		word := "approved"
		if !a.OK {
			word = "refused"
		}
		o.printf("%s the %s certificate of %s\n", word, a.For, a.Node)
		if a.Cause != nil {
			for _, line := range a.Cause.Chain {
				o.printf("    because: %s\n", line)
			}
		}
	}
	return err
}

// sortByEnd puts what ends first, first.
func sortByEnd(list []fleet.Certificate) {
	slices.SortStableFunc(list, func(a, b fleet.Certificate) int { return a.Until.Compare(b.Until) })
}
