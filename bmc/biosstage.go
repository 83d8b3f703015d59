package bmc

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// StageBIOS asks for attribute values from the next start on and returns what
// differs from the values in effect, once the BMC shows them as pending. What
// is in effect already is left out of the request; nothing left is a success
// without a request. The change takes effect with a reset: VerifyBIOS then
// tells. Faults: BMC-007 unknown attribute, BMC-008 refused or not shown.
func (s *Session) StageBIOS(ctx context.Context, systemURI string, want map[string]string) ([]BIOSChange, error) {
	var changes []BIOSChange
	err := s.patiently(ctx, func() error {
		sys, err := s.system(ctx, systemURI)
		if err != nil {
			return err
		}
		b, err := s.bios(ctx, sys)
		if err == nil {
			changes, err = s.stage(ctx, b, want)
		}
		return err
	})
	return changes, s.wrap("stage bios settings at", err)
}

func (s *Session) stage(ctx context.Context, b BIOSSettings, want map[string]string) ([]BIOSChange, error) {
	changes, err := b.Diff(want)
	if err != nil {
		return nil, err
	}
	values, texts, err := s.biosValues(ctx, b, changes)
	if err != nil {
		return nil, err
	}
	if len(values) == 0 {
		return changes, nil
	}
	if err := s.sendBIOS(ctx, b, values); err != nil {
		return nil, err
	}
	if err := s.awaitStaged(ctx, b.URI, texts); err != nil {
		return nil, err
	}
	for i := range changes {
		changes[i].Staged = true
	}
	return changes, nil
}

// biosValues are what is to be sent for changes that do not wait yet, in the
// words and types of the BIOS, and as texts.
func (s *Session) biosValues(ctx context.Context, b BIOSSettings, changes []BIOSChange) (map[string]any, map[string]string, error) {
	values, texts := map[string]any{}, map[string]string{}
	var rules map[string]biosRule
	for _, c := range changes {
		if c.Staged {
			continue
		}
		if rules == nil {
			rules = s.biosRules(ctx, b.Registry)
		}
		word, err := rules[c.Name].fit(c.Name, b.spelling(c.Name, c.Wish))
		if err != nil {
			return nil, nil, err
		}
		if values[c.Name], err = typed(word, b.Values[c.Name]); err != nil {
			return nil, nil, err
		}
		texts[c.Name] = c.Wish
	}
	return values, texts, nil
}

// spelling writes a wish in the case the BIOS uses, where it already holds such
// a word: many refuse "enabled" for "Enabled".
func (b BIOSSettings) spelling(name, wish string) string {
	for _, v := range []any{b.Values[name], b.Pending[name]} {
		held, _ := v.(string)
		for _, word := range []string{held, onFor(held)} {
			if strings.EqualFold(word, wish) {
				return word
			}
		}
	}
	return wish
}

// sendBIOS sends the attributes to the settings object, with the time to apply
// them where the BMC offers that: without it iDRAC keeps them pending for ever.
// Other BMCs refuse it. A job that it makes ends with the next start only, so
// it is not waited for.
func (s *Session) sendBIOS(ctx context.Context, b BIOSSettings, values map[string]any) error {
	plain := map[string]any{"Attributes": values}
	bodies := []map[string]any{plain}
	if contains(b.applyTimes, "OnReset") {
		bodies = []map[string]any{{"Attributes": values, "@Redfish.SettingsApplyTime": map[string]any{"ApplyTime": "OnReset"}}, plain}
	}
	var first error
	for _, body := range bodies {
		a, err := s.change(ctx, b.staged, body)
		if err == nil {
			return nil
		}
		if a != nil && a.status == http.StatusMethodNotAllowed {
			return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, err, "the BIOS settings at %s can only be read", b.staged.path)
		}
		if first == nil {
			first = err
		}
		if !isMalformed(a, err) {
			break
		}
	}
	return first
}

// awaitStaged looks until the values show, as pending or in effect.
func (s *Session) awaitStaged(ctx context.Context, uri string, want map[string]string) error {
	var open []BIOSChange
	err := s.until(ctx, func() (bool, error) {
		b, err := s.biosAt(ctx, uri)
		if err != nil {
			return false, err
		}
		open, err = b.Diff(want)
		return err == nil && !slices.ContainsFunc(open, func(c BIOSChange) bool { return !c.Staged }), err
	})
	if err != nil {
		return fleet.NewFault(fleet.CodeBMCRejected, fleet.Transient, err, "%s accepted the attributes but does not show %s as pending", uri, changeNames(open))
	}
	return nil
}

func (s *Session) biosAt(ctx context.Context, uri string) (BIOSSettings, error) {
	return s.bios(ctx, node{path: uri, m: map[string]any{"Bios": map[string]any{"@odata.id": uri}}})
}

func changeNames(list []BIOSChange) string {
	var out []string
	for _, c := range list {
		if len(out) == 5 {
			out = append(out, "…")
			break
		}
		out = append(out, c.Name)
	}
	return strings.Join(out, ", ")
}

// VerifyBIOS looks until all attributes are in effect as wished, or ctx ends.
// Then the fault is BMC-008 and names what is not, with what the firmware said.
// Looks that fail on the way do not end the wait.
func (s *Session) VerifyBIOS(ctx context.Context, systemURI string, want map[string]string) error {
	var open []BIOSChange
	var said []string
	for wait := s.opts.Poll; ; wait = min(wait*3/2, 10*s.opts.Poll) {
		b, err := s.BIOS(ctx, systemURI)
		if err == nil {
			if open, err = b.Diff(want); err != nil {
				return s.wrap("verify bios settings at", err)
			}
			if said = b.Messages; len(open) == 0 {
				return nil
			}
		} else if k := fleet.KindOf(err); k == fleet.Denied || k == fleet.Unsupported {
			return err
		}
		if ended := pause(ctx, wait); ended != nil {
			cause := errors.Join(err, ended)
			text := "not in effect: " + changeNames(open)
			if len(said) > 0 {
				text += "; the firmware says " + strings.Join(said, "; ")
			}
			return s.wrap("verify bios settings at", fleet.NewFault(fleet.CodeBMCRejected, fleet.Transient, cause, "%s", text))
		}
	}
}

// SetSecureBoot switches Secure Boot on or off from the next start on and looks.
// A 500 is looked at and, as the wish names a state, sent again twice at most:
// some BMCs fail at the first try.
func (s *Session) SetSecureBoot(ctx context.Context, systemURI string, on bool) error {
	return s.wrap("set secure boot at", s.patiently(ctx, func() error { return s.setSecureBoot(ctx, systemURI, on) }))
}

func (s *Session) setSecureBoot(ctx context.Context, systemURI string, on bool) error {
	sys, err := s.system(ctx, systemURI)
	if err != nil {
		return err
	}
	path := sys.link("SecureBoot")
	if path == "" {
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s shows no Secure Boot", sys.path)
	}
	for try := 1; ; try++ {
		n, err := s.readForChange(ctx, path)
		if err != nil {
			return err
		}
		if v, known := n.flag("SecureBootEnable").Get(); known && v == on {
			return nil
		}
		if try > 3 {
			return fleet.NewFault(fleet.CodeBMCRejected, fleet.Transient, nil, "%s accepted the change but does not show it", path)
		}
		a, err := s.change(ctx, n, map[string]any{"SecureBootEnable": on})
		if err != nil && (a == nil || a.status != http.StatusInternalServerError || try == 3) {
			return err
		}
		if err == nil {
			if err := s.watchTask(ctx, a); err != nil {
				return err
			}
		}
		if err := pause(ctx, max(s.opts.Poll, time.Millisecond)); err != nil {
			return err
		}
	}
}
