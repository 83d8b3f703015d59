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
// device on Supermicro, where "Cd" means a real one.
func (t Target) words(sys node) []string {
	switch t {
	case Cd:
		words := []string{"Cd", "UsbCd", "UefiUsbCd", "UefiCd", "Dvd", "CD/DVD"}
		if strings.HasPrefix(strings.ToLower(sys.str("Manufacturer")), "supermicro") {
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

// BootOnce makes the server's next start, and only that, come from the target.
// It is set where the BMC wants it, on the system or on its settings object,
// and read back where that can be. Faults: BMC-007 not offered, BMC-008 refused
// or not taken over; an uncertain fault means that Look must tell.
func (s *Session) BootOnce(ctx context.Context, systemURI string, t Target) error {
	return s.wrap("set boot once from "+string(t)+" at", s.bootOnce(ctx, systemURI, t))
}

func (s *Session) bootOnce(ctx context.Context, systemURI string, t Target) error {
	sys, err := s.system(ctx, systemURI)
	if err != nil {
		return err
	}
	where, err := s.bootResource(ctx, sys)
	if err != nil {
		return err
	}
	allowed := bootTargets(sys.object("Boot"))
	if len(allowed) == 0 {
		allowed = bootTargets(where.object("Boot"))
	}
	words := t.words(sys)
	if words == nil {
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Invalid, nil, "no such boot target: %q", t)
	}
	if len(allowed) > 0 {
		words = slices.DeleteFunc(words, func(w string) bool { return !contains(allowed, w) })
		if len(words) == 0 {
			return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s offers no boot target for %s, only %s", sys.path, t, strings.Join(allowed, ", "))
		}
	}
	word := words[0]
	for _, body := range bootBodies(sys, where, word) {
		var a *answer
		if a, err = s.change(ctx, where, body); err == nil {
			if err = s.awaitTask(ctx, a); err != nil {
				return err
			}
			return s.awaitOverride(ctx, sys.path, where.path, word)
		}
		if a == nil || a.status != http.StatusBadRequest || fleet.KindOf(err) != fleet.Invalid {
			return err
		}
	}
	return err
}

// bootResource finds where the override is set: the settings object where that
// holds a Boot, else the system itself.
func (s *Session) bootResource(ctx context.Context, sys node) (node, error) {
	path := sys.object("@Redfish.Settings").link("SettingsObject")
	if path == "" {
		return sys, nil
	}
	n, a, err := s.get(ctx, path, nil)
	var r *refusal
	switch {
	case errors.As(err, &r) && r.status == http.StatusNotFound:
		return sys, nil
	case err != nil:
		return node{}, err
	}
	keepETag(n, a)
	b := n.object("Boot")
	if _, ok := b.m["BootSourceOverrideTarget"]; !ok && !b.has("BootSourceOverrideEnabled") {
		return sys, nil
	}
	return n, nil
}

// bootBodies are the forms of the request, tried in order while the BMC calls
// them malformed: with the mode the system is in, then without a mode.
func bootBodies(sys, where node, word string) []map[string]any {
	override := func() map[string]any {
		return map[string]any{"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": word}
	}
	plain := map[string]any{"Boot": override()}
	mode := firstOf(where.object("Boot").str("BootSourceOverrideMode"), sys.object("Boot").str("BootSourceOverrideMode"))
	if mode == "" {
		return []map[string]any{plain}
	}
	with := override()
	with["BootSourceOverrideMode"] = mode
	return []map[string]any{{"Boot": with}, plain}
}

// awaitOverride reads back. BMCs that apply a settings object only at the next
// start show it nowhere else, so either place will do. Some show a Once as
// Continuous (kubevirtbmc #165).
func (s *Session) awaitOverride(ctx context.Context, system, where, word string) error {
	var shown BootOverride
	err := s.until(ctx, func() (bool, error) {
		for _, path := range slices.Compact([]string{where, system}) {
			n, _, err := s.get(ctx, path, nil)
			if err != nil {
				return false, err
			}
			b := n.object("Boot")
			shown = BootOverride{Enabled: b.str("BootSourceOverrideEnabled"), Target: b.str("BootSourceOverrideTarget")}
			if strings.EqualFold(shown.Target, word) && (strings.EqualFold(shown.Enabled, "Once") || strings.EqualFold(shown.Enabled, "Continuous")) {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return fleet.NewFault(fleet.CodeBMCRejected, fleet.Transient, err, "%s accepted boot once from %s but shows %q from %q", where, word, shown.Enabled, shown.Target)
	}
	return nil
}
