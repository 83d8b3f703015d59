package plan

import (
	"fmt"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// processor is what the facts tell of a hypervisor's processor.
type processor struct {
	host   string
	vendor string   // "intel", "amd" or "" when nobody knows
	name   string   // as it calls itself; "" when unknown
	key    string   // equal for processors that are the same, "" when unknown
	models []string // that it can show to guests, the best one last; nil: unknown
	whole  bool     // all its flags are known; else models are what its name promises
}

// newProcessor reads facts. A list of flags that has sse2 is taken for a whole
// one and decides alone. Else the name decides, by its maker's scheme of names,
// and flags that are looked for on every machine take models away: firmware may
// have switched something off.
func newProcessor(host string, c fleet.CPU) processor {
	vendor, _ := cpuVendor(c)
	p := processor{host: host, vendor: vendor, name: strings.Join(strings.Fields(c.Model.Or("")), " ")}
	if p.name != "" {
		p.key = p.name + "\x00" + strings.Join(c.Flags, " ")
	}
	has := func(flag string) bool { return slices.Contains(c.Flags, flag) }
	p.whole = has("sse2")
	best := ""
	if !p.whole {
		best = modelByName(p.name)
	}
	if vendor == "" || !p.whole && best == "" {
		return p
	}
	ceiling := modelNamed(best)
	for _, m := range cpuModels() {
		missing := func(flag string) bool { return !has(flag) }
		switch {
		case m.vendor != vendor:
		case p.whole && slices.ContainsFunc(m.flags, missing):
		case !p.whole && slices.ContainsFunc(m.flags, func(flag string) bool { return !slices.Contains(ceiling.flags, flag) }):
		case !p.whole && len(c.Flags) > 0 && slices.ContainsFunc(m.flags, func(flag string) bool { return lookedFor(flag) && missing(flag) }):
		default:
			p.models = append(p.models, m.name)
		}
	}
	return p
}

func modelNamed(name string) cpuModel {
	all := cpuModels()
	if i := slices.IndexFunc(all, func(m cpuModel) bool { return m.name == name }); i >= 0 {
		return all[i]
	}
	return cpuModel{}
}

// best is the best model of a processor, "" when unknown.
func (p processor) best() string {
	if len(p.models) == 0 {
		return ""
	}
	return p.models[len(p.models)-1]
}

// commonModel is the best model that all processors have; "" when there is none
// or when one of them is unknown.
func commonModel(all []processor) string {
	best := ""
	for _, m := range cpuModels() {
		if len(all) > 0 && !slices.ContainsFunc(all, func(p processor) bool { return !slices.Contains(p.models, m.name) }) {
			best = m.name
		}
	}
	return best
}

// Models that are the host's own.
const (
	hostModel       = "host-model"
	hostPassthrough = "host-passthrough"
)

// accepts tells whether a VM of this default model that runs on p can go on on
// q. With the host's own model it shows all that p has, so q must have that too.
// What is not known is taken for a no.
func (p processor) accepts(q processor, model string) bool {
	switch {
	case p.key != "" && p.key == q.key:
		return true
	case model == hostPassthrough:
		return false
	case model == "" || model == hostModel:
		return p.best() != "" && slices.Contains(q.models, p.best())
	}
	return slices.Contains(p.models, model) && slices.Contains(q.models, model)
}

// mostTargets bounds what is listed for one host: a thousand hosts would
// otherwise make a million names.
const mostTargets = 16

// migrations lists for each host those that take its VMs, the next ones first,
// as in a ring; at most mostTargets. Emulated processors are the same
// everywhere. A host is left out where it is not known who takes them.
func migrations(all []processor, model string, emulated bool) map[string][]string {
	if len(all) < 2 {
		return nil
	}
	out := map[string][]string{}
	unknown := slices.ContainsFunc(all, func(p processor) bool { return p.best() == "" })
	for i, p := range all {
		to := []string{}
		for j := 1; j < len(all) && len(to) < mostTargets; j++ {
			if q := all[(i+j)%len(all)]; emulated || p.accepts(q, model) {
				to = append(to, q.host)
			}
		}
		if len(to) > 0 || !unknown {
			out[p.host] = to
		}
	}
	return out
}

// alike tells whether all processors are the same.
func alike(all []processor) bool {
	return !slices.ContainsFunc(all, func(p processor) bool { return p.key == "" || p.key != all[0].key })
}

// chooseCPU decides on the default model of VMs and on who can hand them to whom.
func (m *maker) chooseCPU(s *fleet.StackPlan, hosts []*draft) {
	var all []processor
	for _, d := range hosts {
		all = append(all, newProcessor(d.Node.Name, d.facts.CPU))
	}
	s.CPUModel = m.in.Site.Platform.CPUModel
	switch {
	case s.CPUModel != "":
		m.checkModel(s.CPUModel, all)
	case len(all) < 2 || s.Emulation:
		// VMs never move, or the same processor is emulated everywhere.
	case alike(all) && !all[0].whole:
		// The host's own model is the same everywhere and shows all there is. A
		// model that only a name promises might be one that no VM starts with.
	default:
		s.CPUModel = commonModel(all)
		m.tellProcessors(s.CPUModel, all)
	}
	s.Migration = migrations(all, s.CPUModel, s.Emulation)
}

// checkModel holds a model that a person wants against the processors.
func (m *maker) checkModel(model string, all []processor) {
	const path = "platform.cpuModel"
	if model == hostModel || model == hostPassthrough {
		return
	}
	if modelNamed(model).name == "" {
		m.add(fleet.CodePlatformInvalid, fleet.Warning, "", path, fmt.Sprintf("%q is none of the CPU models that can be checked; VMs start only where KubeVirt finds that the processor has it", model),
			"Compare it with the labels cpu-model.node.kubevirt.io of the nodes; or leave it out.")
		return
	}
	var lack []string
	for _, p := range all {
		if len(p.models) > 0 && !slices.Contains(p.models, model) {
			lack = append(lack, p.host)
		}
	}
	if len(lack) > 0 {
		remedy := "Leave it out, or name an older model."
		if common := commonModel(all); common != "" {
			remedy = fmt.Sprintf("Leave it out, or name %s, which all have.", common)
		}
		m.add(fleet.CodeCPUsDiffer, fleet.Warning, "", path, fmt.Sprintf("by what is known of their processors, these have no %s and get no VMs of the default: %s", model, someOf(lack)), remedy)
	}
}

// tellProcessors says what the choice of a model rests on, where the processors
// differ or are not known.
func (m *maker) tellProcessors(model string, all []processor) {
	const path = "platform.cpuModel"
	var unknown, each []string
	bests := map[string]bool{}
	for _, p := range all {
		bests[p.best()] = true
		if p.best() == "" {
			unknown = append(unknown, p.host)
			continue
		}
		each = append(each, p.host+" has "+p.best())
	}
	switch {
	case len(unknown) > 0:
		m.add(fleet.CodeCPUsDiffer, fleet.Info, "", path, fmt.Sprintf("the processors of these are not known well enough to choose a CPU model that all have: %s; VMs get the host's own, and move where processors are the same", someOf(unknown)),
			"Nothing to do where all servers are of one kind; else set platform.cpuModel to a model that all have.")
	case model == "":
		m.add(fleet.CodeCPUsDiffer, fleet.Warning, "", path, fmt.Sprintf("the hypervisors' processors have no CPU model in common: %s; VMs get the host's own, and move only to hypervisors that have it too", someOf(each)),
			"Accept it, or let hypervisors of one maker only run VMs.")
	case len(bests) > 1:
		m.add(fleet.CodeCPUsDiffer, fleet.Info, "", path, fmt.Sprintf("the hypervisors' processors differ: %s; VMs get %s by default, which all have, so that they can move", someOf(each), model),
			"Nothing to do. VMs that need more can name another model, and then stay where that is.")
	}
}

// someOf lists at most 12 words.
func someOf(words []string) string {
	shown := words[:min(len(words), 12)]
	text := strings.Join(shown, ", ")
	if more := len(words) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
