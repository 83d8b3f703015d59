//go:debug x509negativeserial=1

package bmctest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/bmc"
	"metalrise.dev/fleet"
	"metalrise.dev/lab/redfish"
)

func connectionRows() []row {
	std := redfish.Standard()
	named := func(id string) func(*testing.T) error {
		p := std
		p.SystemID = id
		return works(p)
	}
	return []row{
		{1, "system ids of any form", "addresses are taken from links, never made up", []proof{
			{"serial", "", named("")}, {"dots", "", named("System.Embedded.1")}, {"self", "", named("Self")},
			{"uuid", "", named("5b1f2c3d-0a4b-4c5d-8e6f-7a8b9c0d1e2f")},
		}},
		{2, "several systems behind one BMC", "each is a server of its own; without a name none is chosen (BMC-009)", []proof{{"two servers", "", twoServers}}},
		{3, "accelerators, DPUs and switches listed as systems", "listed as what they are, never driven", []proof{{"no reset action", "", accelerator("Actions", nil)}, {"type dpu", "", accelerator("SystemType", "DPU")}}},
		{4, "a root without Systems (enclosure controllers)", "recognised without a login", []proof{{"probe", "", enclosure}}},
		{5, "redirects between the forms of a path, also of the login", "followed on the same host with method and body kept", []proof{
			{"root wants a slash", "", avoids(std, redfish.RootWantsSlash)}, {"root wants none", "", works(std, redfish.RootWantsNoSlash)},
			{"308 for all paths", "", works(std, redfish.PathsWantSlash)}, {"login redirected", "", works(std, redfish.LoginRedirectedAsGET)},
		}},
		{6, "a redirect to another port", "not followed with credentials; the error names the place", []proof{{"moved", "", movedPort}}},
		{7, "Redfish of before the standard, /rest/v1 only", "recognised as legacy", []proof{{"probe", "", legacyRest}}},
		{8, "HTTP only, or another port than 443", "any port is taken; a service without TLS is named as such and given no password, unless its address was typed with http://", []proof{
			{"other port", "", works(std)}, {"plain http", "", plainHTTP}, {"plain http, typed so", "", typedHTTP},
		}},
		{9, "RSA key exchange only", "an error code of its own (BMC-016), and a way through for one BMC that a person allows", legacyTLS(redfish.RSAKeyExchangeOnly, fleet.CodeBMCTLSCipher)},
		{10, "TLS 1.0 only", "an error code of its own (BMC-017), and a way through for one BMC that a person allows", legacyTLS(redfish.TLS10Only, fleet.CodeBMCTLSVersion)},
		{11, "a certificate with a negative serial number", "an error code of its own (BMC-018), and a way through for one BMC that a person allows", legacyTLS(redfish.NegativeSerial, fleet.CodeBMCTLSSerial)},
		{12, "self-signed or expired certificates, clocks in 1970", "the pin decides, not the calendar", []proof{
			{"expired", "", works(std, redfish.ExpiredCertificate)}, {"another certificate", "", otherPin},
		}},
		{13, "JSON that is slightly broken", "mended where it is known how", []proof{
			{"etag quotes", "", works(std, redfish.BrokenETagQuotes)}, {"escaped slashes", "", works(std, redfish.EscapedSlashes)},
			{"byte order mark", "", works(std, redfish.ByteOrderMark)},
		}},
		{14, "answers packed unasked, ETags marked -gzip", "unpacked within the bound, If-Match without the mark", []proof{
			{"packed", "", works(std, redfish.GzipUnasked)},
			{"packed and If-Match wanted", "", works(strict(), redfish.GzipUnasked)},
			{"unpacks without end", "", gzipBomb},
		}},
		{15, "kept connections that die without a word", "reads are repeated; a change is looked at", []proof{{"dies after each answer", "", dropsKept}}},
		{16, "freezing under parallel requests", "one request at a time where it is known or seen", []proof{
			{"one at a time", "", freezes(1)}, {"found out", "", freezingInspect},
			{"found out while driving", "", freezes(0)},
		}},
		{17, "answers that take long", "connecting and answering have limits of their own", []proof{{"slow", "", slowAnswers}}},
	}
}

// strict is a standard BMC that wants If-Match.
func strict() redfish.Personality {
	p := redfish.Standard()
	p.Match = redfish.MatchRequired
	return p
}

// second adds a system with these properties beside the lab's own.
func second(change func(body object)) func(string, object) object {
	return func(path string, body object) object {
		const at = "/redfish/v1/Systems/Second"
		if path == at {
			out := object{"@odata.id": at, "Id": "Second", "SerialNumber": "QUIRK002", "PowerState": "Off", "SystemType": "Physical",
				"Actions": object{"#ComputerSystem.Reset": object{"target": at + "/Actions/ComputerSystem.Reset"}}}
			change(out)
			return out
		}
		if strings.HasSuffix(path, "/Systems") && body != nil {
			list := body["Members"].([]object)
			if len(list) == 1 {
				body["Members"] = append(list, object{"@odata.id": at})
			}
		}
		return body
	}
}

func twoServers(t *testing.T) error {
	r := newRack(t, redfish.Standard(), func(c *redfish.Config) { c.Reshape = second(func(object) {}) })
	return r.with(t, func(ctx context.Context, s *bmc.Session) error {
		systems, err := s.Systems(ctx)
		if err != nil || len(systems) != 2 || systems[0].Kind != bmc.IsServer || systems[1].Kind != bmc.IsServer {
			return fmt.Errorf("systems %+v, %w", systems, err)
		}
		_, err = s.Inspect(ctx, "")
		if err := refused(err, fleet.CodeBMCManySystems); err != nil {
			return err
		}
		return r.inspects(ctx, s)
	})
}

func accelerator(key string, value any) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, redfish.Standard(), func(c *redfish.Config) {
			c.Reshape = second(func(b object) {
				delete(b, key)
				if value != nil {
					b[key] = value
				}
			})
		})
		return r.with(t, func(ctx context.Context, s *bmc.Session) error {
			systems, err := s.Systems(ctx)
			if err != nil || len(systems) != 2 || systems[1].Kind == bmc.IsServer {
				return fmt.Errorf("systems %+v, %w", systems, err)
			}
			f, err := s.Inspect(ctx, "")
			return errors.Join(err, complete(f))
		})
	}
}

func enclosure(t *testing.T) error {
	r := newRack(t, redfish.Standard(), func(c *redfish.Config) {
		c.Reshape = edit("/redfish/v1", func(b object) { delete(b, "Systems") })
	})
	f, err := bmc.Probe(t.Context(), r.lab.Addr())
	return errors.Join(err, want(f.What == bmc.EnclosureController, "found %+v", f))
}

func movedPort(t *testing.T) error {
	r := newRack(t, redfish.Standard().With(redfish.MovedPort), nil)
	_, err := r.dial(t)
	for _, line := range r.lab.Strayed() {
		if strings.Contains(line, "Authorization") || strings.Contains(line, "X-Auth-Token") || strings.HasPrefix(line, "POST") {
			return fmt.Errorf("a secret went to the old port: %s", line)
		}
	}
	if err == nil {
		return r.cycle(t)
	}
	return refused(err, fleet.CodeOf(err), "redirects to", "127.0.0.1:")
}

func legacyRest(t *testing.T) error {
	login := served(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/rest/v1" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(`{"Type":"ServiceRoot.0.9.5","links":{"Systems":{"href":"/rest/v1/Systems"}}}`))
	}))
	f, err := bmc.Probe(t.Context(), login.Endpoint.Address)
	return want(f.What == bmc.LegacyRedfish, "found %+v, %v", f, err)
}

func plainHTTP(t *testing.T) error {
	r := newRack(t, redfish.Standard().With(redfish.PlainHTTP), nil)
	_, err := r.dial(t)
	if err == nil {
		return errors.New("a password went over a connection without TLS")
	}
	return want(strings.Contains(strings.ToLower(err.Error()), "http"), "the error does not say what answers: %v", err)
}

func typedHTTP(t *testing.T) error {
	r := newRack(t, redfish.Standard().With(redfish.PlainHTTP), nil)
	r.login.Endpoint.Address, r.login.Endpoint.Fingerprint = "http://"+r.login.Endpoint.Address, ""
	return r.cycle(t)
}

// gzipBomb answers the root with 64 MiB of zeros in 64 KiB.
func gzipBomb(t *testing.T) error {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	for range 64 {
		if _, err := z.Write(make([]byte, 1<<20)); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	login := served(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	}))
	_, err := bmc.Dial(t.Context(), login)
	return refused(err, fleet.CodeBMCAnswerInvalid, "larger than")
}

func legacyTLS(q redfish.Quirk, code fleet.Code) []proof {
	return []proof{
		{"recognised", "", func(t *testing.T) error {
			r := newRack(t, redfish.Standard().With(q), nil)
			_, err := r.dial(t)
			return refused(err, code)
		}},
		{"allowed", "", func(t *testing.T) error {
			r := newRack(t, redfish.Standard().With(q), nil)
			r.login.Options.LegacyTLS = true
			if q == redfish.NegativeSerial {
				if err := builtFor("x509negativeserial=1"); err != nil {
					return err
				}
			}
			return r.cycle(t)
		}},
	}
}

// builtFor wants the debug setting, which this test binary has too, in the one
// that people run.
func builtFor(setting string) error {
	for _, file := range []string{"../../go.mod", "../../cmd/metalrise/*.go"} {
		found, err := filepath.Glob(filepath.FromSlash(file))
		if err != nil {
			return err
		}
		for _, name := range found {
			if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), setting) {
				return nil
			}
		}
	}
	return fmt.Errorf("cmd/metalrise is not built with %s", setting)
}

func otherPin(t *testing.T) error {
	r := newRack(t, redfish.Standard().With(redfish.ExpiredCertificate), nil)
	r.login.Endpoint.Fingerprint = strings.Repeat("ab", 32)
	_, err := r.dial(t)
	return errors.Join(refused(err, fleet.CodeBMCPinChanged), want(r.lab.Status().Requests == 0, "%d requests went to a stranger", r.lab.Status().Requests))
}

func freezes(parallel int) func(*testing.T) error {
	return func(t *testing.T) error {
		r := newRack(t, redfish.Standard().With(redfish.FreezesParallel), func(c *redfish.Config) { c.Delays.Response = 20 * time.Millisecond })
		r.login.Options.Parallel, r.login.Options.Poll = parallel, 50*time.Millisecond
		err := r.cycle(t)
		if parallel == 1 {
			err = errors.Join(err, want(r.lab.Status().Freezes == 0, "it froze %d times", r.lab.Status().Freezes))
		}
		return err
	}
}

// dropsKept goes through a start as the engine does: what is uncertain is looked
// at, and done again only if it is not so.
func dropsKept(t *testing.T) error {
	r := newRack(t, redfish.Standard().With(redfish.DropsKept), nil)
	return r.patiently(t, func(ctx context.Context, s *bmc.Session) error {
		var at steps
		sure := func(act func() error) func() error {
			return func() error {
				err := act()
				for range 5 {
					if fleet.KindOf(err) != fleet.UnsureKind || err == nil {
						break
					}
					err = act() // it looks first: what is so already is a success
				}
				return err
			}
		}
		at.do("inspect", func() error { return r.inspects(ctx, s) })
		at.do("insert", sure(func() error { return s.Insert(ctx, r.system(), liveISO) }))
		at.do("once", sure(func() error { return s.BootOnce(ctx, r.system(), bmc.Cd) }))
		at.do("on", sure(func() error { return s.Power(ctx, r.system(), bmc.On) }))
		at.do("wait on", func() error { return s.WaitPower(ctx, r.system(), fleet.PowerOn) })
		at.do("inspect again", func() error { return r.inspects(ctx, s) })
		return at.err
	})
}

// patiently is with for a login that may get no answer: that is transient, and
// tried again by whoever wants it.
func (r *rack) patiently(t *testing.T, do func(ctx context.Context, s *bmc.Session) error) error {
	for try := 1; ; try++ {
		s, err := r.dial(t)
		if err == nil {
			return do(t.Context(), s)
		}
		if fleet.KindOf(err) != fleet.Transient || try == 10 {
			return err
		}
	}
}

func freezingInspect(t *testing.T) error {
	r := newRack(t, redfish.Standard().With(redfish.FreezesParallel), func(c *redfish.Config) { c.Delays.Response = 20 * time.Millisecond })
	r.login.Options.Poll = 50 * time.Millisecond
	return r.with(t, r.inspects)
}

func slowAnswers(t *testing.T) error {
	r := newRack(t, redfish.Standard(), func(c *redfish.Config) { c.Delays.Response = 150 * time.Millisecond })
	r.login.Options.ConnectTimeout = 100 * time.Millisecond
	if _, err := net.DialTimeout("tcp", r.lab.Addr(), time.Second); err != nil {
		return err
	}
	return r.with(t, r.inspects)
}
