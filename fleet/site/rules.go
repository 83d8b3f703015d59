package site

import (
	"errors"
	"fmt"
	"regexp"

	"go.yaml.in/yaml/v3"

	"metalrise.dev/fleet"
)

// ruleFields are those of rules.
func ruleFields() []field {
	return []field{
		{path: "rules", text: "Machines that are recognised by what they are, when they are started by somebody and ask the engine (metalrise serve). One that matches exactly one rule is enrolled and shown, and the next plan takes it in; nothing is done to it before you consented to that plan. With rules, bmcs may be left out.", byDef: "only servers with a BMC, or named by a plan, are known", max: 64},
		{path: "rules[].name", text: "Name of the rule, for people.", required: true, example: "dell-workers", check: checkName},
		{path: "rules[].role", text: "What such machines become.", required: true, example: "worker", enum: []string{string(fleet.ControlPlane), string(fleet.Worker)}},
		{path: "rules[].match", text: "What a machine must show: all that is given here. At least one of manufacturer, model and macPrefix.", required: true},
		{path: "rules[].match.manufacturer", text: "Its manufacturer; upper and lower case are the same.", byDef: "any", example: "Dell Inc."},
		{path: "rules[].match.model", text: "Its model (product name); upper and lower case are the same.", byDef: "any", example: "PowerEdge R650"},
		{path: "rules[].match.macPrefix", text: "How the MAC of one of its network ports begins.", byDef: "any", example: "\"b4:45:06\"", check: checkMACPrefix},
		{path: "rules[].match.memoryGiB", text: "Least memory in GiB, as sold: what firmware keeps for itself is allowed for.", byDef: "any", example: "256", min: 1, max: 1 << 20},
		{path: "rules[].match.cores", text: "Least number of processor cores.", byDef: "any", example: "32", min: 1, max: 1 << 16},
		{path: "rules[].match.disks", text: "Least number of disks that are not removable.", byDef: "any", example: "2", min: 1, max: 1024},
	}
}

var macPrefix = regexp.MustCompile(`^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){2,5}$`)

func checkMACPrefix(s string) error {
	if !macPrefix.MatchString(s) {
		return errors.New("the beginning of a MAC is three to six pairs of hexadecimal digits with colons")
	}
	return nil
}

// rules checks what no single field of a rule can show.
func (d *decoder) rules(rules []fleet.Rule, list *yaml.Node) {
	first := map[string]int{}
	for i, r := range rules {
		n, path := list.Content[i], fmt.Sprintf("rules[%d]", i)
		if n.Kind != yaml.MappingNode {
			continue
		}
		if other, ok := first[r.Name]; ok && r.Name != "" {
			d.fault(n, path+".name", fmt.Sprintf("rules[%d] has the same name", other), "Give each rule a name of its own.")
		}
		first[r.Name] = i
		if m := lookup(n, "match"); m != nil && m.Kind == yaml.MappingNode && !r.Match.Names() {
			d.fault(m, path+".match", "the rule matches machines of any kind", "Add manufacturer, model or macPrefix.")
		}
	}
}
