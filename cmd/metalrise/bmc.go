package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
)

// byHand are the flags of the bmc commands.
type byHand struct {
	adhoc
	fingerprint string
	system      string
	meanwhile   bool // change something although the engine works on the server
}

const bmcLoginHelp = `
The login is that of the site file (-f) when the address belongs to the site and
discover found it; else give --username, --password-file and either --fingerprint
or --accept-new-pins. With several servers behind one BMC, name one with --system.
`

func bmcCommand(o *options) *cobra.Command {
	h := &byHand{}
	c := &cobra.Command{
		Use:   "bmc",
		Short: "Drive one server's BMC by hand: power, boot, media, BIOS settings, log",
		Long: `bmc does by hand what apply does: each act is followed by a look, and what is so
already is left alone. An act whose answer was lost is looked at, never repeated.
A server of the site that the engine works on is not changed, unless --meanwhile
is given. A BMC that knows IPMI only is named ipmi://ADDRESS: power and boot work
there.
` + bmcLoginHelp + exitHelp,
		Example: "  metalrise bmc power 10.0.9.11 status\n  metalrise bmc media 10.0.9.11 insert https://10.0.0.5/live.iso\n  metalrise bmc boot 10.0.9.11 cd",
	}
	f := c.PersistentFlags()
	f.StringVar(&h.username, "username", "", "login name")
	f.StringVar(&h.passwordFile, "password-file", "", "file that holds the password")
	f.BoolVar(&h.newPins, "accept-new-pins", false, "trust the certificate that the BMC shows")
	f.StringVar(&h.fingerprint, "fingerprint", "", "SHA-256 of the certificate that the BMC must show")
	f.BoolVar(&h.legacyTLS, "legacy-tls", false, "let this BMC speak outdated TLS")
	f.StringVar(&h.system, "system", "", "URI of the system, where several stand behind the BMC")
	f.BoolVar(&h.meanwhile, "meanwhile", false, "change something although the site's engine works on this server")
	c.AddCommand(bmcPowerCommand(o, h), bmcBootCommand(o, h), bmcMediaCommand(o, h), bmcBIOSCommand(o, h), bmcEventsCommand(o, h))
	return c
}

// hand is what power and boot need of a session: Redfish's or IPMI's.
type hand interface {
	Address() string
	Look(ctx context.Context, systemURI string) (bmc.Sight, error)
	Power(ctx context.Context, systemURI string, w bmc.Wish) error
	WaitPower(ctx context.Context, systemURI string, want fleet.PowerState) error
	BootOnce(ctx context.Context, systemURI string, t bmc.Target) error
	ClearBoot(ctx context.Context, systemURI string) error
	Close() error
}

// redfishOnly is for what IPMI cannot do.
func redfishOnly(do func(*bmc.Session) error) func(hand) error {
	return func(s hand) error {
		if r, ok := s.(*bmc.Session); ok {
			return do(r)
		}
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "bmc %s knows IPMI only, which has no way to do this", s.Address())
	}
}

// session logs in to one BMC.
func (o *options) session(ctx context.Context, arg string, h *byHand) (hand, error) {
	addresses, err := bmc.Expand([]string{arg}, orPort(0))
	if err != nil || len(addresses) != 1 {
		return nil, &exitError{exitUsage, errors.Join(fmt.Errorf("%q is not one address", arg), err)}
	}
	at := fleet.Endpoint{Address: addresses[0], Fingerprint: h.fingerprint, Username: h.username, Password: fleet.SecretRef{File: h.passwordFile}, LegacyTLS: h.legacyTLS}
	if h.username == "" {
		if at, err = o.ofSite(ctx, addresses[0]); err != nil {
			return nil, err
		}
	}
	if _, ok := bmc.IPMIAddress(at.Address); !ok {
		return dial(ctx, at, h.newPins)
	}
	password, err := newDoor(nil).secrets.Resolve(at.Password)
	if err != nil {
		return nil, err
	}
	return bmc.DialIPMI(ctx, bmc.Login{Endpoint: at, Password: password})
}

// ofSite finds the login of a BMC of the site.
func (o *options) ofSite(ctx context.Context, address string) (fleet.Endpoint, error) {
	s, _, err := o.loadSite()
	if err != nil {
		return fleet.Endpoint{}, err
	}
	dir, err := o.stateDir(s.Name)
	if err != nil {
		return fleet.Endpoint{}, err
	}
	unknown := &exitError{exitUsage, fmt.Errorf("%s is no BMC of site %s that discover found; run metalrise discover, or give --username and --password-file", address, s.Name)}
	st, err := store.OpenReader(dir)
	if errors.Is(err, os.ErrNotExist) {
		return fleet.Endpoint{}, unknown
	}
	if err != nil {
		return fleet.Endpoint{}, err
	}
	defer st.Close()
	found, err := st.Found(ctx)
	if err != nil {
		return fleet.Endpoint{}, err
	}
	for _, at := range endpoints(s, found) {
		if at.Address == address {
			return at, nil
		}
	}
	return fleet.Endpoint{}, unknown
}

// with runs one command in a session of its own.
func (o *options) with(ctx context.Context, address string, h *byHand, do func(s hand) error) error {
	s, err := o.session(ctx, address, h)
	if err != nil {
		return err
	}
	return errors.Join(do(s), s.Close())
}

// change is with for a command that changes something.
func (o *options) change(ctx context.Context, address string, h *byHand, changes bool, do func(s hand) error) error {
	return o.with(ctx, address, h, func(s hand) error {
		if changes {
			if err := o.unlessMoving(ctx, s.Address(), h); err != nil {
				return err
			}
		}
		return do(s)
	})
}

// uncertain looks after an act whose outcome is unknown: what the look shows as
// done was done.
func (o *options) uncertain(err error, done func() bool) error {
	if err == nil || fleet.KindOf(err) != fleet.UnsureKind || !done() {
		return err
	}
	fmt.Fprintf(o.errs, "the answer was lost (%v), but the BMC shows that it was done\n", err)
	return nil
}

// unlessMoving refuses to change a server of the site that the engine works on:
// it would take what it then sees for a fault of the server.
func (o *options) unlessMoving(ctx context.Context, address string, h *byHand) error {
	if h.username != "" || h.meanwhile {
		return nil // no site, or a person who knows
	}
	dir, err := o.siteDir()
	if err != nil {
		return err
	}
	view, err := overview(ctx, dir)
	if err != nil {
		return err
	}
	return moving(view, address)
}

func moving(view fleet.Overview, address string) error {
	for _, s := range view.Servers {
		if view.Engine && s.BMC == address && (s.Condition == fleet.Moving || s.Condition == fleet.Waiting) {
			return &exitError{exitDenied, fmt.Errorf("the engine works on %s behind %s (%s): wait, stop it with metalrise stop, or give --meanwhile", s.Hostname, address, s.Step)}
		}
	}
	return nil
}

// wanted is what a bmc command was told to do.
func wanted(args []string, known ...string) (string, error) {
	if len(args) < 2 {
		return "status", nil
	}
	for _, k := range known {
		if args[1] == k {
			return k, nil
		}
	}
	return "", &exitError{exitUsage, fmt.Errorf("%q: want one of %v", args[1], known)}
}
