package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/images"
	"metalrise.dev/kube"
)

// componentFlags say what a component is made of.
type componentFlags struct {
	software  string
	version   string
	manifests []string
	archives  []string
	use       bool
}

func bundleComponentCommand(o *options, f *imageFlags) *cobra.Command {
	w := &componentFlags{}
	c := &cobra.Command{
		Use:   "component NAME",
		Short: "Put a component's manifests and images into the software of nodes",
		Long: `component makes new software of nodes in the image store: that of --software, and a
component of the VM platform besides, from its makers' own files. NAME is one of those
that docs/platform.md lists; csi-driver is for any storage that has a CSI driver.

Manifests are applied in the order in which they are given here. Container images are
archives, as docker save, podman save and skopeo copy write them. An image that the
manifests ask for and no archive holds is named: nodes then ask its registry.
The folder of --software stays as it is; what it has of the component gives way.
` + exitHelp,
		Example: `  metalrise bundle component csi-driver --software ./software --version v4.12 \
      --manifest driver.yaml --manifest classes.yaml --image driver.tar --use -f site.yaml`,
		Args: usage(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return o.addComponent(c.Context(), f, fleet.Component(args[0]), w)
		},
	}
	p := c.Flags()
	p.StringVar(&w.software, "software", "", "folder of the software to begin with")
	p.StringVar(&w.version, "version", "", "the component's version")
	p.StringArrayVar(&w.manifests, "manifest", nil, "file of Kubernetes objects (repeatable)")
	p.StringArrayVar(&w.archives, "image", nil, "archive of container images (repeatable)")
	p.BoolVar(&w.use, "use", false, "write the new software's folder into the site file")
	return c
}

func (o *options) addComponent(ctx context.Context, f *imageFlags, name fleet.Component, w *componentFlags) error {
	entry, ok := fleet.CatalogueOf(name)
	switch {
	case !ok:
		return &exitError{exitUsage, fmt.Errorf("%q is no component: use one of those that docs/platform.md lists", name)}
	case entry.Own:
		return &exitError{exitUsage, fmt.Errorf("%s has no manifests of others: metalrise writes its objects itself", name)}
	case w.software == "" || w.version == "" || len(w.manifests) == 0:
		return &exitError{exitUsage, errors.New("give --software, --version and at least one --manifest")}
	}
	for _, path := range w.manifests {
		text, err := readBounded(path, 16<<20)
		if err != nil {
			return fmt.Errorf("--manifest: %w", err)
		}
		objects, err := kube.ReadObjects(text)
		if err != nil {
			return fmt.Errorf("--manifest %s: %w", path, err)
		}
		if len(objects) == 0 {
			return fmt.Errorf("--manifest %s: it holds no objects", path)
		}
	}
	s, err := f.open()
	if err != nil {
		return err
	}
	e, lacking, err := s.AddComponent(ctx, w.software, images.Addition{Component: name, Version: w.version, Manifests: w.manifests, Archives: w.archives}, o.showProgress())
	if err != nil {
		return err
	}
	if len(lacking) > 0 {
		fmt.Fprintf(o.errs, "in no archive, so that nodes must reach their registries:\n  %s\n", strings.Join(lacking, "\n  "))
	}
	return o.landed(f, e, w.use)
}
