package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
)

// mostFacts bounds what one machine that nobody planned for may say of itself.
const mostFacts = 256 << 10

// recogniser judges machines that asked who they are and that the plan does not
// name, by the site's rules. It enrols; it never lets anything be installed.
type recogniser struct {
	site  fleet.Site
	store *store.Store
	seen  *strangers
}

// unknown is provision.Config.Unknown: what is said on the machine's console.
func (r *recogniser) unknown(ctx context.Context, f fleet.Facts) string {
	s := fleet.Stranger{UUID: f.Identity.UUID, Serial: f.Identity.Serial, At: time.Now(),
		Model: short(strings.TrimSpace(f.Manufacturer.Or("") + " " + f.Model.Or("")))}
	if len(f.NICs) > 0 {
		s.MAC = short(f.NICs[0].MAC)
	}
	v, err := r.judge(ctx, f)
	if err != nil {
		v.note = "it could not be enrolled now: " + err.Error()
	}
	s.Rule, s.Code, s.Note = v.rule, v.code, v.note
	if err := r.seen.note(ctx, s); err != nil && v.note == "" {
		v.note = err.Error()
	}
	if v.code != "" {
		return string(v.code) + " " + v.note
	}
	return v.note
}

// verdict is what becomes of a machine that nobody named.
type verdict struct {
	rule string     // that it matches, if that is one
	code fleet.Code // why it is held, where that has a page
	note string
}

// judge compares a machine with the rules, and enrols it where one matches.
func (r *recogniser) judge(ctx context.Context, f fleet.Facts) (verdict, error) {
	id := f.Identity.ID()
	matched := r.site.RulesFor(f)
	switch {
	case len(r.site.Rules) == 0:
		return verdict{}, nil
	case id == "":
		return verdict{note: "it shows neither a usable serial nor a UUID, so nothing tells it apart from others"}, nil
	case len(matched) == 0:
		return verdict{code: fleet.CodeNoRule, note: "no rule of the site file matches it"}, nil
	case len(matched) > 1:
		return verdict{code: fleet.CodeSeveralRules, note: fmt.Sprintf("several rules match it (%s): make them differ", names(matched))}, nil
	}
	known, err := r.store.Servers(ctx)
	if err != nil {
		return verdict{}, err
	}
	hands := 0
	for _, v := range known {
		if v.BMC.IsByHand() {
			hands++
		}
		if v.ID == id && !v.BMC.IsByHand() {
			return verdict{note: fmt.Sprintf("it is server %s behind BMC %s, which the plan leaves out", id, v.BMC.Address)}, nil
		}
	}
	if b, err := json.Marshal(f); err != nil || len(b) > mostFacts {
		return verdict{note: fmt.Sprintf("what it says of itself has %d bytes, more than any server needs", len(b))}, err
	}
	at := fleet.ByHand(id)
	enrolled := slices.ContainsFunc(mapValues(known), func(v fleet.Server) bool { return v.BMC.Address == at.Address })
	if !enrolled && hands >= mostStrangers {
		return verdict{note: fmt.Sprintf("%d machines were enrolled by rules already, which is the most", hands)}, nil
	}
	// It was started by hand and runs: that is the drive the plan may count on.
	f.VirtualMedia = []fleet.MediaSlot{{URI: "by hand", MediaTypes: []string{"CD"}, How: "action"}}
	if err := r.store.KeepServers(ctx, at.Address, []fleet.Server{{ID: id, Identity: f.Identity, BMC: at}}, []fleet.Facts{f}); err != nil {
		return verdict{}, err
	}
	return verdict{rule: matched[0].Name, note: fmt.Sprintf("it matches rule %s and is enrolled as a %s: the next plan takes it in", matched[0].Name, matched[0].Role)}, nil
}

// short bounds what a machine says of itself and people read.
func short(s string) string { return strings.ToValidUTF8(s[:min(len(s), 128)], "?") }

func names(rules []fleet.Rule) string {
	var out []string
	for _, r := range rules {
		out = append(out, r.Name)
	}
	return strings.Join(out, ", ")
}

func mapValues[K comparable, V any](m map[K]V) []V {
	out := make([]V, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// byRules gives the machines that were enrolled by the site's rules, as the rules
// are now, with the site told their roles. What a person says under servers stays.
func byRules(s fleet.Site, servers map[string]fleet.Server, facts map[string]fleet.Facts) (fleet.Site, map[string]fleet.Server, []fleet.Finding) {
	out := map[string]fleet.Server{}
	var findings []fleet.Finding
	s.Servers = slices.Clone(s.Servers)
	places := []string{}
	for place, v := range servers {
		if v.BMC.IsByHand() {
			places = append(places, place)
		}
	}
	slices.Sort(places)
	for _, place := range places {
		v := servers[place]
		at := slices.IndexFunc(s.Servers, func(o fleet.Override) bool {
			return o.Serial != "" && o.Serial == v.Identity.Serial || o.Serial == "" && o.UUID != "" && o.UUID == v.Identity.UUID
		})
		matched := s.RulesFor(facts[place])
		switch {
		case at >= 0 && s.Servers[at].Role != "": // a person named it
		case len(matched) != 1:
			code, text := fleet.CodeNoRule, "no rule matches it any more"
			if len(matched) > 1 {
				code, text = fleet.CodeSeveralRules, "several rules match it: "+names(matched)
			}
			findings = append(findings, fleet.Finding{Code: code, Severity: fleet.Warning, Server: v.ID, Path: "rules",
				Text: fmt.Sprintf("machine %s was enrolled by a rule and is left out: %s", v.ID, text), Remedy: "Change the rules, or name the machine under servers with a role."})
			continue
		case at >= 0:
			s.Servers[at].Role = matched[0].Role
		default:
			s.Servers = append(s.Servers, fleet.Override{Serial: v.Identity.Serial, UUID: uuidAlone(v.Identity), Role: matched[0].Role})
		}
		out[place] = v
	}
	return s, out, findings
}

// uuidAlone names a server by its UUID where it has no serial.
func uuidAlone(i fleet.Identity) string {
	if i.Serial != "" {
		return ""
	}
	return i.UUID
}

// startedByHand refuses a plan for servers that no engine can start.
func startedByHand(p fleet.Plan) error {
	var out []string
	for _, a := range p.Assignments {
		if a.BMC.IsByHand() && a.Role != fleet.Excluded && a.Kept == "" {
			out = append(out, string(a.Server))
		}
	}
	if len(out) == 0 {
		return nil
	}
	return fleet.NewFault(fleet.CodeNoBMC, fleet.Unsupported, nil,
		"plan %.12s installs servers that have no BMC (%s): they are started by somebody, so run metalrise serve instead", p.ID, strings.Join(out, ", "))
}
