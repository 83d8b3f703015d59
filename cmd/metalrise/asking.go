package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"metalrise.dev/boot"
	"metalrise.dev/boot/netboot"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/ignition"
	"metalrise.dev/provision"
)

// askingRoad boots machines that nobody planned for from the network, into a live
// system that only looks and asks who it is. Its addresses are the same for all such
// machines. They end askingFor after any of them was told last; the next one is told
// others.
type askingRoad struct {
	rules  []fleet.Rule
	access fleet.Access
	ticket callhome.Ticket
	agent  agentFile
	base   string          // "http://10.0.0.5:8080"
	late   func(time.Time) // hears once that somebody asked after this end; may be nil

	mu    sync.Mutex
	keys  map[string]string // by name of the part
	parts map[string]string // name of the part by key
	until time.Time
	told  bool // late was
}

// askingAgent is the part that is the program; the others are those of any boot
// from the network.
const askingAgent = "metalrise"

// askingFor is for how long an answer to a machine counts: it asks again at each start.
const askingFor = time.Hour

func newAskingRoad(s fleet.Site, ticket callhome.Ticket, agent agentFile, base string) *askingRoad {
	return &askingRoad{rules: s.Rules, access: s.Access, ticket: ticket, agent: agent, base: base}
}

// handOut gives the addresses to a machine: those in force, for longer than before,
// or others when those have ended. The function gives the address of a part.
func (a *askingRoad) handOut(now time.Time) func(name string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !now.Before(a.until) {
		a.keys, a.parts, a.told = map[string]string{}, map[string]string{}, false
		for _, name := range []string{askingAgent, provision.NetLoader, provision.NetScript, provision.NetKernel, provision.NetInitrd, provision.NetPersonal, provision.NetRootfs} {
			key := netboot.NewKey()
			a.keys[name], a.parts[key] = key, name
		}
	}
	a.until = now.Add(askingFor)
	return a.addresses(a.keys)
}

// addresses tells where the parts are that have these keys.
func (a *askingRoad) addresses(keys map[string]string) func(name string) string {
	return func(name string) string { return a.base + boot.MediaPath(keys[name], name) }
}

// open finds what a key opens. Its time over is boot.ErrEnded.
func (a *askingRoad) open(key string, now time.Time) (provision.Resource, bool, error) {
	if a == nil {
		return provision.Resource{}, false, nil
	}
	a.mu.Lock()
	keys, end, ended, first := a.keys, a.until, !now.Before(a.until), !a.told
	name, ok := a.parts[key]
	a.told = a.told || ok && ended
	a.mu.Unlock()
	switch {
	case !ok:
		return provision.Resource{}, false, nil
	case ended:
		if first && a.late != nil {
			a.late(end)
		}
		return provision.Resource{}, false, boot.ErrEnded
	case name == askingAgent:
		return provision.Resource{Kind: provision.AgentProgram}, true, nil
	}
	return provision.Resource{Kind: provision.NetArtefact, Name: name, Address: a.addresses(keys), Ignition: func() ([]byte, error) {
		return ignition.Asking(a.ticket, ignition.Artefact{Path: boot.MediaPath(keys[askingAgent], askingAgent), SHA256: a.agent.sha256, Bytes: a.agent.bytes}, a.access)
	}}, true, nil
}

// guest answers a machine that may match a rule by what its firmware shows, its
// MAC. A rule without one answers nobody here: a machine that only happens to ask
// the network first must start its own system.
func (a *askingRoad) guest(c netboot.Client, now time.Time) (netboot.Guest, bool) {
	if a == nil || !slices.ContainsFunc(a.rules, func(r fleet.Rule) bool {
		return r.Match.MACPrefix != "" && strings.HasPrefix(strings.ToLower(c.MAC), strings.ToLower(r.Match.MACPrefix))
	}) {
		return netboot.Guest{}, false
	}
	address := a.handOut(now)
	g := netboot.Guest{Name: "machine " + c.MAC + " that nobody named", Road: netboot.RoadPXE, Script: address(provision.NetScript), Until: now.Add(askingFor)}
	if c.Class == netboot.ClassHTTP {
		g.Road, g.Image = netboot.RoadUEFIHTTP, address(provision.NetLoader)
	}
	return g, true
}

// addressOn is our own address on an interface, IPv4 first.
func addressOn(device string) (string, error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return "", fmt.Errorf("interface %s: %w", device, err)
	}
	all, err := i.Addrs()
	if err != nil {
		return "", fmt.Errorf("addresses of %s: %w", device, err)
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return p.Addr().String(), nil
		}
	}
	return "", errors.New("interface " + device + " has no IPv4 address")
}

// askingRoad sets up the boot of unnamed machines from the network where the site
// has rules and serves as they come.
func (d *daemon) askingRoad(s fleet.Site, lib *library, secret []byte, ca string, port, plain int) error {
	if !d.unattended || len(s.Rules) == 0 || s.Serving.Netboot == "" {
		return nil
	}
	address := s.Serving.Address
	if address == "" {
		var err error
		if address, err = addressOn(s.Serving.Netboot); err != nil {
			return err
		}
	}
	at := func(scheme string, port int) string {
		return fmt.Sprintf("%s://%s", scheme, net.JoinHostPort(address, fmt.Sprint(port)))
	}
	lib.asking = newAskingRoad(s, provision.AskingTicket(secret, s.Name, at("https", port), ca), lib.agentFile, at("http", plain))
	return nil
}
