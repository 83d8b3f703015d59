package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/provision"
	"metalrise.dev/provision/api"
	"metalrise.dev/provision/store"
	"metalrise.dev/tui"
)

// clerk does what the wizard's screens want. It keeps nothing but what the last
// survey said: the site file and the state are the truth, read anew each time.
type clerk struct {
	watcher
	edit     sync.Mutex // one change of the site file at a time
	revision int
	survey   []fleet.Finding
}

func newClerk(o *options) *clerk {
	d := &clerk{watcher: watcher{o: o}}
	d.dir = func() (string, error) {
		f, err := d.load()
		if err != nil {
			return "", err
		}
		return o.stateDir(f.Site().Name)
	}
	return d
}

func (d *clerk) load() (*site.File, error) {
	f, findings := site.Load(d.o.file)
	if f == nil {
		text := "cannot be read"
		if len(findings) > 0 {
			text = findings[0].Text
		}
		return nil, fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, nil, "%s: %s", d.o.file, text)
	}
	return f, nil
}

// Load implements tui.Works.
func (d *clerk) Load(ctx context.Context) (tui.Sheet, error) {
	d.edit.Lock()
	defer d.edit.Unlock()
	return d.sheet(ctx)
}

// sheet gathers all that is known; call it with edit held.
func (d *clerk) sheet(ctx context.Context) (tui.Sheet, error) {
	d.revision++
	s := tui.Sheet{Path: d.o.file, Revision: d.revision, Survey: d.survey}
	if _, err := os.Stat(d.o.file); errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	f, err := d.load()
	if err != nil {
		s.Unreadable = err.Error()
		return s, nil
	}
	s.Exists, s.Typed, s.Site = true, f.Typed(), f.Site()
	s.Findings = append(f.Check(), f.CheckSecrets()...)
	s.Offers = d.offers(s.Typed)
	dir, err := d.o.stateDir(s.Site.Name)
	if err != nil {
		return s, err
	}
	st, err := store.OpenReader(dir)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	defer st.Close()
	return s, d.remember(ctx, &s, f, st)
}

// remember fills in what the state knows of the site.
func (d *clerk) remember(ctx context.Context, s *tui.Sheet, f *site.File, st *store.Store) error {
	found, err := st.Found(ctx)
	if err != nil {
		return err
	}
	servers, err := st.Servers(ctx)
	if err != nil {
		return err
	}
	facts, err := st.Facts(ctx)
	if err != nil {
		return err
	}
	order, err := bmc.Expand(s.Site.BMCs.Addresses, orPort(s.Site.BMCs.Port))
	if err != nil {
		return nil // the finding about the addresses is in the sheet
	}
	for _, address := range order {
		if f, ok := found[address]; ok {
			s.Found = append(s.Found, f)
		}
	}
	for id, v := range servers {
		if slices.Contains(order, v.BMC.Address) {
			s.Servers = append(s.Servers, tui.Known{Server: v, Facts: facts[id]})
		}
	}
	slices.SortFunc(s.Servers, func(a, b tui.Known) int {
		if n := slices.Index(order, a.Server.BMC.Address) - slices.Index(order, b.Server.BMC.Address); n != 0 {
			return n
		}
		return strings.Compare(string(a.Server.ID), string(b.Server.ID))
	})
	if s.Applied, _, err = st.LastConsent(ctx); err != nil {
		return err
	}
	if len(s.Servers) == 0 {
		return nil
	}
	p, err := makePlan(ctx, f, st, false)
	if err == nil {
		s.Plan = &p
		if vip := freeAddress(s.Typed, p); vip != "" {
			s.Offers["cluster.vip"] = vip
		}
	}
	return err
}

// Create implements tui.Works. The fresh file's gateway and name servers lead
// nowhere, and both may be left out, so they are.
func (d *clerk) Create(ctx context.Context, name string) (tui.Sheet, error) {
	d.edit.Lock()
	defer d.edit.Unlock()
	text, err := site.New(name)
	if err != nil {
		return tui.Sheet{}, fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, err, "site name")
	}
	f, _ := site.Read(strings.NewReader(string(text)), d.o.file)
	if err := errors.Join(f.Set("network.gateway", nil), f.Set("network.dns", nil)); err != nil {
		return tui.Sheet{}, err
	}
	out, err := os.OpenFile(d.o.file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return tui.Sheet{}, fmt.Errorf("write site file: %w", err)
	}
	b, err := f.Bytes()
	if err == nil {
		_, err = out.Write(b)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return tui.Sheet{}, fmt.Errorf("write site file: %w", err)
	}
	return d.sheet(ctx)
}

// change edits the site file and gives the sheet that follows, also when the
// value was refused.
func (d *clerk) change(ctx context.Context, edit func(*site.File) error) (tui.Sheet, error) {
	d.edit.Lock()
	defer d.edit.Unlock()
	f, err := d.load()
	if err == nil {
		err = edit(f)
	}
	if err == nil {
		err = f.Write()
	}
	s, err2 := d.sheet(ctx)
	return s, errors.Join(err, err2)
}

// Set implements tui.Works.
func (d *clerk) Set(ctx context.Context, path string, value any) (tui.Sheet, error) {
	return d.change(ctx, func(f *site.File) error {
		text, _ := value.(string)
		switch {
		case path == "access.sshKeys" && text != "":
			keys, err := sshKeys(text)
			if err != nil {
				return err
			}
			return f.Set(path, keys)
		case path == "access.caCertificates" && text != "":
			certificates, err := authorities(text)
			if err != nil {
				return err
			}
			return f.Set(path, certificates)
		case strings.HasPrefix(text, "~/"):
			return f.Set(path, atHome(text))
		}
		return f.Set(path, value)
	})
}

// Override implements tui.Works.
func (d *clerk) Override(ctx context.Context, server fleet.ServerID, field string, value any) (tui.Sheet, error) {
	return d.change(ctx, func(f *site.File) error {
		all := f.Typed().Servers
		for i, o := range all {
			if fleet.ServerID(o.Serial) == server || fleet.NewIdentity(o.UUID, "").ID() == server {
				return f.Set(fmt.Sprintf("servers[%d].%s", i, field), value)
			}
		}
		if value == nil {
			return nil
		}
		by := "serial"
		if id := fleet.NewIdentity(string(server), ""); id.UUID == string(server) {
			by = "uuid"
		}
		return f.Set(fmt.Sprintf("servers[%d]", len(all)), map[string]any{by: string(server), field: value})
	})
}

// Password implements tui.Works.
func (d *clerk) Password(ctx context.Context, secret string) (tui.Sheet, error) {
	return d.change(ctx, func(f *site.File) error {
		if path, ok := strings.CutPrefix(secret, "file:"); ok {
			return f.Set("bmcs.password", map[string]string{"file": atHome(path)})
		}
		if name, ok := strings.CutPrefix(secret, "env:"); ok {
			return f.Set("bmcs.password", map[string]string{"env": name})
		}
		name := f.Site().Name + "-bmc-password"
		// A file beside the site file that holds the password already gets the new
		// one: plans name that file, and go on as they are.
		// A fresh site file names one that is not there.
		if kept := f.Typed().BMCs.Password.File; kept != "" && filepath.Base(kept) == kept {
			if info, err := os.Stat(filepath.Join(filepath.Dir(d.o.file), kept)); err == nil && info.Mode().IsRegular() {
				name = kept
			}
		}
		path := filepath.Join(filepath.Dir(d.o.file), name)
		if err := writeSecret(path, secret); err != nil {
			return fleet.NewFault(fleet.CodeSecretUnreadable, fleet.Invalid, err, "keep the password")
		}
		return f.Set("bmcs.password", map[string]string{"file": name})
	})
}

// writeSecret writes a file for its owner alone, whole or not at all.
func writeSecret(path, secret string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".secret-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(secret + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// Find implements tui.Works.
func (d *clerk) Find(ctx context.Context, each func(done, total int)) (tui.Sheet, error) {
	return d.surveyed(ctx, func(s fleet.Site, st *store.Store) ([]fleet.Finding, error) {
		addresses, err := bmc.Expand(s.BMCs.Addresses, orPort(s.BMCs.Port))
		if err != nil {
			return nil, fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, err, "bmcs.addresses")
		}
		done := 0
		each(0, len(addresses))
		return provision.Discover(ctx, surveyor{door: newDoor(st)}, st, addresses, false, func(fleet.Found) {
			done++
			each(done, len(addresses))
		})
	})
}

// Inspect implements tui.Works.
func (d *clerk) Inspect(ctx context.Context, each func(done, total int)) (tui.Sheet, error) {
	return d.surveyed(ctx, func(s fleet.Site, st *store.Store) ([]fleet.Finding, error) {
		found, err := st.Found(ctx)
		if err != nil {
			return nil, err
		}
		at := endpoints(s, found)
		if len(at) == 0 {
			return nil, fleet.NewFault(fleet.CodeNoServers, fleet.Invalid, nil, "no BMC of this site was found yet")
		}
		done := 0
		each(0, len(at))
		all, err := provision.Inspect(ctx, surveyor{door: newDoor(st)}, st, at, func(provision.Inspected) {
			done++
			each(done, len(at))
		})
		return append(provision.Failures(all), provision.NoIdentity(all)...), err
	})
}

// surveyed opens the state for writing, looks at BMCs and gives the sheet.
func (d *clerk) surveyed(ctx context.Context, look func(fleet.Site, *store.Store) ([]fleet.Finding, error)) (tui.Sheet, error) {
	f, err := d.load()
	if err != nil {
		return tui.Sheet{}, err
	}
	s := f.Site()
	if dir, err := d.o.stateDir(s.Name); err == nil {
		if err := d.freeState(ctx, api.NewClient(dir), s.Name); err != nil {
			return tui.Sheet{}, err
		}
	}
	st, err := d.o.writer(s.Name)
	if err != nil {
		return tui.Sheet{}, err
	}
	findings, err := look(s, st)
	err = errors.Join(err, st.Close())
	d.edit.Lock()
	defer d.edit.Unlock()
	if err == nil {
		d.survey = findings
	}
	out, err2 := d.sheet(context.WithoutCancel(ctx)) // what was read before a person stopped it counts
	return out, errors.Join(err, err2)
}

// Apply implements tui.Works. The plan is made anew: if it is not the one that
// was shown, nothing is done.
func (d *clerk) Apply(ctx context.Context, id string, disks int) (tui.Sheet, error) {
	d.edit.Lock()
	defer d.edit.Unlock()
	err := d.apply(ctx, id, disks)
	s, err2 := d.sheet(ctx)
	return s, errors.Join(err, err2)
}

func (d *clerk) apply(ctx context.Context, id string, disks int) error {
	f, err := d.load()
	if err != nil {
		return err
	}
	dir, err := d.o.stateDir(f.Site().Name)
	if err != nil {
		return err
	}
	client := api.NewClient(dir)
	if err := d.freeState(ctx, client, f.Site().Name); err != nil {
		return err
	}
	if err := d.keepPlan(ctx, f, id, disks); err != nil {
		return err
	}
	if err := d.probe(ctx, f.Site(), dir, id); err != nil {
		return err
	}
	if err := d.o.ensureEngine(ctx, client, dir, id); err != nil {
		return err
	}
	return client.Apply(ctx, fleet.Consent{Plan: id, EraseDisks: disks, By: who(false), At: time.Now()})
}

func (d *clerk) keepPlan(ctx context.Context, f *site.File, id string, disks int) error {
	st, err := d.o.writer(f.Site().Name)
	if err != nil {
		return err
	}
	defer st.Close()
	p, err := makePlan(ctx, f, st, false)
	switch {
	case err != nil:
		return err
	case p.ID != id:
		return fleet.NewFault(fleet.CodePlanUnknown, fleet.Conflict, nil, "the plan is now %.12s, not %.12s as shown; look at it again", p.ID, id)
	case p.Blocked():
		return fleet.NewFault(fleet.CodePlanBlocked, fleet.Invalid, nil, "plan %.12s", p.ID)
	case len(p.ErasedDisks()) != disks:
		return fleet.NewFault(fleet.CodeConsentMismatch, fleet.Denied, nil, "typed %d, but plan %.12s erases %d disks", disks, p.ID, len(p.ErasedDisks()))
	}
	if err := st.KeepPlan(ctx, p); err != nil {
		return err
	}
	_, err = st.Append(ctx, planned(p))
	return err
}

// planned is the journal's line about a plan that was kept.
func planned(p fleet.Plan) fleet.Event {
	return fleet.Event{At: time.Now(), Plan: p.ID, Action: fleet.ActPlan, Edge: fleet.Ended, Outcome: fleet.OK,
		Note: fmt.Sprintf("%d servers, %d disks to erase, %d findings", len(p.Assignments), len(p.ErasedDisks()), len(p.Findings))}
}
