package bmc

import (
	"context"
	"strings"

	"metalrise.dev/fleet"
)

// biosRule is what a BIOS's attribute registry says of one attribute.
type biosRule struct {
	readOnly bool
	words    []string // of an enumeration; nil: it is none
}

// biosRules reads the attribute registry of a BIOS. A BMC without one, or with
// one that cannot be read, gives none: then the BMC's own refusal tells.
func (s *Session) biosRules(ctx context.Context, registry string) map[string]biosRule {
	out := map[string]biosRule{}
	for _, a := range s.biosRegistry(ctx, registry).object("RegistryEntries").objects("Attributes") {
		rule := biosRule{readOnly: a.flag("ReadOnly").Or(false)}
		if strings.EqualFold(a.str("Type"), "Enumeration") {
			for _, v := range a.objects("Value") {
				if w := v.str("ValueName"); w != "" {
					rule.words = append(rule.words, w)
				}
			}
		}
		if name := a.str("AttributeName"); name != "" && len(out) < maxAttributes {
			out[name] = rule
		}
	}
	return out
}

// biosRegistry finds the English text of a registry among those of the service,
// whose URIs hold its name.
func (s *Session) biosRegistry(ctx context.Context, registry string) node {
	if registry == "" {
		return node{}
	}
	r := s.reader(nil)
	for _, path := range r.memberLinks(ctx, s.root.link("Registries")) {
		if !strings.Contains(same(path), strings.ToLower(registry)) {
			continue
		}
		file, ok := r.try(ctx, path)
		if !ok {
			continue
		}
		for _, l := range file.objects("Location") {
			if lang := strings.ToLower(l.str("Language")); lang != "" && !strings.HasPrefix(lang, "en") {
				continue
			}
			if n, ok := r.try(ctx, l.link("Uri")); ok {
				return n
			}
		}
	}
	return node{}
}

// fit gives the word of an enumeration that is meant, or a fault when none is,
// or when the attribute cannot be set.
func (r biosRule) fit(name, wish string) (string, error) {
	if r.readOnly {
		return "", fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Invalid, nil, "attribute %s can only be read, or not at present", name)
	}
	for _, w := range r.words {
		if strings.EqualFold(w, wish) {
			return w, nil
		}
	}
	if r.words != nil {
		return "", fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Invalid, nil, "attribute %s takes %s, not %q", name, strings.Join(r.words, ", "), wish)
	}
	return wish, nil
}
