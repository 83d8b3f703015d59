package bmctest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/lab/redfish"
)

func loginRows() []row {
	std := redfish.Standard()
	return []row{
		{18, "few sessions at a time", "one session per BMC; the limit has an error code of its own (BMC-014)", []proof{
			{"503", "", sessionLimit()}, {"RAC0218", "", sessionLimit(redfish.LimitSaidByDell)}, {"400", "", sessionLimit(redfish.LimitSaidAs400)},
			{"one for all", "", oneSession},
		}},
		{19, "sessions that end in the middle", "one new login, then the request again", []proof{{"lost", "", sessionsLost}}},
		{20, "no session service, or only linked from Links", "the link is followed; basic authentication stands in", []proof{
			{"links only", "", works(std, redfish.NoSessionServiceLink)}, {"none", "", works(std, redfish.NoSessions)},
		}},
		{21, "a login that wants an Authorization header, or refuses it", "none is sent; where one is demanded, basic authentication stands in", []proof{
			{"refused", "", avoids(std, redfish.LoginRefusesAuth)}, {"wanted", "", works(std, redfish.LoginWantsBasic)},
			{"wanted, and the password is wrong", "", wrongTwice},
		}},
		{22, "a token without a location, or no token", "used without a log-out; basic authentication stands in", []proof{
			{"no location", "", works(std, redfish.NoSessionLocation)}, {"no token", "", works(std, redfish.NoSessionToken)},
		}},
		{23, "basic authentication switched off", "sessions come first", []proof{{"off", "", avoids(std, redfish.BasicOff)}}},
		{24, "a login that needs a maker's field", "added when the BMC asks for it", []proof{{"domain", "", works(std, redfish.LoginWantsDomain)}}},
		{25, "a password that must be changed first", "an error code of its own (BMC-013) that names the account", []proof{{"named", "", passwordChange}}},
		{26, "a BMC that is not ready yet", "waited for where nothing was done; BMC-006 when it lasts", []proof{
			{"503", "", notReady(redfish.NotReadySYS518)}, {"400", "", notReady(redfish.NotReadySWC0700)}, {"500", "", notReady(redfish.NotReadyRAC0508)},
			{"lasting", "", notReadyForEver},
		}},
	}
}

func sessionLimit(quirks ...redfish.Quirk) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, redfish.Standard().With(quirks...), func(c *redfish.Config) { c.Limits.Sessions = 1 })
		return r.with(t, func(ctx context.Context, s *bmc.Session) error {
			_, err := r.dial(t)
			if err := refused(err, fleet.CodeBMCSessionLimit); err != nil {
				return err
			}
			if err := s.Close(); err != nil {
				return err
			}
			_, err = r.dial(t)
			return err
		})
	}
}

func oneSession(t *testing.T) error {
	r := newRack(t, redfish.Standard(), func(c *redfish.Config) { c.Limits.Sessions = 1 })
	if err := r.cycle(t); err != nil {
		return err
	}
	return want(r.lab.Status().Sessions == 0, "%d sessions left", r.lab.Status().Sessions)
}

func sessionsLost(t *testing.T) error {
	r := newRack(t, redfish.Standard(), nil)
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		for range 3 {
			if err := r.lab.SetFault(redfish.Fault{Kind: redfish.SessionsLost}); err != nil {
				return err
			}
			if err := r.inspects(ctx, s); err != nil {
				return err
			}
		}
		err := s.Close()
		return errors.Join(err, want(r.lab.Status().Sessions == 0, "%d sessions left", r.lab.Status().Sessions))
	})
}

// wrongTwice must not come to a third login, at which many accounts lock.
func wrongTwice(t *testing.T) error {
	r := newRack(t, redfish.Standard().With(redfish.LoginWantsBasic), func(c *redfish.Config) { c.Limits.LockoutThreshold = 3 })
	login := r.login
	login.Password = "not-it"
	_, err := bmc.Dial(t.Context(), login)
	if err := refused(err, fleet.CodeBMCLoginRefused); err != nil {
		return err
	}
	_, err = r.dial(t) // would be refused were the account locked
	return err
}

func passwordChange(t *testing.T) error {
	r := newRack(t, redfish.Standard().With(redfish.PasswordMustChange), nil)
	s, err := r.dial(t)
	if err == nil {
		_, err = s.Inspect(t.Context(), "")
	}
	return refused(err, fleet.CodeBMCPasswordChange, "/redfish/v1/AccountService/Accounts/1")
}

func notReady(q redfish.Quirk) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, redfish.Standard(), nil)
		return r.with(t, func(ctx context.Context, s *bmc.Session) error {
			if err := r.lab.SetFault(redfish.Fault{Kind: redfish.Behave, Quirk: q, Nth: 2, Times: 1}); err != nil {
				return err
			}
			if err := r.inspects(ctx, s); err != nil {
				return err
			}
			return want(len(r.lab.Faults()) == 0, "the fault never acted")
		})
	}
}

func notReadyForEver(t *testing.T) error {
	r := newRack(t, redfish.Standard(), nil)
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		if err := r.lab.SetFault(redfish.Fault{Kind: redfish.Behave, Quirk: redfish.NotReadySWC0700}); err != nil {
			return err
		}
		_, err := s.Look(ctx, r.system())
		if err := refused(err, fleet.CodeBMCBusy, "SWC0700"); err != nil {
			return err
		}
		if k := fleet.KindOf(err); k != fleet.Transient {
			return fmt.Errorf("kind %s of %w", k, err)
		}
		return want(!strings.Contains(err.Error(), "redfish/v1/Systems/Systems"), "odd path: %v", err)
	})
}
