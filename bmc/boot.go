package bmc

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// Target is where a server shall boot from once.
type Target string

const (
	Cd       Target = "cd"
	UefiHTTP Target = "uefi-http"
	Pxe      Target = "pxe"
	Hdd      Target = "hdd"
)

// words are the BMCs' names for a target, best first. A virtual drive is a USB
// device on Supermicro, where "Cd" means a real one; on the Grace boards
// (ARS-111GL-NHR) it is "Cd" again.
func (t Target) words(sys node) []string {
	switch t {
	case Cd:
		words := []string{"Cd", "UsbCd", "UefiUsbCd", "UefiCd", "Dvd", "CD/DVD"}
		if strings.HasPrefix(strings.ToLower(sys.str("Manufacturer")), "supermicro") && !strings.HasPrefix(sys.str("Model"), "ARS-111GL-NHR") {
			words = []string{"UefiUsbCd", "UsbCd", "Cd", "UefiCd", "CD/DVD"}
			if !isUEFI(sys) {
				words = []string{"UsbCd", "Cd", "CD/DVD"}
			}
		}
		return words
	case UefiHTTP:
		return []string{"UefiHttp"}
	case Pxe:
		return []string{"Pxe"}
	case Hdd:
		return []string{"Hdd", "UefiHdd"}
	}
	return nil
}

func isUEFI(sys node) bool {
	return !strings.EqualFold(sys.object("Boot").str("BootSourceOverrideMode"), "Legacy")
}

// wish is a one-time boot override as it was asked for.
type wish struct {
	target Target
	uri    string // of UEFI HTTP boot; "" leaves that to DHCP
}

// BootOnce makes the server's next start, and only that, come from the target.
// It is set where the BMC wants it, on the system or on its settings object,
// and read back where that can be; a BMC that shows Once as Continuous is
// believed (Look tells it). What is refused because the firmware tests itself
// is tried again for five times Options.Settle. Faults: BMC-007 not offered,
// BMC-008 refused or not taken over; an uncertain fault means that Look must
// tell.
func (s *Session) BootOnce(ctx context.Context, systemURI string, t Target) error {
	return s.wrap("set boot once from "+string(t)+" at", s.patiently(ctx, func() error {
		return s.bootOnce(ctx, systemURI, wish{target: t})
	}))
}

func (s *Session) bootOnce(ctx context.Context, systemURI string, w wish) error {
	sys, places, err := s.bootPlaces(ctx, systemURI, w)
	if err != nil {
		return err
	}
	words := w.target.words(sys)
	if words == nil {
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Invalid, nil, "no such boot target: %q", w.target)
	}
	allowed := bootTargets(sys.object("Boot"))
	if len(allowed) == 0 {
		allowed = bootTargets(places[0].object("Boot"))
	}
	if len(allowed) > 0 {
		words = slices.DeleteFunc(words, func(w string) bool { return !contains(allowed, w) })
		if len(words) == 0 {
			return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s offers no boot target for %s, only %s", sys.path, w.target, strings.Join(allowed, ", "))
		}
	}
	if once := places[0].object("Boot").texts("BootSourceOverrideEnabled@Redfish.AllowableValues"); len(once) > 0 && !contains(once, "Once") {
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s cannot boot once, only %s: a lasting override would boot the medium again and again", sys.path, strings.Join(once, ", "))
	}
	for _, where := range places {
		if err = s.setOverride(ctx, sys, where, w, words); err == nil || !errors.Is(err, errNotTaken) {
			return err
		}
	}
	return err
}

// errNotTaken says that a place accepted an override and does not show it: the
// BMC may want it in another place.
var errNotTaken = errors.New("accepted, but it does not show")

// bootPlaces finds where the override may be set, best first: the settings
// object where that holds a Boot, and the system itself.
func (s *Session) bootPlaces(ctx context.Context, systemURI string, w wish) (node, []node, error) {
	sys, err := s.system(ctx, systemURI)
	if err != nil {
		return node{}, nil, err
	}
	path := sys.object("@Redfish.Settings").link("SettingsObject")
	if path == "" || same(path) == same(sys.path) {
		return sys, []node{sys}, nil
	}
	n, err := s.readForChange(ctx, path)
	switch {
	case isMissing(err):
		return sys, []node{sys}, nil
	case err != nil:
		return node{}, nil, err
	}
	b := n.object("Boot")
	_, target := b.m["BootSourceOverrideTarget"]
	_, http := b.m["HttpBootUri"]
	if !target && !b.has("BootSourceOverrideEnabled") && !(http && w.uri != "") {
		return sys, []node{sys}, nil
	}
	return sys, []node{n, sys}, nil
}

// setOverride sends the override in the forms and with the words that BMCs are
// known to want, until one is not called malformed, and looks.
func (s *Session) setOverride(ctx context.Context, sys, where node, w wish, words []string) error {
	var first error
	for _, word := range words {
		for _, body := range bootBodies(sys, where, w, word) {
			a, err := s.change(ctx, where, body)
			if err == nil {
				if err = s.watchTask(ctx, a); err != nil {
					return err
				}
				return s.awaitOverride(ctx, sys, a.path, w) // where it went in the end
			}
			if first == nil {
				first = err
			}
			if refused := httpRefused(err, w.uri); refused != nil {
				return refused
			}
			if !isMalformed(a, err) {
				return err
			}
		}
	}
	return first
}

// isMalformed tells a refusal of the form of a request: another form may do.
func isMalformed(a *answer, err error) bool {
	return a != nil && (a.status == http.StatusBadRequest || a.status == http.StatusUnprocessableEntity) && fleet.KindOf(err) == fleet.Invalid
}

// bootBodies are the forms of the request in the order they are tried: with the
// mode the system is in; without a mode, which some make read-only (iLO) or do
// not know; and the whole of what Boot holds about the override, which AMI and
// ASRock Rack want.
func bootBodies(sys, where node, w wish, word string) []map[string]any {
	override := func() map[string]any {
		o := map[string]any{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": word}
		if w.uri != "" {
			o["HttpBootUri"] = w.uri
		}
		return o
	}
	mode := firstOf(where.object("Boot").str("BootSourceOverrideMode"), sys.object("Boot").str("BootSourceOverrideMode"))
	if w.target == UefiHTTP && mode != "" {
		mode = "UEFI"
	}
	var out []map[string]any
	if mode != "" {
		with := override()
		with["BootSourceOverrideMode"] = mode
		out = append(out, map[string]any{"Boot": with})
	}
	out = append(out, map[string]any{"Boot": override()})
	whole := override()
	for _, b := range []node{where.object("Boot"), sys.object("Boot")} {
		for _, key := range []string{"BootSourceOverrideMode", "UefiTargetBootSourceOverride", "BootOrder", "HttpBootUri", "BootNext"} {
			if _, set := whole[key]; !set && b.has(key) {
				whole[key] = b.m[key]
			}
		}
	}
	if _, told := whole["BootSourceOverrideMode"]; !told {
		whole["BootSourceOverrideMode"] = "UEFI" // a BMC that wants it and does not show it is a new one
	}
	return append(out, map[string]any{"Boot": whole})
}

// awaitOverride reads back. BMCs that apply a settings object only at the next
// start show it nowhere else, so either place will do. Some show a Once as
// Continuous (kubevirtbmc #165), some one word for a target as another.
func (s *Session) awaitOverride(ctx context.Context, sys node, where string, w wish) error {
	var shown BootOverride
	words := w.target.words(sys)
	err := s.until(ctx, func() (bool, error) {
		for _, path := range slices.Compact([]string{where, sys.path}) {
			n, _, err := s.get(ctx, path, nil)
			if err != nil {
				return false, err
			}
			if shown = readOverride(n); shown.IsSet() && contains(words, shown.Target) && (w.uri == "" || shown.HTTPURI == "" || shown.HTTPURI == w.uri) {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return fleet.NewFault(fleet.CodeBMCRejected, fleet.Transient, errors.Join(errNotTaken, err),
			"%s accepted boot once from %s but shows %q from %q", where, w.target, shown.Enabled, shown.Target)
	}
	return nil
}

// ClearBoot takes an override away, so that the server starts in its normal
// order. Where a BMC accepts neither Disabled nor None, the next start is set
// to the disk, once. No override is a success. Faults as BootOnce.
func (s *Session) ClearBoot(ctx context.Context, systemURI string) error {
	return s.wrap("clear boot override at", s.patiently(ctx, func() error { return s.clearBoot(ctx, systemURI) }))
}

func (s *Session) clearBoot(ctx context.Context, systemURI string) error {
	sys, places, err := s.bootPlaces(ctx, systemURI, wish{})
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(places, func(n node) bool { return readOverride(n).IsSet() }) {
		return nil
	}
	where := places[0]
	now := where.object("Boot").str("BootSourceOverrideTarget")
	var first error
	for _, o := range []map[string]any{
		{"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"},
		{"BootSourceOverrideEnabled": "Disabled"}, // iLO refuses the target None
		{"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": now},
		{"BootSourceOverrideTarget": "None"}, // iRMC refuses Disabled
	} {
		a, err := s.change(ctx, where, map[string]any{"Boot": o})
		if err == nil {
			if err = s.watchTask(ctx, a); err == nil {
				err = s.awaitCleared(ctx, sys.path, where.path)
			}
			return err
		}
		if first == nil {
			first = err
		}
		if !isMalformed(a, err) {
			return err
		}
	}
	if err := s.bootOnce(ctx, sys.path, wish{target: Hdd}); err != nil {
		return errors.Join(first, err)
	}
	return nil
}

func (s *Session) awaitCleared(ctx context.Context, system, where string) error {
	var shown BootOverride
	err := s.until(ctx, func() (bool, error) {
		n, _, err := s.get(ctx, where, nil)
		if err == nil {
			shown = readOverride(n)
		}
		return err == nil && !shown.IsSet(), err
	})
	if err != nil {
		return fleet.NewFault(fleet.CodeBMCRejected, fleet.Transient, err, "%s accepted to clear the boot override but shows %q from %q", where, shown.Enabled, shown.Target)
	}
	return nil
}
