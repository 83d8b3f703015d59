package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/provision/store"
)

// streams is where a command reads and writes.
type streams struct {
	in        io.Reader
	out, errs io.Writer // without control sequences
	tty       io.Writer // standard output itself, for screens
}

// options are the flags that all commands share.
type options struct {
	*streams
	file   string // of the site
	state  string // folder
	output string // "text" or "json"
}

const exitHelp = `
Exit codes: 0 done · 1 failed · 2 wrong usage · 3 blockers among the findings
            4 consent missing or wrong · 5 servers or the VM platform are held
            6 the cluster is not as it was handed over · 130 interrupted`

func newRoot(s *streams) *cobra.Command {
	o := &options{streams: s}
	root := &cobra.Command{
		Use:   "metalrise",
		Short: "From powered-off servers to a cluster of KVM hypervisors",
		Long: `metalrise takes servers that are known by the addresses of their BMCs to
installed KVM hypervisors: it looks at them, decides everything once, and walks
each server there, writing down every step before it is taken.

  metalrise              the wizard: all of the following on screens
  metalrise discover     who answers at the site's BMC addresses; sends no credentials
  metalrise inspect      log in and read what stands behind them
  metalrise plan         decide roles, names, addresses, disks; list what will be erased
  metalrise apply        do it, after the number of disks was typed
  metalrise status       where every server is
  metalrise attach       the same on a screen that follows
  metalrise handover     how to use what was built, and what is proven of it
  metalrise verify       what differs from that, months later`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	screens := &screenFlags{}
	screens.add(root)
	root.RunE = func(c *cobra.Command, _ []string) error { return o.wizard(c, screens) }
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.errs)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &exitError{exitUsage, fmt.Errorf("%w (see %s --help)", err, c.CommandPath())}
	})
	p := root.PersistentFlags()
	p.StringVarP(&o.file, "file", "f", "site.yaml", "site file")
	p.StringVar(&o.state, "state", "", "folder of the site's state (default: $METALRISE_STATE or ~/.local/state/metalrise/SITE)")
	p.StringVarP(&o.output, "output", "o", "text", "text or json")
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		if err := c.ValidateRequiredFlags(); err != nil { // cobra's own look comes later, and is no wrong usage to it
			return &exitError{exitUsage, fmt.Errorf("%w (see %s --help)", err, c.CommandPath())}
		}
		if o.output != "text" && o.output != "json" {
			return &exitError{exitUsage, fmt.Errorf("--output %q: want text or json", o.output)}
		}
		return nil
	}
	root.AddCommand(
		siteCommand(o), vaultCommand(o), discoverCommand(o), inspectCommand(o), planCommand(o), applyCommand(o), engineCommand(o),
		statusCommand(o), eventsCommand(o), factsCommand(o), explainCommand(o), retryCommand(o), stopCommand(o), bmcCommand(o), agentCommand(o), labCommand(o), docsCommand(o),
		clusterCommand(o), nodeCommand(o), attachCommand(o), tuiCommand(o), reportCommand(o), handoverCommand(o), verifyCommand(o), isoCommand(o), mediumCommand(o), probeCommand(o), serveCommand(o), preparedCommand(o), imagesCommand(o), bundleCommand(o),
	)
	root.Args = usage(cobra.NoArgs)
	list(root)
	return root
}

// list has the commands that only group others print what there is, and refuse
// a word that is none of them: cobra by itself prints the list for that too and
// calls it a success, which a script takes for a deed that was done.
func list(c *cobra.Command) {
	for _, sub := range c.Commands() {
		if sub.HasSubCommands() && !sub.Runnable() {
			sub.Args = usage(cobra.NoArgs)
			sub.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		}
		list(sub)
	}
}

// usage turns cobra's argument checks into exit code 2.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return &exitError{exitUsage, fmt.Errorf("%w (see %s --help)", err, c.CommandPath())}
		}
		return nil
	}
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

// loadSite reads the site file. Blockers are printed, all of them, and end the
// command; other findings are returned.
func (o *options) loadSite() (fleet.Site, []fleet.Finding, error) {
	f, findings, err := o.siteFile()
	if err != nil {
		return fleet.Site{}, nil, err
	}
	return f.Site(), findings, nil
}

func (o *options) siteFile() (*site.File, []fleet.Finding, error) {
	f, findings := site.Load(o.file)
	for _, x := range findings {
		if x.Severity == fleet.Blocker {
			o.printFindings(findings)
			return nil, nil, &exitError{code: exitFindings}
		}
	}
	return f, findings, nil
}

// stateDir is where the state of a site lies.
func (o *options) stateDir(name string) (string, error) {
	if o.state != "" {
		return filepath.Abs(o.state)
	}
	if dir := os.Getenv("METALRISE_STATE"); dir != "" {
		return filepath.Abs(dir)
	}
	base := os.Getenv("XDG_STATE_HOME")
	if base == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("state folder: %w", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "metalrise", name), nil
}

// writer opens the state for a command that changes it.
func (o *options) writer(name string) (*store.Store, error) {
	dir, err := o.stateDir(name)
	if err != nil {
		return nil, err
	}
	return store.Open(dir)
}

// json prints v as the one JSON object of a command.
func (o *options) json(v any) error {
	e := json.NewEncoder(o.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// say prints what people read; in JSON the result alone tells.
func (o *options) say(format string, args ...any) {
	if o.output != "json" {
		o.printf(format, args...)
	}
}

func (o *options) printf(format string, args ...any) {
	fmt.Fprintf(o.out, format, args...)
}

func (o *options) printFindings(list []fleet.Finding) {
	for _, f := range list {
		where := f.Path
		if f.Server != "" {
			where = string(f.Server) + " " + where
		}
		fmt.Fprintf(o.errs, "%-7s %s  %s\n        %s\n        what to do: %s\n", f.Severity, f.Code, where, f.Text, f.Remedy)
	}
}

// firstLine keeps a table's cells on one line.
func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
