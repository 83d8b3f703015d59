package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
)

func bmcBootCommand(o *options, h *byHand) *cobra.Command {
	return &cobra.Command{
		Use:   "boot ADDRESS [status|cd|pxe|disk|none|http URL]",
		Short: "Show or set where a server boots from once",
		Long: `boot shows what the next start goes to, or sets it for the next start alone: the
virtual drive (cd), the network (pxe), the disk, or an address by UEFI HTTP boot.
none takes the override away. Nothing is started or restarted.
` + bmcLoginHelp + exitHelp,
		Example: "  metalrise bmc boot 10.0.9.11 cd\n  metalrise bmc boot 10.0.9.11 http https://10.0.0.5/boot.efi\n  metalrise bmc boot 10.0.9.11 none",
		Args:    usage(cobra.RangeArgs(1, 3)),
		RunE: func(c *cobra.Command, args []string) error {
			what, err := wanted(args, "status", "cd", "pxe", "disk", "none", "http")
			if err == nil && (what == "http") != (len(args) == 3) {
				err = &exitError{exitUsage, fmt.Errorf("an address is given with http, and only then (see %s --help)", c.CommandPath())}
			}
			if err != nil {
				return err
			}
			return o.change(c.Context(), args[0], h, what != "status", func(s hand) error {
				return o.boot(c.Context(), s, what, args[len(args)-1], h.system)
			})
		},
	}
}

// bootDone is what boot prints.
type bootDone struct {
	Address string           `json:"address"`
	Boot    bmc.BootOverride `json:"bootOverride"`
}

func (o *options) boot(ctx context.Context, s hand, what, url, system string) error {
	target := map[string]bmc.Target{"cd": bmc.Cd, "pxe": bmc.Pxe, "disk": bmc.Hdd, "http": bmc.UefiHTTP}[what]
	var err error
	switch what {
	case "cd", "pxe", "disk":
		err = s.BootOnce(ctx, system, target)
	case "http":
		err = redfishOnly(func(s *bmc.Session) error { return s.BootHTTP(ctx, system, url) })(s)
	case "none":
		err = s.ClearBoot(ctx, system)
	}
	err = o.uncertain(err, func() bool {
		now, look := s.Look(ctx, system)
		b := now.BootOverride
		return look == nil && (what == "none" && !b.IsSet() || what != "none" && b.GoesTo(target) && (what != "http" || b.HTTPURI == url))
	})
	if err != nil {
		return err
	}
	now, err := s.Look(ctx, system)
	if err != nil {
		return err
	}
	if now.BootOverride.Lasts() && what != "status" {
		fmt.Fprintln(o.errs, "note: the BMC shows the override as lasting, although it was set once; look again after the start and clear it with none if it stays")
	}
	if o.output == "json" {
		return o.json(bootDone{s.Address(), now.BootOverride})
	}
	b := now.BootOverride
	switch {
	case b.Enabled == "":
		o.printf("%s does not show where it boots from\n", s.Address())
	case !b.IsSet():
		o.printf("%s boots in its normal order\n", s.Address())
	default:
		o.printf("%s\n", strings.TrimSpace(fmt.Sprintf("%s boots from %s (%s) %s", s.Address(), b.Target, b.Enabled, b.HTTPURI)))
	}
	return nil
}

func bmcMediaCommand(o *options, h *byHand) *cobra.Command {
	whileOn := false
	c := &cobra.Command{
		Use:   "media ADDRESS [status|insert URL|eject]",
		Short: "Show, insert or eject virtual media",
		Long: `media shows what is in a server's virtual drives, puts an image into the one that
can take it, or empties them all. insert ejects what is there first. The BMC loads
the image itself, so the URL must be reachable from there.

Ejecting under a running system may kill it: while the server is on, a drive that
holds something is emptied only with --while-on.
` + bmcLoginHelp + exitHelp,
		Example: "  metalrise bmc media 10.0.9.11 status\n  metalrise bmc media 10.0.9.11 insert https://10.0.0.5/live.iso\n  metalrise bmc media 10.0.9.11 eject --while-on",
		Args:    usage(cobra.RangeArgs(1, 3)),
		RunE: func(c *cobra.Command, args []string) error {
			what, err := wanted(args, "status", "insert", "eject")
			if err == nil && (what == "insert") != (len(args) == 3) {
				err = &exitError{exitUsage, fmt.Errorf("a URL is given with insert, and only then (see %s --help)", c.CommandPath())}
			}
			if err != nil {
				return err
			}
			return o.change(c.Context(), args[0], h, what != "status", redfishOnly(func(s *bmc.Session) error {
				return o.media(c.Context(), s, what, args[len(args)-1], h.system, whileOn)
			}))
		},
	}
	c.Flags().BoolVar(&whileOn, "while-on", false, "eject although the server is on")
	return c
}

// mediaDone is what media prints.
type mediaDone struct {
	Address string           `json:"address"`
	Media   []bmc.MediaState `json:"media"`
}

func (o *options) media(ctx context.Context, s *bmc.Session, what, url, system string, whileOn bool) error {
	now, err := s.Look(ctx, system)
	if err != nil {
		return err
	}
	if what != "status" && !whileOn && now.Power.Or(fleet.PowerOther) != fleet.PowerOff {
		if slot := holding(now.Media); slot != "" {
			return &exitError{exitDenied, fmt.Errorf("%s holds a medium and the server is %s: switch it off first, or give --while-on", slot, now.Power)}
		}
	}
	switch what {
	case "insert":
		err = s.Insert(ctx, system, url)
	case "eject":
		err = s.Eject(ctx, system)
	}
	err = o.uncertain(err, func() bool {
		if now, err = s.Look(ctx, system); err != nil {
			return false
		}
		slot := holding(now.Media)
		return what == "eject" && slot == "" || what == "insert" && slot != "" && shows(now.Media, url)
	})
	if err != nil {
		return err
	}
	if now, err = s.Look(ctx, system); err != nil {
		return err
	}
	if o.output == "json" {
		return o.json(mediaDone{s.Address(), orEmpty(now.Media)})
	}
	if len(now.Media) == 0 {
		o.printf("%s has no usable virtual drive\n", s.Address())
	}
	for _, m := range now.Media {
		switch {
		case !m.Inserted:
			o.printf("%s  empty\n", m.Slot)
		case m.Image == "":
			o.printf("%s  holds something; the BMC does not say what\n", m.Slot)
		default:
			o.printf("%s  %s\n", m.Slot, m.Image)
		}
	}
	return nil
}

func holding(media []bmc.MediaState) string {
	for _, m := range media {
		if m.Inserted {
			return m.Slot
		}
	}
	return ""
}

func shows(media []bmc.MediaState, url string) bool {
	for _, m := range media {
		if m.Inserted && m.Image == url {
			return true
		}
	}
	return false
}
