package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"metalrise.dev/fleet"
	"metalrise.dev/images"
	"metalrise.dev/kube"
	"metalrise.dev/kube/vmstack"
	"metalrise.dev/kube/vmstack/ring"
	"metalrise.dev/provision"
)

// vmPlatform is provision's way to package kube/vmstack.
type vmPlatform struct {
	cluster   *kube.Cluster
	plan      fleet.Plan
	installer *vmstack.Installer
	ring      *ring.Ring
}

// stacksOf opens the VM platform with the manifests of the nodes' software.
func stacksOf(payload *images.Payload) provision.Stacks {
	return func(p fleet.Plan, kubeconfig []byte) (provision.Stack, error) {
		c, err := kube.Connect(kubeconfig, p)
		if err != nil {
			return nil, err
		}
		return &vmPlatform{cluster: c, plan: p, installer: vmstack.New(c, p, contentOf(payload)), ring: ring.New(c)}, nil
	}
}

// maxManifest bounds one file of manifests: those of KubeVirt and CDI have less
// than one MiB each.
const maxManifest = 16 << 20

// contentOf reads manifests of the nodes' software, by digest.
func contentOf(payload *images.Payload) func(sha256 string) ([]byte, error) {
	return func(sha256 string) ([]byte, error) {
		f, size, err := payload.Open(sha256)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if size > maxManifest {
			return nil, fleet.NewFault(fleet.CodePayloadInvalid, fleet.Invalid, nil, "content %s of the nodes' software has %d bytes, a manifest has at most %d", sha256, size, maxManifest)
		}
		b, err := io.ReadAll(io.LimitReader(f, maxManifest))
		if err != nil {
			return nil, fmt.Errorf("read content %s of the nodes' software: %w", sha256, err)
		}
		return b, nil
	}
}

func (v *vmPlatform) Install(ctx context.Context, c fleet.ComponentPlan, tell func(string, []fleet.Check)) error {
	return v.installer.Install(ctx, c, tell)
}

func (v *vmPlatform) Prove(ctx context.Context, proof fleet.Proof, power provision.Fencer, tell func(string)) (fleet.ProofResult, error) {
	result, err := v.ring.Prove(ctx, v.plan, proof, power, tell)
	var skipped *ring.Skipped
	if errors.As(err, &skipped) {
		return result, &provision.Skipped{Why: skipped.Why}
	}
	return result, err
}

func (v *vmPlatform) Clean(ctx context.Context, power provision.Fencer) error {
	return v.ring.Clean(ctx, power)
}

func (v *vmPlatform) Close() { v.cluster.Close() }
