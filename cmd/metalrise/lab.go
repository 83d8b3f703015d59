package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"metalrise.dev/lab"
	"metalrise.dev/lab/machine"
)

// labOptions are the flags that the lab's commands share.
type labOptions struct {
	*options
	name string
	dir  string
}

func labCommand(o *options) *cobra.Command {
	l := &labOptions{options: o}
	c := &cobra.Command{
		Use:   "lab",
		Short: "A rack in a box: emulated BMCs and machines that really boot",
		Long: `lab makes a rack on this computer, for rehearsal, demonstrations and tests:
emulated BMCs, machines behind them that really boot what they are given, a
network between them, and a site file that points metalrise at it. Machines of
kind container run at native speed; qemu ones are full virtual machines.

It needs root, and touches nothing of this computer but a bridge and loop
devices of its own. metalrise lab down removes all of it.`,
		Example: `  metalrise lab up --servers 3
  metalrise lab status
  metalrise lab down`,
	}
	p := c.PersistentFlags()
	p.StringVar(&l.name, "name", "lab", "name of the lab")
	p.StringVar(&l.dir, "dir", "", "folder of the lab (default: ~/.local/state/metalrise/labs/NAME)")
	c.AddCommand(labUpCommand(l), labDownCommand(l), labStatusCommand(l), labListCommand(l),
		labConsoleCommand(l), labFaultCommand(l), labPowerCommand(l), labSwapDiskCommand(l), labPayloadCommand(l), labServeCommand(l))
	return c
}

// labsDir is the folder that holds all labs without a folder of their own.
func labsDir() (string, error) {
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("folder of labs: %w", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Abs(filepath.Join(base, "metalrise", "labs"))
}

func (l *labOptions) folder() (string, error) {
	if l.dir != "" {
		return filepath.Abs(l.dir)
	}
	base, err := labsDir()
	return filepath.Join(base, l.name), err
}

// config reads the lab that the flags name.
func (l *labOptions) config() (lab.Config, error) {
	dir, err := l.folder()
	if err != nil {
		return lab.Config{}, err
	}
	c, err := lab.ReadConfig(dir)
	if errors.Is(err, os.ErrNotExist) {
		return c, fmt.Errorf("there is no lab in %s; metalrise lab up makes one, metalrise lab list shows others", dir)
	}
	return c, err
}

// client talks to the lab that the flags name.
func (l *labOptions) client() (*lab.Client, error) {
	c, err := l.config()
	if err != nil {
		return nil, err
	}
	return lab.NewClient(c), nil
}

// labHint adds what to do about a lab that is not running.
func labHint(err error) error {
	if errors.Is(err, lab.ErrDown) {
		return fmt.Errorf("%w; metalrise lab up starts it again, with its disks as they are", err)
	}
	return err
}

func labListCommand(l *labOptions) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the labs of this user",
		Long:    "list shows the labs in the usual folder; those made with --dir are not seen.\n" + exitHelp,
		Example: "  metalrise lab list",
		Args:    usage(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return l.list(c.Context()) },
	}
}

// labEntry is one lab in a list.
type labEntry struct {
	Name    string       `json:"name"`
	Machine machine.Kind `json:"machine"`
	Servers int          `json:"servers"`
	Running bool         `json:"running"`
	Dir     string       `json:"dir"`
	// Software is the folder of the nodes' software; "" for a lab without a cluster.
	Software string `json:"software,omitempty"`
}

func (l *labOptions) list(ctx context.Context) error {
	base, err := labsDir()
	if err != nil {
		return err
	}
	found, err := filepath.Glob(filepath.Join(base, "*", "lab.json"))
	if err != nil {
		return err
	}
	labs := []labEntry{}
	for _, path := range found {
		c, err := lab.ReadConfig(filepath.Dir(path))
		if err != nil {
			fmt.Fprintf(l.errs, "%v\n", err)
			continue
		}
		_, err = lab.NewClient(c).View(ctx)
		labs = append(labs, labEntry{c.Name, c.Machine, c.Servers, err == nil, c.Dir, c.Software})
	}
	if l.output == "json" {
		return l.json(labs)
	}
	if len(labs) == 0 {
		l.printf("no labs in %s; metalrise lab up makes one\n", base)
	}
	for _, e := range labs {
		state := "down"
		if e.Running {
			state = "up"
		}
		l.printf("%-20s %-4s %s, %s\n  %s\n", e.Name, state, machines(e.Servers, e.Machine), softwareLine(e.Software), e.Dir)
	}
	return nil
}
