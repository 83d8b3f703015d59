package bmc

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// VirtSetting is a BIOS attribute that governs something that hypervisors need.
type VirtSetting struct {
	Feature fleet.BIOSFeature `json:"feature"`
	Name    string            `json:"name"` // the vendor's
	Value   string            `json:"value"`
	On      fleet.Maybe[bool] `json:"on"`             // unknown: a word nobody here knows
	Want    string            `json:"want,omitempty"` // the value that switches it on, where that can be told
}

// onFor gives the vendor's word for on that belongs to its word for off, "" when
// the word is no known one. AMI puts the attribute's name in front of its values.
func onFor(off string) string {
	for _, w := range [...]struct{ off, on string }{
		{"Disabled", "Enabled"}, {"disabled", "enabled"}, {"Disable", "Enable"}, {"disable", "enable"}, {"Off", "On"}, {"No", "Yes"}, {"false", "true"}, {"0", "1"},
	} {
		if front, ok := strings.CutSuffix(off, w.off); ok && (front == "" || len(w.off) > 5) {
			return front + w.on
		}
	}
	return ""
}

// Virtualization lists the attributes that govern VT-x, AMD-V, VT-d, AMD-Vi and
// SR-IOV under their vendors' names, by feature and name. A BIOS without any is
// an empty list, which says nothing about the processor.
func (b BIOSSettings) Virtualization() []VirtSetting {
	out := []VirtSetting{}
	for _, name := range slices.Sorted(maps.Keys(b.Values)) {
		feature, value := featureOf(name), attribute(b.Values[name])
		if feature == "" || value == "" {
			continue
		}
		v := VirtSetting{Feature: feature, Name: name, Value: value, On: setting(value)}
		if on, known := v.On.Get(); known && on {
			v.Want = value
		} else if known {
			v.Want = onFor(value)
		}
		out = append(out, v)
	}
	slices.SortStableFunc(out, func(a, b VirtSetting) int { return cmp.Compare(a.Feature, b.Feature) })
	return out
}

// VirtualizationWish is what to stage so that every known switch of
// virtualization is on. Those that are, or whose words nobody here knows, are
// left out.
func (b BIOSSettings) VirtualizationWish() map[string]string {
	out := map[string]string{}
	for _, v := range b.Virtualization() {
		if on, known := v.On.Get(); known && !on && v.Want != "" {
			out[v.Name] = v.Want
		}
	}
	return out
}
