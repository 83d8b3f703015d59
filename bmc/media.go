package bmc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

// How a slot takes a medium, as fleet.MediaSlot.How says it. Any other word is
// the reason why it cannot.
const (
	byAction = "action"
	byPatch  = "patch"
)

// slot is one virtual drive as it was read.
type slot struct {
	n             node
	insert, eject string // action targets, "" when not offered
	how           string
}

func readSlot(n node) slot {
	a := n.object("Actions")
	s := slot{
		n:      n,
		insert: localTarget(a.object("#VirtualMedia.InsertMedia")),
		eject:  localTarget(a.object("#VirtualMedia.EjectMedia")),
	}
	_, hasImage := n.m["Image"]
	types := n.texts("MediaTypes")
	switch {
	case len(types) > 0 && !slices.ContainsFunc(types, isOptical):
		s.how = "takes no optical media, only " + strings.Join(types, ", ")
	case strings.HasPrefix(strings.ToUpper(n.str("Id")), "RDOC"):
		s.how = "takes uploads only"
	case s.insert != "":
		s.how = byAction
	case hasImage:
		s.how = byPatch
	default:
		s.how = "has neither an insert action nor an Image to set"
	}
	return s
}

func isOptical(t string) bool {
	return strings.EqualFold(t, "CD") || strings.EqualFold(t, "DVD")
}

func localTarget(action node) string {
	p, err := cleanPath(action.str("target"))
	if err != nil {
		action.bad("target", action.m["target"], "a path of the BMC")
		return ""
	}
	return p
}

func (s slot) usable() bool { return s.how == byAction || s.how == byPatch }

// state reads what the drive holds. Where a BMC has no Inserted, an image tells.
func (s slot) state() MediaState {
	image := s.n.str("Image")
	return MediaState{Slot: s.n.path, Inserted: s.n.flag("Inserted").Or(image != ""), Image: image}
}

// media reads the virtual drives of a system for its facts.
func (i *inspection) media(ctx context.Context, managers []node) []fleet.MediaSlot {
	var out []fleet.MediaSlot
	for _, n := range i.r.slotNodes(ctx, i.sys, managers) {
		s := readSlot(n)
		out = append(out, fleet.MediaSlot{URI: n.path, MediaTypes: n.texts("MediaTypes"), How: s.how})
	}
	return out
}

// slotNodes reads all virtual drives: those under the system first, then those
// under its managers. A manager of several systems is asked only where there is
// no other: its drives may belong to any of them.
func (r *reader) slotNodes(ctx context.Context, sys node, managers []node) []node {
	nodes := r.members(ctx, sys.link("VirtualMedia"))
	for _, m := range managers {
		if servers := m.object("Links").links("ManagerForServers"); len(servers) > 1 {
			if m.link("VirtualMedia") != "" {
				r.seen.add(m.path+"#VirtualMedia", "this manager serves %d systems: its virtual drives cannot be told apart and were left out", len(servers))
			}
			continue
		}
		nodes = append(nodes, r.members(ctx, m.link("VirtualMedia"))...)
	}
	visited := map[string]bool{}
	return slices.DeleteFunc(nodes, func(n node) bool {
		key := same(n.path)
		double := visited[key]
		visited[key] = true
		return double
	})
}

// slots reads the usable optical drives of a system as they are now. Where
// they are is found once per session.
func (s *Session) slots(ctx context.Context, sys node) ([]slot, error) {
	s.slotsMu.Lock()
	before, known := s.slotsOf[same(sys.path)]
	s.slotsMu.Unlock()
	r := s.reader(nil)
	var nodes []node
	if known {
		nodes = r.resolve(ctx, sys.path, r.refs(before...))
	} else {
		nodes = r.slotNodes(ctx, sys, r.managers(ctx, sys, s.root))
	}
	var out []slot
	var paths []string
	for _, n := range nodes {
		if sl := readSlot(n); sl.usable() {
			out = append(out, sl)
			paths = append(paths, n.path)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Transient, err, "reading virtual drives was cut short")
	}
	failed := r.failure()
	if failed != nil && (len(out) == 0 || len(nodes) < len(before)) {
		return nil, fmt.Errorf("read virtual drives: %w", failed)
	}
	if failed == nil && len(out) > 0 {
		s.slotsMu.Lock()
		s.slotsOf[same(sys.path)] = paths
		s.slotsMu.Unlock()
	}
	return out, nil
}

// MediaState is what one virtual optical drive holds.
type MediaState struct {
	Slot     string `json:"slot"` // URI
	Inserted bool   `json:"inserted"`
	Image    string `json:"image,omitempty"` // as the BMC tells it; some keep only the file name
}

// Sight is what an act could have changed.
type Sight struct {
	Identity     fleet.Identity                `json:"identity"`
	Power        fleet.Maybe[fleet.PowerState] `json:"power"`
	BootOverride BootOverride                  `json:"bootOverride"`
	Media        []MediaState                  `json:"media"` // usable optical drives only
}

// Look reads identity, power, boot override and virtual drives as they are now:
// one request, and one per drive.
func (s *Session) Look(ctx context.Context, systemURI string) (Sight, error) {
	sys, err := s.system(ctx, systemURI)
	if err != nil {
		return Sight{}, s.wrap("look at "+systemURI+" of", err)
	}
	slots, err := s.slots(ctx, sys)
	if err != nil {
		return Sight{}, s.wrap("look at "+sys.path+" of", err)
	}
	sight := Sight{Identity: identity(sys), Power: power(sys), BootOverride: readOverride(sys)}
	if !sight.BootOverride.isSet() {
		// Some keep what is for the next start on the settings object alone.
		if next := sys.object("@Redfish.Settings").link("SettingsObject"); next != "" {
			if n, _, err := s.get(ctx, next, nil); err == nil && readOverride(n).isSet() {
				sight.BootOverride = readOverride(n)
			}
		}
	}
	for _, sl := range slots {
		sight.Media = append(sight.Media, sl.state())
	}
	return sight, nil
}

// system reads a system afresh.
func (s *Session) system(ctx context.Context, systemURI string) (node, error) {
	uri, err := s.resolveSystem(ctx, systemURI)
	if err != nil {
		return node{}, err
	}
	return s.readForChange(ctx, uri)
}
