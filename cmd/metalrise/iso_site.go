package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"metalrise.dev/agent"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/ignition"
	"metalrise.dev/images"
	"metalrise.dev/iso"
	"metalrise.dev/provision"
)

// rackMedium is what the medium of a whole site says of its servers. Whoever has
// the medium can read it.
type rackMedium struct {
	Plan    string       `json:"plan"`
	Name    string       `json:"name"` // of the site
	Servers []rackServer `json:"servers"`
	// Ask lets a machine ask that is none of them, where the site has rules.
	Ask *callhome.Ticket `json:"ask,omitempty"`
}

// rackServer is one of them.
type rackServer struct {
	Server   fleet.ServerID      `json:"server"`
	Identity fleet.Identity      `json:"identity"`
	Hostname string              `json:"hostname"`
	Ticket   callhome.Ticket     `json:"ticket"` // to ask with
	Files    []ignition.LiveFile `json:"files"`
}

// buildSiteISO makes the medium for all servers of the latest plan that are still
// to be installed.
func (o *options) buildSiteISO(ctx context.Context, b *isoBuild) error {
	s, _, err := o.loadSite()
	if err != nil {
		return err
	}
	dir, err := o.stateDir(s.Name)
	if err != nil {
		return err
	}
	p, _, err := findPlan(ctx, dir, "", time.Now())
	if err != nil && (fleet.CodeOf(err) != fleet.CodePlanUnknown || len(s.Rules) == 0) {
		return err
	}
	if p.Blocked() {
		o.printFindings(p.Findings)
		return fleet.NewFault(fleet.CodePlanBlocked, fleet.Invalid, nil, "plan %.12s", p.ID)
	}
	x := mediumIndex{Made: time.Now().UTC().Truncate(time.Second), By: who(false), Image: p.Image}
	if x.Rack, err = o.rackOf(ctx, s, p); err != nil {
		return err
	}
	release, err := images.Load(ctx, s.Image)
	if err != nil {
		return err
	}
	if len(x.Rack.Servers) > 0 && release.ISO.SHA256 != p.Image.ISOSHA256 {
		return fleet.NewFault(fleet.CodePlanStale, fleet.Conflict, nil, "plan %.12s was made for release %s %s, and the site's image is another one now", p.ID, p.Image.Stream, p.Image.Version)
	}
	v := images.Verifier{Cache: filepath.Join(dir, "verified")}
	if _, err := v.Verify(ctx, release.ISO, nil); err != nil {
		return err
	}
	parts := &buildParts{access: s.Access}
	if parts.base, err = iso.OpenVerified(release.ISO.Path, release.ISO.SHA256); err != nil {
		return err
	}
	size, err := parts.write(ctx, b.to.path, &x)
	if err != nil {
		return fmt.Errorf("make %s: %w", b.to.path, err)
	}
	if o.output == "json" {
		ids := []fleet.ServerID{}
		for _, r := range x.Rack.Servers {
			ids = append(ids, r.Server)
		}
		return o.json(map[string]any{"path": b.to.path, "bytes": size, "build": x.Build, "plan": p.ID, "servers": ids})
	}
	o.printf("%s: %s, medium %s, for %d servers of plan %.12s\n", b.to.path, bytesText(size), x.Build, len(x.Rack.Servers), p.ID)
	o.printf("then: metalrise serve, and start the servers from it\n")
	return nil
}

// rackOf lists the servers with what each of them needs to reach the engine.
func (o *options) rackOf(ctx context.Context, s fleet.Site, p fleet.Plan) (*rackMedium, error) {
	if s.Serving.Port == 0 {
		return nil, fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, nil, "serving.port is not set: the medium names the port that the engine answers on, so it must not change")
	}
	st, err := o.writer(s.Name)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	authority, err := (&daemon{ctx: ctx, store: st}).authority(s.Name)
	if err != nil {
		return nil, err
	}
	secret, err := st.Secret("tokens")
	if err != nil {
		return nil, err
	}
	out := &rackMedium{Plan: p.ID, Name: s.Name, Servers: []rackServer{}}
	way := routes{fixed: s.Serving.Address, port: s.Serving.Port}
	for _, a := range p.Assignments {
		if a.Role == fleet.Excluded || a.Kept != "" {
			continue
		}
		address, err := netip.ParsePrefix(a.Network.Address)
		if err != nil {
			return nil, fmt.Errorf("address of %s: %w", a.Hostname, err)
		}
		url, err := way.Towards(address.Addr().String())
		if err != nil {
			return nil, err
		}
		r := rackServer{Server: a.Server, Identity: a.Identity, Hostname: a.Hostname, Ticket: provision.AskingTicket(secret, s.Name, url, string(authority.PEM()))}
		if r.Files, err = ignition.LiveFiles(a); err != nil {
			return nil, err
		}
		out.Servers = append(out.Servers, r)
	}
	if len(s.Rules) > 0 {
		first, err := netip.ParsePrefix(s.Network.FirstAddress)
		if err != nil {
			return nil, fmt.Errorf("network.firstAddress: %w", err)
		}
		url, err := way.Towards(first.Addr().String())
		if err != nil {
			return nil, err
		}
		ticket := provision.AskingTicket(secret, s.Name, url, string(authority.PEM()))
		out.Ask = &ticket
	}
	if len(out.Servers) == 0 && out.Ask == nil {
		return nil, fleet.NewFault(fleet.CodePlanUnknown, fleet.Invalid, nil, "plan %.12s has no server left to be installed", p.ID)
	}
	return out, nil
}

// find gives the one server that a machine is.
func (r *rackMedium) find(id fleet.Identity) (rackServer, bool) {
	var found []rackServer
	for _, s := range r.Servers {
		if s.Identity.Match(id) {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		return rackServer{}, false
	}
	return found[0], true
}

// oneOf runs in the live system of a site's medium: it finds the machine among the
// servers and has the agent ask for it.
func (o *options) oneOf(ctx context.Context, m *medium) error {
	id := agent.NewHost("/").Identity()
	self, ok := m.Rack.find(id)
	switch {
	case !ok && m.Rack.Ask != nil:
		o.tell("medium %s of site %s has %d servers, and this machine (serial %s, uuid %s) is none of them. It asks the engine, which knows rules for machines; it is only looked at",
			m.Build, m.Rack.Name, len(m.Rack.Servers), orDash(id.Serial), orDash(id.UUID))
		self = rackServer{Ticket: *m.Rack.Ask, Files: []ignition.LiveFile{ignition.AnyNetwork()}}
	case !ok:
		o.tell("medium %s of site %s has %d servers, and this machine (serial %s, uuid %s) is none of them. Nothing is done to it; take the medium out",
			m.Build, m.Rack.Name, len(m.Rack.Servers), orDash(id.Serial), orDash(id.UUID))
		return nil
	default:
		o.tell("this machine is %s, %s in plan %.12s of site %s", self.Server, self.Hostname, m.Rack.Plan, m.Rack.Name)
	}
	if err := self.settle(ctx); err != nil {
		return err
	}
	return (agentUnit{}).Start(ctx)
}

// settle gives the machine its planned network and the ticket to ask with.
func (s rackServer) settle(ctx context.Context) error {
	changed := false
	for _, f := range s.Files {
		if !strings.HasPrefix(f.Path, "/etc/") || filepath.Clean(f.Path) != f.Path {
			return fmt.Errorf("the medium wants to write %.80q, which is no setting", f.Path)
		}
		if old, err := os.ReadFile(f.Path); err == nil && string(old) == f.Text {
			continue
		}
		changed = true
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
			return err
		}
		if err := replaceFile(f.Path, []byte(f.Text), os.FileMode(f.Mode&0o777)); err != nil {
			return err
		}
	}
	if changed {
		out, err := exec.CommandContext(ctx, "systemctl", "restart", "NetworkManager.service").CombinedOutput()
		if err != nil {
			return fmt.Errorf("take the planned network: %w: %.300s", err, out)
		}
	}
	ticket, err := marshalText(s.Ticket)
	if err != nil {
		return err
	}
	return replaceFile(ticketPath, []byte(ticket), 0o600)
}
