package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/images"
	"metalrise.dev/kube"
)

// lookLasts bounds a look at a cluster that no engine watches.
const lookLasts = 5 * time.Second

// lookAtCluster asks the cluster itself where no engine runs that watches it, so
// that checks are those of now. Without an answer the view says so.
func (o *options) lookAtCluster(ctx context.Context, view *fleet.Overview) {
	if view.Cluster == nil || view.Engine || !view.Cluster.Up {
		return
	}
	c, _, err := o.openCluster(ctx)
	if err != nil {
		return // the view tells already that nothing is reachable
	}
	defer c.Close()
	ctx, done := context.WithTimeout(ctx, lookLasts)
	defer done()
	var seen kube.View
	_ = c.Watch(ctx, func(v kube.View) { // it ends with ctx, and that is no fault
		// What is false at the first sight may just not have been asked yet, such as
		// etcd for its members.
		if seen = v; v.Reachable && v.Nodes != nil && !slices.ContainsFunc(v.Cluster, func(k fleet.Check) bool { return !k.OK }) {
			done()
		}
	})
	view.Cluster.Reachable, view.Cluster.Checks = seen.Reachable, seen.Cluster
	for i := range view.Servers {
		s := &view.Servers[i]
		s.Checks = nil
		for _, k := range seen.Nodes[s.Server] {
			if k.Name != fleet.CheckKVM { // only the node's own system can tell that
				s.Checks = append(s.Checks, k)
			}
		}
	}
	if dir, err := o.siteDir(); err == nil {
		view.Cluster.Kubeconfig = filepath.Join(dir, "kubeconfig")
	}
}

func kubectlCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use:   "kubectl ARGUMENT...",
		Short: "Run the kubectl of the cluster's own version as its administrator",
		Long: `kubectl runs the program of that name out of the nodes' software, so that its
version is the cluster's, with the administrator's kubeconfig. Everything from the
first word on is handed to it; metalrise's own flags come before.
` + exitHelp,
		Example: "  metalrise cluster kubectl get nodes\n  metalrise cluster kubectl -f site.yaml get pods -n kube-system -o wide",
		Args:    usage(cobra.MinimumNArgs(1)),
		RunE:    func(_ *cobra.Command, args []string) error { return o.kubectl(args) },
	}
	c.Flags().SetInterspersed(false)
	return c
}

func (o *options) kubectl(args []string) error {
	f, _, err := o.siteFile()
	if err != nil {
		return err
	}
	s := f.Site()
	dir, err := o.stateDir(s.Name)
	if err != nil {
		return err
	}
	if _, err := readKubeconfig(dir); err != nil {
		return err
	}
	program, err := payloadProgram(context.Background(), s.Cluster.Software, dir, "kubectl")
	if err != nil {
		return err
	}
	env := append(os.Environ(), "KUBECONFIG="+filepath.Join(dir, "kubeconfig"))
	if o.out != os.Stdout { // within a test: as a child, so that the output is ours
		cmd := exec.Command(program, args...)
		cmd.Args[0], cmd.Env = "kubectl", env
		cmd.Stdin, cmd.Stdout, cmd.Stderr = o.in, o.out, o.errs
		return cmd.Run()
	}
	return fmt.Errorf("run kubectl: %w", syscall.Exec(program, append([]string{"kubectl"}, args...), env))
}

// payloadProgram finds a program of the nodes' software that this computer can
// run, verified.
func payloadProgram(ctx context.Context, folder, state, name string) (string, error) {
	if folder == "" {
		return "", fleet.NewFault(fleet.CodePayloadInvalid, fleet.Invalid, nil, "the site file names no cluster.software")
	}
	payload, err := images.LoadPayload(ctx, folder)
	if err != nil {
		return "", err
	}
	v := payload.Value()
	byPath := map[string]fleet.PayloadFile{}
	var found *fleet.PayloadFile
	for i, file := range v.Files {
		byPath[file.Path] = file
		if file.Name == name {
			found = &v.Files[i]
		}
	}
	if found == nil {
		return "", fleet.NewFault(fleet.CodePayloadInvalid, fleet.Invalid, nil, "%s holds no %s", folder, name)
	}
	file := *found
	if file.Target != "" {
		file = byPath[file.Target]
	}
	if err := payload.Verify(ctx, images.Verifier{Cache: filepath.Join(state, "verified")}, nil); err != nil {
		return "", err
	}
	path := filepath.Join(folder, fleet.Blob(file.Digest))
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", err
	case info.Mode()&0o111 != 0:
		return path, nil
	}
	return executableCopy(path, filepath.Join(state, "programs", file.Digest))
}

// executableCopy is for payloads whose files lost their permissions.
func executableCopy(from, to string) (string, error) {
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return "", err
	}
	return to, errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), replaceFile(to, b, 0o700))
}
