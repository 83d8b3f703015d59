package bmctest_test

import (
	"context"
	"fmt"
	"testing"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/lab/redfish"
)

// TestLostReply has the BMC act and then lose its answer: that is uncertain, or a
// success after looking, and never a second act that changes more.
func TestLostReply(t *testing.T) {
	for _, p := range []redfish.Personality{redfish.Standard(), redfish.XCC(), redfish.IBMC(), redfish.MegaRAC(), redfish.IDRAC10()} {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			r := newRack(t, p, nil)
			if err := r.with(t, func(ctx context.Context, s *bmc.Session) error { return r.loses(ctx, s) }); err != nil {
				t.Error(err)
			}
		})
	}
}

func (r *rack) loses(ctx context.Context, s *bmc.Session) error {
	uri := r.system()
	for _, c := range []struct {
		name string
		act  func() error
		is   func(redfish.Status) bool
	}{
		{"insert", func() error { return s.Insert(ctx, uri, liveISO) }, func(st redfish.Status) bool { return len(st.Media) == 1 && st.Media[0].URL == liveISO }},
		{"boot once", func() error { return s.BootOnce(ctx, uri, bmc.Cd) }, func(st redfish.Status) bool { return st.Override == "Once Cd" }},
		{"power on", func() error { return s.Power(ctx, uri, bmc.On) }, func(st redfish.Status) bool { return st.Power == redfish.PowerOn && st.Boots == 1 }},
		{"eject", func() error { return s.Eject(ctx, uri) }, func(st redfish.Status) bool { return len(st.Media) == 0 }},
		{"power off", func() error { return s.Power(ctx, uri, bmc.ForceOff) }, func(st redfish.Status) bool { return st.Power == redfish.PowerOff }},
	} {
		if err := r.lab.SetFault(redfish.Fault{Kind: redfish.LoseReply, Method: "*", Path: "*/Actions/*", Times: 1}); err != nil {
			return err
		}
		if err := r.lab.SetFault(redfish.Fault{Kind: redfish.LoseReply, Method: "PATCH", Path: "*", Times: 1}); err != nil {
			return err
		}
		if err := c.act(); err != nil && fleet.KindOf(err) != fleet.UnsureKind {
			return fmt.Errorf("%s: the reply was lost, yet its kind is %s: %w", c.name, fleet.KindOf(err), err)
		}
		r.lab.ClearFaults()
		if err := c.act(); err != nil { // what is so already is a success after looking
			return fmt.Errorf("%s again: %w", c.name, err)
		}
		if err := within("the end of "+c.name, func() bool { return c.is(r.lab.Status()) }); err != nil {
			return fmt.Errorf("%w: %+v", err, r.lab.Status())
		}
	}
	return nil
}

// TestThirdPOSTAnswers503 is a script: the first two requests pass, the third is
// refused, and a try again does what was asked.
func TestThirdPOSTAnswers503(t *testing.T) {
	r := newRack(t, redfish.Standard(), nil)
	f, err := redfish.ParseFault("answer method=POST path=* status=503 retry-after=1s nth=3 times=1")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.lab.SetFault(f); err != nil {
		t.Fatal(err)
	}
	err = r.with(t, func(ctx context.Context, s *bmc.Session) error { // the login is the first
		var at steps
		at.do("on", func() error { return s.Power(ctx, r.system(), bmc.On) })
		at.do("wait on", func() error { return s.WaitPower(ctx, r.system(), fleet.PowerOn) })
		at.do("off", func() error {
			if err := s.Power(ctx, r.system(), bmc.ForceOff); err != nil && fleet.CodeOf(err) != fleet.CodeBMCBusy {
				return err
			}
			return s.Power(ctx, r.system(), bmc.ForceOff)
		})
		at.do("wait off", func() error { return s.WaitPower(ctx, r.system(), fleet.PowerOff) })
		return at.err
	})
	if err != nil || len(r.lab.Faults()) != 0 {
		t.Errorf("%v, faults left: %v", err, r.lab.Faults())
	}
}
