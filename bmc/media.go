package bmc

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"metalrise.dev/fleet"
)

// way is how a virtual drive takes a medium.
type way string

const (
	byAction     way = "action"
	byPatch      way = "patch"
	byHuawei     way = "huawei"     // action VmmControl
	bySupermicro way = "supermicro" // CfgCD: PATCH Host and Path, then IsoConfig.Mount
	byFujitsu    way = "fujitsu"    // PATCH CDImage, then FTSComputerSystem.VirtualMedia
)

// slot is one virtual drive as it was read.
type slot struct {
	drivePlace
	n         node
	protocols []string // it can load over; nil: it does not say
	named     bool     // it says that it takes optical media
	why       string   // it cannot be used; "" when it can
	shown     MediaState
}

// drivePlace is where a drive is found again.
type drivePlace struct {
	path          string
	how           way
	insert, eject string // action targets, "" when not offered
	from          string // Supermicro: the collection that shows what is mounted; Fujitsu: the system
}

// readSlot reads a drive that is a resource of its own.
func readSlot(n node) slot {
	a := n.object("Actions")
	standard := a.object("#VirtualMedia.InsertMedia")
	s := slot{
		drivePlace: drivePlace{path: n.path, insert: localTarget(standard), eject: localTarget(a.object("#VirtualMedia.EjectMedia"))},
		n:          n,
		protocols:  protocols(standard),
	}
	_, hasImage := n.m["Image"]
	types := n.texts("MediaTypes")
	s.named = slices.ContainsFunc(types, isOptical)
	name := strings.ToUpper(n.str("Id"))
	uploads := standard.texts("TransferMethod@Redfish.AllowableValues")
	switch {
	case len(types) > 0 && !s.named:
		s.why = "takes no optical media, only " + strings.Join(types, ", ")
	case len(types) == 0 && isOtherDrive(name):
		s.why = "is no optical drive by its name"
	case strings.HasPrefix(name, "RDOC"), len(uploads) == 1 && strings.EqualFold(uploads[0], "Upload"):
		s.why = "takes uploads only"
	case s.insert != "" && !s.loads("http") && !s.loads("https"):
		s.why = "loads images over " + strings.Join(s.protocols, ", ") + " only (TransferProtocolType)"
	case s.insert != "":
		s.how = byAction
	case s.readVendor():
	case hasImage:
		s.how = byPatch
	default:
		s.why = "has neither an insert action nor an Image to set"
	}
	image := n.str("Image")
	s.shown = MediaState{Slot: n.path, Inserted: n.flag("Inserted").Or(image != ""), Image: image}
	return s
}

func isOptical(t string) bool {
	return strings.EqualFold(t, "CD") || strings.EqualFold(t, "DVD")
}

// isOtherDrive judges a drive that does not say what media it takes.
func isOtherDrive(id string) bool {
	for _, word := range []string{"FLOPPY", "USB", "REMOVABLE", "HDD", "SDCARD"} {
		if strings.Contains(id, word) && !strings.Contains(id, "CD") && !strings.Contains(id, "DVD") {
			return true
		}
	}
	return false
}

// protocols are what an insert action says it can load over. Texts that are no
// protocol are left out: CIMC describes its parameters there.
func protocols(insert node) []string {
	var out []string
	for _, p := range insert.texts("TransferProtocolType@Redfish.AllowableValues") {
		if len(p) <= 8 && !strings.Contains(p, " ") {
			out = append(out, p)
		}
	}
	return out
}

func (s slot) loads(scheme string) bool {
	return len(s.protocols) == 0 || contains(s.protocols, scheme)
}

func localTarget(action node) string {
	p, err := cleanPath(action.str("target"))
	if err != nil {
		action.bad("target", action.m["target"], "a path of the BMC")
		return ""
	}
	return p
}

func (s slot) usable() bool { return s.why == "" }

// told is how fleet.MediaSlot.How says it: "action", also for the vendors' own,
// "patch", or the reason why not.
func (s slot) told() string {
	switch {
	case s.why != "":
		return s.why
	case s.how == byPatch:
		return string(byPatch)
	}
	return string(byAction)
}

// media reads the virtual drives of a system for its facts.
func (i *inspection) media(ctx context.Context, managers []node) []fleet.MediaSlot {
	var out []fleet.MediaSlot
	for _, s := range i.r.drives(ctx, i.sys, managers) {
		out = append(out, fleet.MediaSlot{URI: s.path, MediaTypes: s.n.texts("MediaTypes"), How: s.told()})
	}
	return out
}

// drives reads all virtual drives: those under the system first, then those
// under its managers, then what vendors have of their own. A manager of several
// systems is asked only where there is no other: its drives may belong to any
// of them.
func (r *reader) drives(ctx context.Context, sys node, managers []node) []slot {
	collections := []string{sys.link("VirtualMedia")}
	for _, m := range managers {
		if servers := m.object("Links").links("ManagerForServers"); len(servers) > 1 {
			if m.link("VirtualMedia") != "" {
				r.seen.add(m.path+"#VirtualMedia", "this manager serves %d systems: its virtual drives cannot be told apart and were left out", len(servers))
			}
			continue
		}
		collections = append(collections, m.link("VirtualMedia"))
	}
	var out []slot
	visited := map[string]bool{"": true}
	for _, c := range collections {
		if visited[same(c)] {
			continue
		}
		visited[same(c)] = true
		for _, s := range r.drivesIn(ctx, c) {
			if !visited[same(s.path)] {
				visited[same(s.path)] = true
				out = append(out, s)
			}
		}
	}
	if s, ok := r.fujitsu(ctx, sys); ok && !slices.ContainsFunc(out, slot.usable) {
		out = append(out, s)
	}
	return out
}

func (r *reader) drivesIn(ctx context.Context, collection string) []slot {
	var out []slot
	for _, n := range r.members(ctx, collection) {
		out = append(out, readSlot(n))
	}
	if slices.ContainsFunc(out, func(s slot) bool { return s.usable() && s.how == byAction }) {
		return out
	}
	if s, ok := r.supermicro(ctx, collection, out); ok {
		return []slot{s}
	}
	return out
}

// slots reads the usable optical drives of a system as they are now, those
// first that are most likely to work, and why others cannot be used. Where
// they are is found once per session.
func (s *Session) slots(ctx context.Context, sys node) (usable []slot, unusable []string, err error) {
	s.slotsMu.Lock()
	before := s.slotsOf[same(sys.path)]
	s.slotsMu.Unlock()
	if len(before) > 0 {
		if usable, err = s.readDrives(ctx, before); !isMissing(err) {
			return usable, nil, err
		}
		usable = nil // a drive is gone, as after a firmware update: look for them anew
	}
	r := s.reader(nil)
	var places []drivePlace
	for _, d := range r.drives(ctx, sys, r.managers(ctx, sys, s.root)) {
		if d.usable() {
			usable = append(usable, d)
		} else {
			unusable = append(unusable, d.path+" "+d.why)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Transient, err, "reading virtual drives was cut short")
	}
	failed := r.failure()
	if failed != nil && len(usable) == 0 {
		return nil, nil, fmt.Errorf("read virtual drives: %w", failed)
	}
	slices.SortStableFunc(usable, bySuitability)
	for _, d := range usable {
		places = append(places, d.drivePlace)
	}
	if failed == nil && len(usable) > 0 {
		s.slotsMu.Lock()
		s.slotsOf[same(sys.path)] = places
		s.slotsMu.Unlock()
	}
	return usable, unusable, nil
}

// bySuitability sorts drives: the standard's action before PATCH before the
// vendors' own, drives that name optical media before those that name nothing,
// and numbered neighbours by number (iDRAC 10 boots from slot 1).
func bySuitability(a, b slot) int {
	rank := func(s slot) int {
		n := map[way]int{byAction: 0, byPatch: 2}[s.how]
		if s.how != byAction && s.how != byPatch {
			n = 4
		}
		if !s.named {
			n++
		}
		return n
	}
	if d := rank(a) - rank(b); d != 0 {
		return d
	}
	x, errX := strconv.Atoi(path.Base(a.path))
	y, errY := strconv.Atoi(path.Base(b.path))
	if errX == nil && errY == nil && path.Dir(a.path) == path.Dir(b.path) {
		return x - y
	}
	return 0
}

// readDrives reads drives again that were found before.
func (s *Session) readDrives(ctx context.Context, places []drivePlace) ([]slot, error) {
	out := make([]slot, len(places))
	errs := make([]error, len(places))
	var group sync.WaitGroup
	for i, p := range places {
		group.Go(func() { out[i], errs[i] = s.readDrive(ctx, p) })
	}
	group.Wait()
	for i, err := range errs {
		if err != nil && isDropped(err) && pause(ctx, max(s.opts.Poll, 200*time.Millisecond)) == nil {
			out[i], err = s.readDrive(ctx, places[i]) // some freeze for a moment when asked side by side
		}
		if err != nil {
			return nil, fmt.Errorf("read virtual drives: %w", err)
		}
	}
	return out, nil
}

func (s *Session) readDrive(ctx context.Context, p drivePlace) (slot, error) {
	switch {
	case p.how == bySupermicro && p.from != "":
		return s.readSupermicro(ctx, p)
	case p.how == byFujitsu:
		return s.readFujitsu(ctx, p)
	}
	n, err := s.readForChange(ctx, p.path)
	if err != nil {
		return slot{}, err
	}
	d := readSlot(n)
	d.drivePlace = p
	return d, nil
}

// MediaState is what one virtual optical drive holds.
type MediaState struct {
	Slot     string `json:"slot"` // URI
	Inserted bool   `json:"inserted"`
	Image    string `json:"image,omitempty"` // as the BMC tells it; some keep only the file name
}
