package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// Kinds of things in the state.
const (
	kindFound  = "found"       // by address
	kindServer = "server"      // by place
	kindFacts  = "facts"       // by place; out-of-band
	kindInBand = "facts-agent" // by server id; in-band
	kindPlan   = "plan"        // by plan id
	kindMeta   = "meta"        // by name
	kindOpened = "bmc-session" // by address and location
	kindSweep  = "sweep"       // by digest of its addresses
	kindOther  = "sweep-other" // by that, and address
)

// KeepFound keeps what answers at an address.
func (s *Store) KeepFound(ctx context.Context, f fleet.Found) error {
	return s.Put(ctx, kindFound, f.Address, f)
}

// Found lists what answered, by address.
func (s *Store) Found(ctx context.Context) (map[string]fleet.Found, error) {
	return All[fleet.Found](ctx, s, kindFound)
}

// KeepServers keeps the servers behind one BMC with what it told of them, in
// place of all that were kept for its address before. facts has the facts of the
// server at the same index.
func (s *Store) KeepServers(ctx context.Context, address string, servers []fleet.Server, facts []fleet.Facts) error {
	before, err := s.places(ctx, address)
	if err != nil {
		return err
	}
	b := &batch{}
	for _, place := range before {
		b.things = append(b.things, thing{kind: kindServer, key: place}, thing{kind: kindFacts, key: place})
	}
	for i, v := range servers {
		for kind, value := range map[string]any{kindServer: v, kindFacts: facts[i]} {
			body, err := json.Marshal(value)
			if err != nil {
				return fmt.Errorf("encode %s %s: %w", kind, v.ID, err)
			}
			b.things = append(b.things, thing{kind: kind, key: place(v), body: body})
		}
	}
	return s.submit(ctx, b)
}

// places lists the places kept for one address.
func (s *Store) places(ctx context.Context, address string) ([]string, error) {
	rows, err := s.db.QueryContext(ctx, "SELECT key FROM things WHERE kind = ? AND key >= ? AND key < ?", kindServer, address+" ", address+"!")
	if err != nil {
		return nil, fmt.Errorf("read servers at %s: %w", address, err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return nil, fmt.Errorf("read servers at %s: %w", address, err)
		}
		out = append(out, key)
	}
	return out, rows.Err()
}

// place is where a server stands. Servers are kept by place and not by id, so
// that two which show the same serial do not hide each other.
func place(v fleet.Server) string { return v.BMC.Address + " " + v.BMC.SystemURI }

// Servers lists the enrolled servers by their place.
func (s *Store) Servers(ctx context.Context) (map[string]fleet.Server, error) {
	return All[fleet.Server](ctx, s, kindServer)
}

// Facts lists what BMCs told of servers, by the same places.
func (s *Store) Facts(ctx context.Context) (map[string]fleet.Facts, error) {
	return All[fleet.Facts](ctx, s, kindFacts)
}

// OutOfBand reads what the BMC told of the server with this identity; false when
// none, or more than one, is kept.
func (s *Store) OutOfBand(ctx context.Context, id fleet.Identity) (fleet.Facts, bool, error) {
	servers, err := s.Servers(ctx)
	if err != nil {
		return fleet.Facts{}, false, err
	}
	var found []string
	for place, v := range servers {
		if id.Match(v.Identity) {
			found = append(found, place)
		}
	}
	if len(found) != 1 {
		return fleet.Facts{}, false, nil
	}
	var f fleet.Facts
	ok, err := s.Get(ctx, kindFacts, found[0], &f)
	return f, ok, err
}

// KeepFacts keeps what an agent saw of a server.
func (s *Store) KeepFacts(ctx context.Context, server fleet.ServerID, f fleet.Facts) error {
	return s.Put(ctx, kindInBand, string(server), f)
}

// InBand lists what agents saw of servers, by server id.
func (s *Store) InBand(ctx context.Context) (map[string]fleet.Facts, error) {
	return All[fleet.Facts](ctx, s, kindInBand)
}

// KeepPlan keeps a plan and remembers it as the latest.
func (s *Store) KeepPlan(ctx context.Context, p fleet.Plan) error {
	if err := s.Put(ctx, kindPlan, p.ID, p); err != nil {
		return err
	}
	return s.Put(ctx, kindMeta, "latest-plan", p.ID)
}

// Plan reads a plan; false when there is none with that id.
func (s *Store) Plan(ctx context.Context, id string) (fleet.Plan, bool, error) {
	var p fleet.Plan
	ok, err := s.Get(ctx, kindPlan, id, &p)
	return p, ok, err
}

// LatestPlan reads the plan that was made last; false when there is none.
func (s *Store) LatestPlan(ctx context.Context) (fleet.Plan, bool, error) {
	var id string
	if ok, err := s.Get(ctx, kindMeta, "latest-plan", &id); err != nil || !ok {
		return fleet.Plan{}, false, err
	}
	return s.Plan(ctx, id)
}

// ServingPort reads the port on which machines were told to call us; 0 when
// none was chosen yet. A restarted engine must serve on the same one.
func (s *Store) ServingPort(ctx context.Context) (int, error) {
	var port int
	_, err := s.Get(ctx, kindMeta, "serving-port", &port)
	return port, err
}

// KeepServingPort remembers that port.
func (s *Store) KeepServingPort(ctx context.Context, port int) error {
	return s.Put(ctx, kindMeta, "serving-port", port)
}

// PlainPort reads the port on which BMCs were told to fetch media without TLS; 0
// when none was chosen yet.
func (s *Store) PlainPort(ctx context.Context) (int, error) {
	var port int
	_, err := s.Get(ctx, kindMeta, "plain-port", &port)
	return port, err
}

// KeepPlainPort remembers that port.
func (s *Store) KeepPlainPort(ctx context.Context, port int) error {
	return s.Put(ctx, kindMeta, "plain-port", port)
}

// PlanByPrefix reads the only plan whose id begins with prefix; false when there
// is none or more than one.
func (s *Store) PlanByPrefix(ctx context.Context, prefix string) (fleet.Plan, bool, error) {
	all, err := All[fleet.Plan](ctx, s, kindPlan)
	if err != nil {
		return fleet.Plan{}, false, err
	}
	var found []fleet.Plan
	for id, p := range all {
		if strings.HasPrefix(id, prefix) {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return fleet.Plan{}, false, nil
	}
	return found[0], true, nil
}

// LastConsent gives the id of the plan that a person allowed last, and when; ""
// when there is none or it was taken back.
func (s *Store) LastConsent(ctx context.Context) (plan string, at time.Time, err error) {
	var body []byte
	err = s.db.QueryRowContext(ctx, `SELECT body FROM events WHERE json_extract(body, '$.action') IN (?, ?) ORDER BY seq DESC LIMIT 1`,
		string(fleet.ActConsent), string(fleet.ActWithdraw)).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return "", time.Time{}, nil
	}
	if err != nil {
		return "", time.Time{}, fmt.Errorf("read last consent: %w", err)
	}
	var e fleet.Event
	if err := json.Unmarshal(body, &e); err != nil {
		return "", time.Time{}, fmt.Errorf("decode last consent: %w", err)
	}
	if e.Action == fleet.ActWithdraw {
		return "", e.At, nil
	}
	return e.Plan, e.At, nil
}

// Opened is a session on a BMC that is not known to be closed.
type Opened struct {
	Endpoint fleet.Endpoint `json:"endpoint"`
	Location string         `json:"location"` // path on the BMC
	At       time.Time      `json:"at"`
}

func (o Opened) key() string { return o.Endpoint.Address + " " + o.Location }

// KeepOpened writes down a session, so that whoever comes after a crash can
// close it.
func (s *Store) KeepOpened(ctx context.Context, o Opened) error {
	return s.Put(ctx, kindOpened, o.key(), o)
}

// DropOpened forgets a session that was closed.
func (s *Store) DropOpened(ctx context.Context, o Opened) error {
	return s.Remove(ctx, kindOpened, o.key())
}

// AllOpened lists the sessions that are not known to be closed, by key.
func (s *Store) AllOpened(ctx context.Context) (map[string]Opened, error) {
	return All[Opened](ctx, s, kindOpened)
}

// sweep is how far a sweep came.
type sweep struct {
	Asked   int   `json:"asked"`
	Missing []int `json:"missing"`
}

// KeepSweep remembers that the first asked addresses of a sweep were asked,
// except those at the places of missing. 0 forgets the sweep.
func (s *Store) KeepSweep(ctx context.Context, name string, asked int, missing []int) error {
	if asked == 0 {
		others, err := s.Others(ctx, name)
		if err != nil {
			return err
		}
		b := &batch{things: []thing{{kind: kindSweep, key: name}}}
		for address := range others {
			b.things = append(b.things, thing{kind: kindOther, key: name + " " + address})
		}
		return s.submit(ctx, b)
	}
	return s.Put(ctx, kindSweep, name, sweep{asked, missing})
}

// Sweep reads what KeepSweep remembered; 0 when there is nothing.
func (s *Store) Sweep(ctx context.Context, name string) (asked int, missing []int, err error) {
	var v sweep
	_, err = s.Get(ctx, kindSweep, name, &v)
	return v.Asked, v.Missing, err
}

// KeepOther keeps what answers in a sweep and is no BMC that can be logged in
// to, until the sweep is forgotten.
func (s *Store) KeepOther(ctx context.Context, name string, f fleet.Found) error {
	return s.Put(ctx, kindOther, name+" "+f.Address, f)
}

// Others lists what KeepOther kept, by address.
func (s *Store) Others(ctx context.Context, name string) (map[string]fleet.Found, error) {
	all, err := All[fleet.Found](ctx, s, kindOther)
	if err != nil {
		return nil, err
	}
	out := map[string]fleet.Found{}
	for key, f := range all {
		if strings.HasPrefix(key, name+" ") {
			out[f.Address] = f
		}
	}
	return out, nil
}
