package bmc

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"metalrise.dev/fleet"
)

// Eject empties every virtual optical drive of the server. Nothing to eject is
// a success. A system that runs from the medium may not survive it: switch the
// server off first where that matters. An uncertain fault means that Look must
// tell.
func (s *Session) Eject(ctx context.Context, systemURI string) error {
	sys, err := s.system(ctx, systemURI)
	if err != nil {
		return s.wrap("eject media at", err)
	}
	slots, _, err := s.slots(ctx, sys)
	if err != nil {
		return s.wrap("eject media at", err)
	}
	return s.wrap("eject media at", s.emptyAll(ctx, slots))
}

// emptyAll ejects what the drives hold. One drive may be shown under the system
// and under its manager: after an eject the next is read anew.
func (s *Session) emptyAll(ctx context.Context, slots []slot) error {
	var errs []error
	ejected := false
	for _, sl := range slots {
		if !sl.shown.Inserted {
			continue
		}
		if ejected {
			now, err := s.readDrive(ctx, sl.drivePlace)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			if sl = now; !sl.shown.Inserted {
				continue
			}
		}
		errs = append(errs, s.empty(ctx, sl))
		ejected = true
	}
	return firstFault(errs)
}

// firstFault joins errors so that an uncertain one comes first: it decides what
// the caller must do.
func firstFault(errs []error) error {
	slices.SortStableFunc(errs, func(a, b error) int {
		unsure := func(err error) int {
			if err != nil && fleet.KindOf(err) == fleet.UnsureKind {
				return 0
			}
			return 1
		}
		return unsure(a) - unsure(b)
	})
	return errors.Join(errs...)
}

// empty ejects one drive and waits until it shows so.
func (s *Session) empty(ctx context.Context, sl slot) error {
	a, err := s.sendEject(ctx, sl)
	if err == nil {
		err = s.awaitTask(ctx, a)
	}
	if err != nil {
		if fleet.KindOf(err) == fleet.UnsureKind || fleet.CodeOf(err) == fleet.CodeBMCLoginRefused {
			return err
		}
		if now, look := s.readDrive(ctx, sl.drivePlace); look == nil && !now.shown.Inserted {
			return nil // it was empty already
		}
		return err
	}
	waited := s.until(ctx, func() (bool, error) {
		now, err := s.readDrive(ctx, sl.drivePlace)
		return err == nil && !now.shown.Inserted, err
	})
	if waited != nil {
		return fleet.NewFault(fleet.CodeBMCRejected, fleet.Transient, waited, "%s accepted to eject but still shows the medium", sl.path)
	}
	return nil
}

func (s *Session) sendEject(ctx context.Context, sl slot) (*answer, error) {
	switch {
	case sl.how == byHuawei:
		return s.vmm(ctx, sl, "Disconnect", "")
	case sl.how == byFujitsu:
		return s.fts(ctx, sl, "DisconnectCD")
	case sl.eject != "":
		// An empty object, because iLO refuses an empty body; others refuse the object.
		a, err := s.do(ctx, ask{method: http.MethodPost, path: sl.eject, body: map[string]any{}})
		if a != nil && (isMalformed(a, err) || a.status == http.StatusUnsupportedMediaType) {
			if bare, again := s.do(ctx, ask{method: http.MethodPost, path: sl.eject}); again == nil {
				return bare, nil
			}
		}
		return a, err
	}
	a, err := s.change(ctx, sl.n, map[string]any{"Image": nil, "Inserted": false})
	if isMalformed(a, err) {
		a, err = s.change(ctx, sl.n, map[string]any{"Image": nil})
	}
	return a, err
}
