package bmc

import (
	"context"
	"net/http"
	"net/url"
	"path"
	"strings"

	"metalrise.dev/fleet"
)

// The vendors' own ways are taken only where a BMC has no standard one. Their
// shapes are documented by their makers and seen in captures of others; here
// they were proven against emulated BMCs only.

// readVendor finds a vendor's way on a drive that is a resource of its own.
func (s *slot) readVendor() bool {
	oem := s.n.object("Oem")
	for _, at := range []node{s.n.object("Actions"), oem.object("Huawei").object("Actions"), oem.object("xFusion").object("Actions")} {
		if t := localTarget(at.object("#VirtualMedia.VmmControl")); t != "" {
			s.how, s.insert, s.eject = byHuawei, t, t
			return true
		}
	}
	for _, maker := range []string{"Hpe", "Hp"} { // iLO 4 has no other
		a := oem.object(maker).object("Actions")
		for _, prefix := range []string{"#HpeiLOVirtualMedia.", "#HpiLOVirtualMedia."} {
			if t := localTarget(a.object(prefix + "InsertVirtualMedia")); t != "" {
				s.how, s.insert, s.eject = byAction, t, localTarget(a.object(prefix+"EjectVirtualMedia"))
				return true
			}
		}
	}
	if mount, unmount := cfgCD(s.n); mount != "" {
		s.how, s.insert, s.eject = bySupermicro, mount, unmount
		return true
	}
	return false
}

func cfgCD(n node) (mount, unmount string) {
	a := n.object("Actions")
	return localTarget(a.object("#IsoConfig.Mount")), localTarget(a.object("#IsoConfig.UnMount"))
}

// supermicro finds the drive of Supermicro boards up to X11, whose collection
// links to the resource that configures it and has a member while something is
// mounted.
func (r *reader) supermicro(ctx context.Context, collection string, members []slot) (slot, bool) {
	if collection == "" {
		return slot{}, false
	}
	c, err := r.get(ctx, collection) // was read with its members, and noted when it could not be
	if err != nil {
		return slot{}, false
	}
	at := c.object("Oem").object("Supermicro").link("VirtualMediaConfig")
	if at == "" {
		return slot{}, false
	}
	n, err := r.get(ctx, at)
	if err != nil {
		if !isMissing(err) {
			r.seen.add(at, "%v", err)
		}
		return slot{}, false // newer firmware links to it and has it no more
	}
	return mountable(n, collection, members)
}

func mountable(n node, collection string, members []slot) (slot, bool) {
	s := slot{drivePlace: drivePlace{path: n.path, how: bySupermicro, from: collection}, n: n, named: true}
	if s.insert, s.eject = cfgCD(n); s.insert == "" {
		return slot{}, false
	}
	s.shown.Slot = n.path
	for _, m := range members {
		if m.shown.Inserted && strings.HasPrefix(strings.ToUpper(path.Base(m.path)), "CD") {
			s.shown.Inserted = true
			s.shown.Image = firstOf(m.shown.Image, joinHost(n.str("Host"), n.str("Path")))
		}
	}
	return s, true
}

func joinHost(host, file string) string {
	if host == "" || file == "" {
		return ""
	}
	return strings.TrimRight(host, "/") + "/" + strings.TrimLeft(strings.ReplaceAll(file, `\`, "/"), "/")
}

func (s *Session) readSupermicro(ctx context.Context, p drivePlace) (slot, error) {
	n, err := s.readForChange(ctx, p.path)
	if err != nil {
		return slot{}, err
	}
	r := s.reader(nil)
	var members []slot
	for _, m := range r.members(ctx, p.from) {
		members = append(members, readSlot(m))
	}
	if failed := r.failure(); failed != nil {
		return slot{}, failed
	}
	d, ok := mountable(n, p.from, members)
	if !ok {
		return slot{}, fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "%s no longer offers to mount", p.path)
	}
	return d, nil
}

// mountSupermicro tells where the image is, then mounts it. Login fields are
// left out where the BMC refuses empty ones.
func (s *Session) mountSupermicro(ctx context.Context, d slot, u *url.URL) (*answer, error) {
	where := map[string]any{"Host": u.Scheme + "://" + u.Host, "Path": u.RequestURI(), "Username": "", "Password": ""}
	a, err := s.change(ctx, d.n, where)
	if isMalformed(a, err) {
		delete(where, "Username")
		delete(where, "Password")
		a, err = s.change(ctx, d.n, where)
	}
	if err != nil {
		return a, err
	}
	return s.do(ctx, ask{method: http.MethodPost, path: d.insert, body: map[string]any{}, wait: s.opts.InsertTimeout})
}

const vmmControl = "VmmControlType" // "Connect", "Disconnect"

func (s *Session) vmm(ctx context.Context, d slot, what, image string) (*answer, error) {
	body := map[string]any{vmmControl: what}
	if image != "" {
		body["Image"] = image
	}
	return s.do(ctx, ask{method: http.MethodPost, path: d.insert, body: body, wait: s.opts.InsertTimeout})
}
