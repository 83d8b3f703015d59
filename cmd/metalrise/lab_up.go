package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/lab"
	"metalrise.dev/lab/kubernetes"
	"metalrise.dev/lab/kubernetes/platform"
	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/nodeimage"
	"metalrise.dev/lab/redfish"
)

// labFlags are what shapes a new lab.
type labFlags struct {
	lab.Config
	kind       string
	network    string
	clock      time.Duration
	kubernetes bool
	platform   bool
	csi        bool
}

// platformMemory is for a node that runs two small VMs beside the platform's own
// programs, in MiB: those, Kubernetes and etcd take 1.2 GiB, a VM 0.4 GiB, and a
// VM that moves has two places for a while.
const platformMemory = 4096

// labShape names the flags that an existing lab does not change by.
var labShape = [...]string{"servers", "machine", "firmware", "disks", "personality", "bmc-port", "memory", "network", "image-dir", "kubernetes", "platform", "vm-network", "csi", "clock"}

func labUpCommand(l *labOptions) *cobra.Command {
	f := &labFlags{}
	c := &cobra.Command{
		Use:   "up",
		Short: "Make a lab and start it; all machines are powered off",
		Long: `up makes a lab, or starts one that is there with its disks as they are. The
first time it builds the node image from Debian packages, which takes some
minutes; later labs use it again. It prints the site file to use with -f.

With --kubernetes it also builds Kubernetes from its published source the first
time (a quarter of an hour on two cores), and the site file asks for a cluster.
With --platform the nodes' software also has a VM platform, KubeVirt, which is
built likewise (six minutes more).

The lab runs in the background until metalrise lab down.
` + exitHelp,
		Example: `  metalrise lab up
  metalrise lab up --name big --servers 12 --disks 4
  metalrise lab up --name vm --machine qemu --servers 1 --firmware bios`,
		Args: usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			f.Name, f.Machine, f.Delays, f.Clock = l.name, machine.Kind(f.kind), lab.DefaultDelays(), lab.Offset(f.clock)
			return l.up(c, f)
		},
	}
	p := c.Flags()
	p.IntVar(&f.Servers, "servers", 5, "number of servers")
	p.StringVar(&f.kind, "machine", string(machine.Container), "kind of machine: container or qemu")
	p.StringVar(&f.Firmware, "firmware", "uefi", "firmware of the machines: uefi or bios")
	p.IntVar(&f.Disks, "disks", 2, "disks of each server; all but the first hold data")
	p.StringVar(&f.Personality, "personality", "standard", "habits of the BMCs: "+personalities())
	p.IntVar(&f.BMCPort, "bmc-port", 443, "port of the BMCs")
	p.IntVar(&f.MemoryMiB, "memory", 0, "memory of a machine in MiB (default 2048, with --platform 4096)")
	p.DurationVar(&f.clock, "clock", 0, "how far the machines' clocks are from this computer's; qemu only")
	p.StringVar(&f.network, "network", "", "network of the servers, a /24 (default: a free one by the name)")
	p.BoolVar(&f.kubernetes, "kubernetes", false, "build the software of Kubernetes nodes and let the site file ask for a cluster")
	p.BoolVar(&f.platform, "platform", false, "the same with a VM platform in the software")
	p.BoolVar(&f.VMNetwork, "vm-network", false, "plug the servers' second ports into a network for VMs")
	p.BoolVar(&f.csi, "csi", false, "with --platform: have VMs' disks lie with a CSI driver for tests, which takes snapshots")
	p.StringVar(&f.ImageDir, "image-dir", "", "folder with a release (stream.json) instead of the lab's own image")
	return c
}

func (l *labOptions) up(c *cobra.Command, f *labFlags) error {
	ctx := c.Context()
	cfg, err := l.shape(c, f)
	if err != nil {
		return err
	}
	if os.Getuid() != 0 {
		return errors.New("lab up needs root: it makes a bridge, namespaces and loop devices")
	}
	client := lab.NewClient(cfg)
	if v, err := client.View(ctx); err == nil {
		if l.output == "json" {
			return l.json(v)
		}
		l.printf("lab %s is up already\n", cfg.Name)
		l.usageOfLab(cfg)
		return nil
	} else if !errors.Is(err, lab.ErrDown) {
		return err
	}
	if err := l.prepareLab(ctx, &cfg); err != nil {
		return err
	}
	if (f.kubernetes || f.platform) && cfg.Software == "" {
		if cfg.Software, err = l.software(ctx, f.platform); err != nil {
			return err
		}
	}
	_, known := os.Stat(filepath.Join(cfg.Dir, "lab.json"))
	if err := cfg.Save(); err != nil {
		return err
	}
	if err := startLab(ctx, client, cfg); err != nil {
		if errors.Is(known, os.ErrNotExist) && ctx.Err() == nil {
			// A lab that never was stands in nobody's way.
			return errors.Join(err, cfg.Remove(ctx))
		}
		return err
	}
	if l.output == "json" {
		return l.status(ctx)
	}
	l.printf("lab %s is up: %s, powered off\n", cfg.Name, machines(cfg.Servers, cfg.Machine))
	l.usageOfLab(cfg)
	return nil
}

// shape is the lab that is there, or the one that the flags describe.
func (l *labOptions) shape(c *cobra.Command, f *labFlags) (lab.Config, error) {
	dir, err := l.folder()
	if err != nil {
		return lab.Config{}, err
	}
	cfg, err := lab.ReadConfig(dir)
	if err == nil {
		for _, name := range labShape {
			if c.Flags().Changed(name) {
				return cfg, &exitError{exitUsage, fmt.Errorf("--%s: lab %s is there already, in %s; metalrise lab down removes it", name, cfg.Name, dir)}
			}
		}
		return cfg, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return cfg, err
	}
	cfg = f.Config
	cfg.Dir = dir
	if f.network != "" {
		if cfg.Network, err = netip.ParsePrefix(f.network); err != nil {
			return cfg, &exitError{exitUsage, fmt.Errorf("--network: %w", err)}
		}
	}
	if cfg.ImageDir != "" {
		if cfg.ImageDir, err = filepath.Abs(cfg.ImageDir); err != nil {
			return cfg, err
		}
	}
	if f.platform && cfg.MemoryMiB == 0 {
		cfg.MemoryMiB = platformMemory
	}
	if f.csi {
		if !f.platform {
			return cfg, &exitError{exitUsage, errors.New("--csi is for a lab with --platform")}
		}
		cfg.StorageClass = platform.LabClass
	}
	check := cfg
	check.Ignition = "built later"
	if err := check.Check(); err != nil {
		return cfg, &exitError{exitUsage, err}
	}
	return cfg, l.checkNewSite(cfg)
}

// checkNewSite refuses a lab whose site has state already: it would be that of
// other disks, and removing the lab removes it.
func (l *labOptions) checkNewSite(cfg lab.Config) error {
	dir, ok, err := l.labSiteState(cfg)
	if err != nil || !ok {
		return err
	}
	if _, err := os.Stat(dir); err == nil {
		return fmt.Errorf("%s holds the state of an earlier site %s; remove it, or take another --name", dir, cfg.SiteName())
	}
	return nil
}

// labSiteState is where the state of the lab's site lies; false where flags or
// the environment put it elsewhere, and it is not the lab's business.
func (l *labOptions) labSiteState(cfg lab.Config) (string, bool, error) {
	if l.state != "" || os.Getenv("METALRISE_STATE") != "" {
		return "", false, nil
	}
	dir, err := l.stateDir(cfg.SiteName())
	return dir, true, err
}

// prepareLab finds or builds what machines boot, and Ignition for those that
// have no initramfs of their own.
func (l *labOptions) prepareLab(ctx context.Context, cfg *lab.Config) error {
	cache, err := cacheDir()
	if err != nil {
		return err
	}
	say := func(step string) { fmt.Fprintf(l.errs, "  %s\n", step) }
	if cfg.ImageDir == "" {
		if cfg.ImageDir, err = nodeimage.Ensure(ctx, cache, say); err != nil {
			return err
		}
	}
	if _, err := os.Stat(filepath.Join(cfg.ImageDir, nodeimage.StreamFile)); err != nil {
		return fmt.Errorf("image of the lab: %w", err)
	}
	if cfg.Machine == machine.Container {
		if _, err := os.Stat(cfg.Ignition); err != nil {
			if cfg.Ignition, err = nodeimage.IgnitionBinary(ctx, cache, say); err != nil {
				return err
			}
		}
	}
	return nil
}

// software finds or builds what the lab's nodes run; with the VM platform where
// that is wanted.
func (l *labOptions) software(ctx context.Context, withPlatform bool) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	build := kubernetes.Build
	if withPlatform {
		build = platform.Build
	}
	return build(ctx, cache, func(step string) { fmt.Fprintf(l.errs, "  %s\n", step) })
}

func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("folder of the cache: %w", err)
	}
	return filepath.Join(base, "metalrise"), nil
}

// startLab runs the lab in a session of its own and waits until it answers.
func startLab(ctx context.Context, client *lab.Client, cfg lab.Config) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start lab: %w", err)
	}
	logPath := filepath.Join(cfg.Dir, "lab.log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start lab: %w", err)
	}
	defer log.Close()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("start lab: %w", err)
	}
	cmd := exec.Command(self, "lab", "serve", "--dir", cfg.Dir)
	cmd.Dir = "/" // no folder is kept busy by a lab
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start lab: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		if _, err := client.View(ctx); !errors.Is(err, lab.ErrDown) {
			return err
		}
		select {
		case <-ended:
			return fmt.Errorf("start lab: it ended at once:\n%s", tail(logPath, begin))
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// machines counts them: "1 qemu machine", "5 container machines".
func machines(n int, kind machine.Kind) string {
	if n == 1 {
		return fmt.Sprintf("1 %s machine", kind)
	}
	return fmt.Sprintf("%d %s machines", n, kind)
}

// usageOfLab tells what to type next.
func (l *labOptions) usageOfLab(cfg lab.Config) {
	name := ""
	if cfg.Name != "lab" {
		name = " --name " + cfg.Name
	}
	site := cfg.SitePath()
	l.printf("\nWhat to do with it:\n  export SITE=%s\n", site)
	for _, command := range []string{"discover -f $SITE", "inspect -f $SITE", "plan -f $SITE", "apply -f $SITE", "lab status" + name, "lab down" + name} {
		l.printf("  metalrise %s\n", command)
	}
}

func labServeCommand(l *labOptions) *cobra.Command {
	return &cobra.Command{
		Use:    "serve",
		Short:  "Run a lab in the foreground (lab up starts it by itself)",
		Hidden: true,
		Args:   usage(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := l.config()
			if err != nil {
				return err
			}
			log := slog.New(slog.NewTextHandler(l.errs, nil))
			// Close cuts the power in order; the end of ctx must not do it first.
			running, err := lab.Start(context.WithoutCancel(c.Context()), cfg, log)
			if err != nil {
				return err
			}
			return errors.Join(running.Serve(c.Context()), running.Close())
		},
	}
}

// personalities names the habits that emulated BMCs can take on.
func personalities() string {
	var names []string
	for _, p := range redfish.Personalities() {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}
