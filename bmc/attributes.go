package bmc

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"metalrise.dev/fleet"
)

const maxAttributes = 5000 // of one BIOS; the largest honest one seen has 455

// plainName is the form in which vendors' spellings of one attribute are alike:
// small letters and digits, without the number that Supermicro puts behind
// ("SR_IOVSupport#0045").
func plainName(name string) string {
	if i := strings.IndexByte(name, '#'); i >= 0 {
		name = name[:i]
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return -1
	}, name)
}

// featureOf tells what an attribute governs, "" when it is none of our
// business. Names differ by vendor: Dell and HPE ProcVirtualization, Cisco
// IntelVT and SVMMode, Lenovo Processors_IntelVirtualizationTechnology,
// Supermicro IntelVirtualizationTechnology#…, Huawei VMXEnable; the rules hold
// for all of them, and for the labels in attribute registries.
func featureOf(name string) fleet.BIOSFeature {
	n := plainName(name)
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(n, w) })
	}
	switch {
	case has("lock", "status", "slot", "vmd", "oprom", "pxe"):
		return "" // of one card, or not to be set
	case has("sriov"):
		return fleet.FeatureSRIOV
	case has("vtd", "directedio", "iommu", "amdvi", "smmu"):
		if has("coherency", "ats", "interrupt", "dma", "passthrough", "posted", "stage") {
			return "" // a part of it
		}
		return fleet.FeatureIOMMU
	case has("svm", "amdvirtualization"), n == "amdv":
		return fleet.FeatureAMDV
	case has("vmx", "virtualizationtechnology", "procvirtualization", "cpuvirtualization", "processorvirtualization"),
		n == "intelvt", n == "vtsupport", n == "vtx", n == "intelvtx", n == "virtualization", n == "vttechnology":
		return fleet.FeatureVTx
	}
	return ""
}

// setting reads the words for on and off; others ("Auto") are unknown. AMI puts
// the attribute's name in front of its values.
func setting(value string) fleet.Maybe[bool] {
	v := plainName(value)
	switch {
	case strings.HasSuffix(v, "disabled"), strings.HasSuffix(v, "disable"), v == "off", v == "false", v == "0", v == "no":
		return fleet.Known(false)
	case strings.HasSuffix(v, "enabled"), strings.HasSuffix(v, "enable"), v == "on", v == "true", v == "1", v == "yes":
		return fleet.Known(true)
	}
	return fleet.Maybe[bool]{}
}

// attribute is the text of an attribute whatever its type.
func attribute(v any) string {
	switch v := v.(type) {
	case string:
		return clean(v)
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}

// biosSettings picks the attributes that govern virtualization, by their names,
// or by the labels in the BIOS's registry where the names are codes (AMI).
func (i *inspection) biosSettings(ctx context.Context, bios node, cpu string) []fleet.BIOSSetting {
	attributes := bios.object("Attributes").m
	if len(attributes) == 0 || len(attributes) > maxAttributes {
		return nil
	}
	names := slices.Sorted(maps.Keys(attributes))
	amd := strings.Contains(strings.ToUpper(cpu), "AMD")
	pick := func(labels map[string]string) []fleet.BIOSSetting {
		var out []fleet.BIOSSetting
		for _, name := range names {
			label := labels[name]
			feature := featureOf(firstOf(label, name))
			value := attribute(attributes[name])
			if feature == "" || value == "" || isNoValue(value) {
				continue
			}
			if feature == fleet.FeatureVTx && amd {
				feature = fleet.FeatureAMDV // HPE and Dell have one name for both
			}
			out = append(out, fleet.BIOSSetting{Feature: feature, Name: clean(name), Label: label, Value: value, On: setting(value), Source: bios.path})
		}
		return out
	}
	if out := pick(nil); len(out) > 0 {
		return out
	}
	return pick(i.labels(ctx, bios.str("AttributeRegistry")))
}

// labels reads what a BIOS's registry calls its attributes. The registry is
// found among those of the service, whose URIs hold its name.
func (i *inspection) labels(ctx context.Context, registry string) map[string]string {
	if registry == "" {
		return nil
	}
	for _, m := range i.r.memberLinks(ctx, i.root.link("Registries")) {
		if !strings.Contains(same(m), strings.ToLower(registry)) {
			continue
		}
		file, ok := i.r.try(ctx, m)
		if !ok {
			continue
		}
		for _, l := range file.objects("Location") {
			if lang := l.str("Language"); lang != "" && !strings.HasPrefix(strings.ToLower(lang), "en") {
				continue
			}
			r, ok := i.r.try(ctx, l.link("Uri"))
			if !ok {
				continue
			}
			out := map[string]string{}
			for _, a := range r.object("RegistryEntries").objects("Attributes") {
				if label := firstOf(a.str("DisplayName"), a.str("MenuPath")); label != "" {
					out[a.str("AttributeName")] = label
				}
			}
			return out
		}
	}
	return nil
}

// virtualization is what the settings say of VT-x or AMD-V. Where the two are
// not of one mind, the one of the other maker may be meant: unknown.
func virtualization(all []fleet.BIOSSetting) fleet.Maybe[bool] {
	var out fleet.Maybe[bool]
	for _, s := range all {
		on, known := s.On.Get()
		if !known || s.Feature != fleet.FeatureVTx && s.Feature != fleet.FeatureAMDV {
			continue
		}
		if out.IsKnown() && out.Or(on) != on {
			return fleet.Maybe[bool]{}
		}
		out = fleet.Known(on)
	}
	return out
}

// secureBootAttribute stands in where the resource is missing.
func secureBootAttribute(attributes node) fleet.Maybe[bool] {
	for _, key := range []string{"SecureBootStatus", "SecureBoot", "SecureBootEnable"} {
		if on := setting(attribute(attributes.m[key])); on.IsKnown() {
			return on
		}
	}
	return fleet.Maybe[bool]{}
}

// bootMode prefers the BIOS setting over the mode of the override, which on
// some machines only says what an override would use. must tells that nothing
// but UEFI can be: secure boot is on, or the processors are Arm ones.
func bootMode(boot, attributes node, must bool) fleet.Maybe[string] {
	for _, word := range []string{bootModeAttribute(attributes), boot.str("BootSourceOverrideMode")} {
		w := strings.ToLower(word)
		uefi, legacy := strings.Contains(w, "uefi"), strings.Contains(w, "legacy") || w == "bios"
		switch {
		case uefi && !legacy:
			return fleet.Known("uefi")
		case legacy && !uefi:
			return fleet.Known("bios")
		}
	}
	if must {
		return fleet.Known("uefi")
	}
	return fleet.Maybe[string]{}
}

// bootModeAttribute reads BootMode (Dell, HPE), BootModeSelect (Supermicro,
// AMI), SystemBootMode (Lenovo), BootType (Huawei) and their like.
func bootModeAttribute(attributes node) string {
	if len(attributes.m) > maxAttributes {
		return ""
	}
	for _, key := range slices.Sorted(maps.Keys(attributes.m)) {
		switch n := plainName(key); n {
		case "bootmode", "bootmodeselect", "systembootmode", "bootmodessystembootmode", "boottype", "bootmodecontrol", "bootmodeselection":
			if v := attribute(attributes.m[key]); v != "" {
				return v
			}
		}
	}
	return ""
}
