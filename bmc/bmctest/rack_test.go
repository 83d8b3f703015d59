package bmctest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/fake"
	"metalrise.dev/lab/redfish"
)

// liveISO is never loaded: the lab's BMCs here keep addresses only.
const liveISO = "https://192.0.2.9:8443/media/abc/live.iso"

type object = map[string]any

func spec() machine.Spec {
	return machine.Spec{
		Name: "q1", UUID: "5b1f2c3d-0a4b-4c5d-8e6f-7a8b9c0d1e2f", Serial: "QUIRK001", Vendor: "Contoso", Model: "R1",
		Firmware: "uefi", CPUs: 4, MemoryMiB: 8192, Dir: "unused",
		Disks: []machine.Disk{
			{Name: "disk0", Serial: "DSK0", WWN: "5000c500a0b1c2d3", Model: "LABDISK", SizeBytes: 64 << 30},
			{Name: "disk1", Serial: "DSK1", WWN: "5000c500a0b1c2d4", Model: "LABDISK", SizeBytes: 32 << 30, Rotating: true},
		},
		NICs: []machine.NIC{{MAC: "52:54:00:00:00:01", Bridge: "br0"}, {MAC: "52:54:00:00:00:02"}},
	}
}

// rack is one lab BMC and a login for it.
type rack struct {
	lab   *redfish.BMC
	login bmc.Login
}

func newRack(t *testing.T, p redfish.Personality, change func(*redfish.Config)) *rack {
	t.Helper()
	cfg := redfish.Config{
		Listen: "127.0.0.1:0", Username: "admin", Password: "secret", Spec: spec(), Hardware: fake.New(spec(), nil), Personality: p,
		Media: redfish.Lazy, Delays: redfish.Delays{PowerOn: 10 * time.Millisecond, PowerOff: 10 * time.Millisecond},
	}
	if change != nil {
		change(&cfg)
	}
	b, err := redfish.Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return &rack{lab: b, login: bmc.Login{
		Endpoint: fleet.Endpoint{Address: b.Addr(), Fingerprint: b.Fingerprint(), Username: "admin"}, Password: "secret",
		Options: bmc.Options{Poll: 5 * time.Millisecond, Settle: 3 * time.Second, ConnectTimeout: 5 * time.Second, RequestTimeout: 5 * time.Second},
	}}
}

func (r *rack) system() string { return "/redfish/v1/Systems/" + r.lab.SystemID() }

func (r *rack) dial(t *testing.T) (*bmc.Session, error) {
	s, err := bmc.Dial(t.Context(), r.login)
	if err == nil {
		t.Cleanup(func() { _ = s.Close() })
	}
	return s, err
}

// with gives a session to what is to be proven.
func (r *rack) with(t *testing.T, do func(ctx context.Context, s *bmc.Session) error) error {
	s, err := r.dial(t)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	return do(t.Context(), s)
}

// within fails what is not so after a while.
func within(what string, is func() bool) error {
	for range 600 {
		if is() {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("never saw %s", what)
}

// steps does one thing after the other, and names the one that fails.
type steps struct{ err error }

func (s *steps) do(name string, act func() error) {
	if s.err == nil {
		if err := act(); err != nil {
			s.err = fmt.Errorf("%s: %w", name, err)
		}
	}
}

// cycle is all an installation asks of a BMC, from the login to the logout.
func (r *rack) cycle(t *testing.T) error {
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		var at steps
		uri := r.system()
		booted := func(kind machine.BootKind) func() error {
			return func() error {
				return within("a boot from "+string(kind), func() bool { return r.lab.Status().LastBoot.Kind == kind })
			}
		}
		wait := func(want fleet.PowerState) func() error {
			return func() error {
				ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
				defer cancel()
				return s.WaitPower(ctx, uri, want)
			}
		}
		at.do("inspect", func() error { return r.inspects(ctx, s) })
		at.do("insert", func() error { return s.Insert(ctx, uri, liveISO) })
		at.do("boot once", func() error { return s.BootOnce(ctx, uri, bmc.Cd) })
		at.do("power on", func() error { return s.Power(ctx, uri, bmc.On) })
		at.do("wait on", wait(fleet.PowerOn))
		at.do("booted", booted(machine.FromMedia))
		at.do("eject", func() error { return s.Eject(ctx, uri) })
		at.do("empty", func() error { return empty(ctx, s, uri) })
		at.do("restart", func() error { return s.Power(ctx, uri, bmc.Restart) })
		at.do("booted again", booted(machine.FromDisk))
		at.do("power off", func() error { return s.Power(ctx, uri, bmc.ForceOff) })
		at.do("wait off", wait(fleet.PowerOff))
		at.do("log out", s.Close)
		return at.err
	})
}

func empty(ctx context.Context, s *bmc.Session, uri string) error {
	sight, err := s.Look(ctx, uri)
	for _, m := range sight.Media {
		if m.Inserted {
			err = fmt.Errorf("still there: %+v", m)
		}
	}
	return err
}

// inspects wants all facts of the lab machine.
func (r *rack) inspects(ctx context.Context, s *bmc.Session) error {
	f, err := s.Inspect(ctx, r.system())
	if err != nil {
		return err
	}
	return complete(f)
}

func complete(f fleet.Facts) error {
	switch want := spec(); {
	case f.Identity != fleet.NewIdentity(want.UUID, want.Serial):
		return fmt.Errorf("identity %+v", f.Identity)
	case f.MemoryMiB.Or(0) != int64(want.MemoryMiB) || f.CPU.Threads.Or(0) != want.CPUs:
		return fmt.Errorf("memory %v, threads %v", f.MemoryMiB, f.CPU.Threads)
	case macs(f) != want.NICs[0].MAC+" "+want.NICs[1].MAC:
		return fmt.Errorf("ports %q", macs(f))
	case serials(f) != "DSK0 DSK1":
		return fmt.Errorf("disks %q", serials(f))
	}
	return nil
}

func macs(f fleet.Facts) string {
	var out []string
	for _, n := range f.NICs {
		out = append(out, n.MAC)
	}
	return strings.Join(out, " ")
}

func serials(f fleet.Facts) string {
	var out []string
	for _, d := range f.Disks {
		out = append(out, d.Serial)
	}
	return strings.Join(out, " ")
}

// avoids proves that a whole installation goes through without ever doing what
// the quirk stands against; lab/redfish shows that it would be refused.
func avoids(p redfish.Personality, quirk redfish.Quirk) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, p.With(quirk), nil)
		if err := r.cycle(t); err != nil {
			return err
		}
		return want(!r.lab.Acted(quirk), "%s was met", quirk)
	}
}

// works proves that a whole installation goes through, and that it met the quirks.
func works(p redfish.Personality, quirks ...redfish.Quirk) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, p.With(quirks...), nil)
		if err := r.cycle(t); err != nil {
			return err
		}
		for _, h := range redfish.Quirks() {
			if slices.Contains(quirks, h.Quirk) && !h.Start && !r.lab.Acted(h.Quirk) {
				return fmt.Errorf("it works, but %s was never met", h.Quirk)
			}
		}
		return nil
	}
}

func worksAs(p redfish.Personality, change func(*redfish.Config)) func(*testing.T) error {
	return func(t *testing.T) error { return newRack(t, p, change).cycle(t) }
}

// seen inspects a machine whose resources were reshaped.
func seen(reshape func(path string, body object) object, check func(fleet.Facts) error) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, redfish.Standard(), func(c *redfish.Config) { c.Reshape = reshape })
		return r.with(t, func(ctx context.Context, s *bmc.Session) error {
			f, err := s.Inspect(ctx, r.system())
			if err != nil {
				return err
			}
			return check(f)
		})
	}
}

// edit changes the resources whose path ends so.
func edit(suffix string, change func(body object)) func(string, object) object {
	return func(path string, body object) object {
		if body != nil && strings.HasSuffix(path, suffix) {
			change(body)
		}
		return body
	}
}

// gone takes away the resources whose path ends so.
func gone(suffix string) func(string, object) object {
	return func(path string, body object) object {
		if strings.HasSuffix(path, suffix) {
			return nil
		}
		return body
	}
}

// refused wants an error of this code and kind, with these words in it.
func refused(err error, code fleet.Code, words ...string) error {
	if err == nil {
		return errors.New("it succeeded")
	}
	if got := fleet.CodeOf(err); got != code {
		return fmt.Errorf("code %s, want %s: %w", got, code, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			return fmt.Errorf("%q is not in the text: %w", w, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		return errors.New("the password is in the text of the error")
	}
	return nil
}

func want(is bool, format string, args ...any) error {
	if is {
		return nil
	}
	return fmt.Errorf(format, args...)
}
