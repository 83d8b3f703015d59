package site_test

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
)

const ruleSite = `apiVersion: metalrise.dev/v1alpha1
kind: Site
name: oslo
network: {firstAddress: 10.0.1.21/24}
image: image
rules:
`

func TestRulesAreRead(t *testing.T) {
	f, findings := site.Read(strings.NewReader(ruleSite+`
  - {name: dell, role: worker, match: {manufacturer: Dell Inc., memoryGiB: 256, disks: 2}}
  - {name: planes, role: control-plane, match: {macPrefix: "b4:45:06"}}
`), "site.yaml")
	if f == nil || len(findings) > 0 {
		t.Fatalf("%+v", findings)
	}
	r := f.Site().Rules
	if len(r) != 2 || r[0].Match.MemoryGiB != 256 || r[0].Role != fleet.Worker || r[1].Match.MACPrefix != "b4:45:06" {
		t.Errorf("%+v", r)
	}
}

func TestRulesAreRefused(t *testing.T) {
	for _, c := range []struct{ rule, path string }{
		{`{role: worker, match: {model: x}}`, "rules[0].name"},
		{`{name: a, match: {model: x}}`, "rules[0].role"},
		{`{name: a, role: excluded, match: {model: x}}`, "rules[0].role"},
		{`{name: a, role: worker}`, "rules[0].match"},
		{`{name: a, role: worker, match: {memoryGiB: 64}}`, "rules[0].match"},
		{`{name: a, role: worker, match: {}}`, "rules[0].match"},
		{`{name: a, role: worker, match: {macPrefix: "b4"}}`, "rules[0].match.macPrefix"},
		{`{name: a, role: worker, match: {serialNumber: x}}`, "rules[0].match.serialNumber"},
		{"{name: a, role: worker, match: {model: x}}\n  - {name: a, role: worker, match: {model: y}}", "rules[1].name"},
	} {
		_, findings := site.Read(strings.NewReader(ruleSite+"  - "+c.rule+"\n"), "site.yaml")
		found := false
		for _, f := range findings {
			found = found || f.Path == c.path && f.Severity == fleet.Blocker && f.Remedy != ""
		}
		if !found {
			t.Errorf("%s: %+v", c.rule, findings)
		}
	}
	if _, findings := site.Read(strings.NewReader(strings.TrimSuffix(ruleSite, "rules:\n")), "site.yaml"); len(findings) == 0 {
		t.Error("without rules and BMCs a site has no servers")
	}
}
