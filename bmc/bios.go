package bmc

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// BIOSSettings are the BIOS attributes of one system under the vendor's own
// names. Values are texts, booleans or numbers, as the BMC writes them.
type BIOSSettings struct {
	URI      string         `json:"uri"`
	Settings string         `json:"settings,omitempty"` // URI of the next start's; "" when they are set at URI itself
	Registry string         `json:"registry,omitempty"` // id of the attribute registry
	Values   map[string]any `json:"values"`             // in effect now
	Pending  map[string]any `json:"pending"`            // wished for the next start, where that differs
	Messages []string       `json:"messages,omitempty"` // what the firmware said to the last change, unless it was success

	applyTimes []string
	staged     node // the settings object, with its ETag
}

// BIOS reads a system's BIOS attributes and what is pending. Faults: BMC-007
// the BMC shows no BIOS attributes.
func (s *Session) BIOS(ctx context.Context, systemURI string) (BIOSSettings, error) {
	sys, err := s.system(ctx, systemURI)
	if err != nil {
		return BIOSSettings{}, s.wrap("read bios settings of", err)
	}
	b, err := s.bios(ctx, sys)
	return b, s.wrap("read bios settings of", err)
}

func (s *Session) bios(ctx context.Context, sys node) (BIOSSettings, error) {
	path := sys.link("Bios")
	if path == "" {
		return BIOSSettings{}, fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s shows no BIOS settings", sys.path)
	}
	n, err := s.readForChange(ctx, path)
	if err != nil {
		return BIOSSettings{}, err
	}
	annotation := n.object("@Redfish.Settings")
	b := BIOSSettings{
		URI: n.path, Settings: annotation.link("SettingsObject"), Registry: n.str("AttributeRegistry"),
		Values: attributes(n), Pending: map[string]any{},
		applyTimes: annotation.texts("SupportedApplyTimes"), staged: n,
	}
	if len(b.Values) == 0 {
		return b, fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s holds no attributes", n.path)
	}
	for _, m := range annotation.objects("Messages") {
		if id := m.str("MessageId"); id != "" && !strings.HasSuffix(id, ".Success") {
			b.Messages = append(b.Messages, strings.TrimSpace(id+" "+m.str("Message")+" "+strings.Join(m.texts("RelatedProperties"), ", ")))
		}
	}
	if b.Settings == "" {
		return b, nil
	}
	next, err := s.readForChange(ctx, b.Settings)
	if isMissing(err) {
		b.Settings = ""
		return b, nil
	}
	if err != nil {
		return b, err
	}
	b.staged = next
	b.applyTimes = append(b.applyTimes, next.object("@Redfish.Settings").texts("SupportedApplyTimes")...)
	for name, v := range attributes(next) {
		if now, known := b.Values[name]; !known || v != nil && !sameValue(now, v) {
			b.Pending[name] = v
		}
	}
	return b, nil
}

// attributes reads what is a plain value, or an object with the current one
// (Cray EX); anything else is left out.
func attributes(n node) map[string]any {
	a := n.object("Attributes")
	out := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(a.m)) {
		value := a.m[name]
		if o, ok := value.(map[string]any); ok {
			value = o["current_value"]
			if value == nil {
				continue
			}
		}
		switch v := value.(type) {
		case string, bool, json.Number, nil:
			if len(out) < maxAttributes && !strings.HasPrefix(name, "@") {
				out[name] = v
			}
		}
	}
	return out
}

func sameValue(a, b any) bool { return valueText(a) == valueText(b) }

// valueText writes an attribute's value as people type it.
func valueText(v any) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// BIOSChange is one attribute that differs from what is wished.
type BIOSChange struct {
	Name   string `json:"name"`
	Now    string `json:"now"`
	Wish   string `json:"wish"`
	Staged bool   `json:"staged"` // waits for the next start already
}

// Diff lists the attributes that are not as wished, in the order of their
// names. Texts are compared without case. A name that the BIOS does not have,
// or a wish that is not of the attribute's type, is a fault of kind invalid
// that names the nearest names.
func (b BIOSSettings) Diff(want map[string]string) ([]BIOSChange, error) {
	var out []BIOSChange
	for _, name := range slices.Sorted(maps.Keys(want)) {
		now, known := b.Values[name]
		if !known {
			return nil, fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Invalid, nil, "%s has no attribute %q%s", b.URI, name, b.near(name))
		}
		v, err := typed(want[name], now)
		if err != nil {
			return nil, fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Invalid, err, "attribute %s", name)
		}
		pending, waits := b.Pending[name]
		if waits || !strings.EqualFold(valueText(now), valueText(v)) {
			out = append(out, BIOSChange{Name: name, Now: valueText(now), Wish: valueText(v), Staged: waits && strings.EqualFold(valueText(pending), valueText(v))})
		}
	}
	return out, nil
}

// near names attributes that somebody may have meant.
func (b BIOSSettings) near(name string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(b.Values)) {
		if a, c := plainName(k), plainName(name); a != "" && c != "" && (strings.Contains(a, c) || strings.Contains(c, a)) && len(out) < 5 {
			out = append(out, k)
		}
	}
	if out == nil {
		return ""
	}
	return "; it has " + strings.Join(out, ", ")
}

// typed turns a typed text into the type that an attribute has now.
func typed(text string, now any) (any, error) {
	switch now.(type) {
	case bool:
		switch strings.ToLower(text) {
		case "true", "enabled", "on", "yes":
			return true, nil
		case "false", "disabled", "off", "no":
			return false, nil
		}
		return nil, fmt.Errorf("%q: want true or false", text)
	case json.Number:
		n := json.Number(strings.TrimSpace(text))
		if _, err := n.Float64(); err != nil {
			return nil, fmt.Errorf("%q: want a number", text)
		}
		return n, nil
	}
	return text, nil
}
