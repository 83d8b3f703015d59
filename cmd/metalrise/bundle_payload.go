package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"metalrise.dev/images"
)

// payloadFlags say what software of nodes is made of.
type payloadFlags struct {
	images.Upstream
	lock string
	use  bool
}

func bundlePayloadCommand(o *options, f *imageFlags) *cobra.Command {
	w := &payloadFlags{}
	c := &cobra.Command{
		Use:   "payload",
		Short: "Make the software of nodes from upstream releases",
		Long: `payload makes what cluster.software names: Kubernetes' programs, containerd, runc,
CNI plugins and container images, from the releases of their projects or mirrors.

It takes two steps. With --kubernetes, and --lock naming a file that is not there, it
asks for the digest of everything and writes them to that file; nothing else. Read it
and keep it: it is what you trust. With the file there, exactly that is fetched, each
thing compared with its digest, into the image store. Registries are asked without a
login; mirrors (--mirror https://registry.k8s.io=https://...) hold for them too.

The versions of etcd, CoreDNS and pause follow from that of Kubernetes: ask
"kubeadm config images list". Those shown as defaults belong to v1.34.
` + exitHelp,
		Example: `  metalrise bundle payload --lock payload.lock --kubernetes v1.34.4 --containerd v2.1.4 --runc v1.3.0 \
      --cni-plugins v1.7.1 --flannel v0.26.7 --flannel-cni v1.6.2-flannel1 \
      --image control-plane=registry.example.org/keepalived:2.2.7
  metalrise bundle payload --lock payload.lock --use -f site.yaml`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return o.makePayload(c.Context(), f, w) },
	}
	p := c.Flags()
	p.StringVar(&w.lock, "lock", "", "file of digests: written if it is not there, else obeyed")
	p.StringVar(&w.Kubernetes, "kubernetes", "", "version of Kubernetes, such as v1.34.4, for a new lock")
	p.StringVar(&w.Architecture, "arch", string(images.X86_64), "architecture of the nodes")
	p.StringVar(&w.Etcd, "etcd", "3.6.5-0", "tag of etcd's image")
	p.StringVar(&w.CoreDNS, "coredns", "v1.12.1", "tag of CoreDNS' image")
	p.StringVar(&w.Pause, "pause", "3.10.1", "tag of the pause image")
	p.StringVar(&w.Containerd, "containerd", "", "release of containerd, such as v2.1.4")
	p.StringVar(&w.Runc, "runc", "", "release of runc, such as v1.3.0")
	p.StringVar(&w.CNIPlugins, "cni-plugins", "", "release of the CNI plugins, such as v1.7.1")
	p.StringVar(&w.Flannel, "flannel", "", "release of flannel; none for a site with a pod network of its own")
	p.StringVar(&w.FlannelCNI, "flannel-cni", "", "release of flannel's CNI plugin, such as v1.7.1-flannel1")
	p.StringArrayVar(&w.Images, "image", nil, "further container image, with \"control-plane=\" before it if only those need it (repeatable)")
	p.StringArrayVar(&f.mirrors, "mirror", nil, "FROM=TO: ask at TO for what begins with FROM (repeatable)")
	p.BoolVar(&w.use, "use", false, "write the software's folder into the site file")
	return c
}

func (o *options) makePayload(ctx context.Context, f *imageFlags, w *payloadFlags) error {
	if w.lock == "" {
		return &exitError{exitUsage, errors.New("name the file of digests by --lock")}
	}
	d, err := f.downloader()
	if err != nil {
		return err
	}
	text, err := readBounded(w.lock, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return o.writeLock(ctx, d, w)
	}
	if err != nil {
		return fmt.Errorf("--lock: %w", err)
	}
	lock, err := images.ParseLock(text)
	if err != nil {
		return fmt.Errorf("lock %s: %w", w.lock, err)
	}
	if w.Kubernetes != "" && w.Kubernetes != lock.Version {
		return &exitError{exitUsage, fmt.Errorf("%s is for Kubernetes %s: remove it to have one made for %s", w.lock, lock.Version, w.Kubernetes)}
	}
	s, err := f.open()
	if err != nil {
		return err
	}
	e, err := s.MakePayload(ctx, lock, d, o.showProgress())
	if err != nil {
		return err
	}
	return o.landed(f, e, w.use)
}

func (o *options) writeLock(ctx context.Context, d images.Downloader, w *payloadFlags) error {
	var missing []string
	for _, x := range []struct{ flag, value string }{{"--kubernetes", w.Kubernetes}, {"--containerd", w.Containerd}, {"--runc", w.Runc}, {"--cni-plugins", w.CNIPlugins}} {
		if x.value == "" {
			missing = append(missing, x.flag)
		}
	}
	if w.Flannel != "" && w.FlannelCNI == "" {
		missing = append(missing, "--flannel-cni")
	}
	if len(missing) > 0 {
		return &exitError{exitUsage, fmt.Errorf("%s is not there; to make it give %s too", w.lock, strings.Join(missing, ", "))}
	}
	lock, err := d.Lock(ctx, w.Upstream)
	if err != nil {
		return err
	}
	if err := o.write(outFile{path: w.lock}, func(out io.Writer) error {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(lock)
	}); err != nil {
		return err
	}
	if err := os.Chmod(w.lock, 0o644); err != nil { // it holds no secret
		return err
	}
	if o.output == "json" {
		return o.json(lock)
	}
	o.printf("%s pins %d downloads and %d container images by digest.\nRead it, keep it, and run the command again to fetch them.\n", w.lock, len(lock.Sources), len(lock.Images))
	return nil
}
