package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
)

func labPayloadCommand(l *labOptions) *cobra.Command {
	var withPlatform bool
	c := &cobra.Command{
		Use:   "payload",
		Short: "Build the software of a cluster's nodes and print its folder",
		Long: `payload finds or builds the folder with everything that a cluster's nodes run:
payload.json, and one file per digest below blobs/. A site file names it as
cluster.software; metalrise lab up --kubernetes makes and uses the same one.

The first time it compiles Kubernetes and what belongs to it from published
source, which takes about ten minutes on two cores; progress goes to standard
error. What was interrupted goes on where it was. Without a change nothing is
built again.

With --platform the folder also holds a VM platform: KubeVirt, compiled likewise
in about six minutes more, its manifests, and the guest of the proofs.
` + exitHelp,
		Example: `  metalrise lab payload
  metalrise lab payload --platform
  metalrise lab payload --output json | jq -r .version`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return l.payload(c.Context(), withPlatform) },
	}
	c.Flags().BoolVar(&withPlatform, "platform", false, "with a VM platform")
	return c
}

// payloadEntry tells what a folder of nodes' software holds.
type payloadEntry struct {
	Dir          string        `json:"dir"`
	Flavour      fleet.Flavour `json:"flavour"`
	Version      string        `json:"version"`
	Architecture string        `json:"architecture"`
	Files        int           `json:"files"`
	Images       int           `json:"images"`
	Manifests    int           `json:"manifests"`
	Bytes        int64         `json:"bytes"`
}

func (l *labOptions) payload(ctx context.Context, withPlatform bool) error {
	if os.Getuid() != 0 {
		return fmt.Errorf("lab payload needs root: it takes programs out of Debian packages with their owners")
	}
	dir, err := l.software(ctx, withPlatform)
	if err != nil {
		return err
	}
	e, err := readPayload(dir)
	if err != nil {
		return err
	}
	if l.output == "json" {
		return l.json(e)
	}
	fmt.Fprintf(l.errs, "%s %s for %s: %d files, %d images, %d manifests, %d MB\n", e.Flavour, e.Version, e.Architecture, e.Files, e.Images, e.Manifests, e.Bytes/1e6)
	l.printf("%s\n", e.Dir)
	return nil
}

// readPayload describes the payload in a folder.
func readPayload(dir string) (payloadEntry, error) {
	path := filepath.Join(dir, "payload.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return payloadEntry{}, fmt.Errorf("nodes' software: %w", err)
	}
	var p fleet.Payload
	if err := json.Unmarshal(text, &p); err != nil {
		return payloadEntry{}, fmt.Errorf("nodes' software: %s: %w", path, err)
	}
	e := payloadEntry{Dir: dir, Flavour: p.Flavour, Version: p.Version, Architecture: p.Architecture, Files: len(p.Files), Images: len(p.Images), Manifests: len(p.Manifests)}
	for _, f := range p.Files {
		e.Bytes += f.Bytes
	}
	for _, i := range p.Images {
		e.Bytes += i.Bytes
	}
	for _, m := range p.Manifests {
		e.Bytes += m.Bytes
	}
	return e, nil
}

// softwareLine tells in one line what a lab's nodes run.
func softwareLine(dir string) string {
	if dir == "" {
		return "no cluster"
	}
	e, err := readPayload(dir)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s %s from %s", e.Flavour, e.Version, dir)
}
