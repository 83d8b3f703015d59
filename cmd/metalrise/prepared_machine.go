package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
	"metalrise.dev/ignition"
	"metalrise.dev/provision"
)

// ownMachine stands where an engine elsewhere has a BMC: the machine that the
// engine itself runs on. In the live system it is the agent that is switched on
// and off, and what it boots from is its ticket. In the installed system nothing
// is left to be switched.
type ownMachine struct {
	identity func() fleet.Identity
	engine   *atomic.Pointer[provision.Engine]
	agent    agentSwitch // nil in the installed system
	ticket   string      // path

	mu    sync.Mutex
	media string
	once  bool
}

// agentSwitch starts and stops the agent of this machine.
type agentSwitch interface {
	Running(ctx context.Context) (bool, error)
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// Open implements provision.BMCs.
func (m *ownMachine) Open(context.Context, fleet.Endpoint) (provision.BMC, error) { return m, nil }

// Look implements provision.BMC, as the next methods do.
func (m *ownMachine) Look(ctx context.Context) (provision.Sight, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := provision.Sight{Identity: m.identity(), Power: fleet.PowerOn, Media: m.media, BootOnce: m.once}
	if m.agent != nil {
		on, err := m.agent.Running(ctx)
		if err != nil {
			return s, err
		}
		if !on {
			s.Power = fleet.PowerOff
		}
	}
	return s, nil
}

// Insert lays the ticket, which the engine would have put on a medium, where the
// agent looks for it.
func (m *ownMachine) Insert(_ context.Context, at string) error {
	u, err := url.Parse(at)
	if err != nil {
		return errors.New("insert: no address of a medium")
	}
	key, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/m/"), "/")
	r, ok, err := m.engine.Load().Open(key)
	if err != nil {
		return err
	}
	if !ok || r.Kind != provision.LiveMedium {
		return fleet.NewFault(fleet.CodeUnexpected, fleet.Conflict, nil, "insert: the key opens no medium now")
	}
	ticket, err := r.Ignition()
	if err != nil {
		return err
	}
	if err := replaceFile(m.ticket, ticket, 0o600); err != nil {
		return fmt.Errorf("write the agent's ticket: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.media = at
	return nil
}

// Eject forgets what was inserted. The ticket stays where it is: an agent that is
// started again in this boot needs it, and no later boot of the live system finds
// it. The real medium cannot be taken out by a program.
func (m *ownMachine) Eject(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.media, m.once = "", false
	return nil
}

func (m *ownMachine) BootOnce(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.once = true
	return nil
}

func (m *ownMachine) Power(ctx context.Context, to fleet.PowerState) error {
	switch {
	case m.agent == nil && to == fleet.PowerOn:
		return nil
	case m.agent == nil:
		return fleet.NewFault(fleet.CodeUnexpected, fleet.Unsupported, nil, "this machine cannot switch itself off: its engine runs on it")
	case to == fleet.PowerOn:
		return m.agent.Start(ctx)
	}
	return m.agent.Stop(ctx)
}

func (m *ownMachine) Close() error { return nil }

// agentUnit is the agent as a unit of systemd.
type agentUnit struct{}

func (agentUnit) Running(ctx context.Context) (bool, error) {
	err := exec.CommandContext(ctx, "systemctl", "is-active", "--quiet", ignition.AgentService).Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && ctx.Err() == nil { // systemctl(1): not 0 when it is not active
		return false, nil
	}
	return err == nil, err
}

func (agentUnit) Start(ctx context.Context) error { return systemctl(ctx, "start") }
func (agentUnit) Stop(ctx context.Context) error  { return systemctl(ctx, "stop") }

func systemctl(ctx context.Context, verb string) error {
	out, err := exec.CommandContext(ctx, "systemctl", verb, ignition.AgentService).CombinedOutput()
	if err != nil {
		return fleet.NewFault(fleet.CodeAgentFailed, fleet.Transient, err, "%s the agent: %.500s", verb, strings.TrimSpace(string(out)))
	}
	return nil
}

// preparedConfigs is provision's way to package ignition where the engine runs on
// the machine itself. What the machine boots the live system with is its ticket
// alone: all else is on the medium.
type preparedConfigs struct {
	configs
	medium ignition.Medium
}

func (preparedConfigs) Live(_ fleet.Assignment, t callhome.Ticket, _ string) ([]byte, error) {
	return json.Marshal(t)
}

func (c preparedConfigs) Installed(a fleet.Assignment, t callhome.Ticket, agentPath string) ([]byte, []string, error) {
	b, err := ignition.Installed(ignition.InstalledInput{Assignment: a, Ticket: &t, Agent: c.artefact(agentPath), Site: c.site, Medium: &c.medium})
	return b, nil, err
}
