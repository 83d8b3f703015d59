package bmc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	goipmi "github.com/bougou/go-ipmi"

	"metalrise.dev/fleet"
)

const (
	ipmiScheme = "ipmi://"
	ipmiPort   = 623
	ipmiSystem = "ipmi" // stands in for the URI of the only system there can be
)

// IPMIAddress tells whether an address names a BMC that is to be spoken to by
// IPMI ("ipmi://10.0.9.11", "ipmi://[fd00::1]:1623") and gives its host:port.
func IPMIAddress(address string) (hostport string, ok bool) {
	rest, ok := strings.CutPrefix(address, ipmiScheme)
	if !ok {
		return "", false
	}
	if _, _, err := net.SplitHostPort(rest); err == nil {
		return rest, true
	}
	return net.JoinHostPort(strings.Trim(rest, "[]"), strconv.Itoa(ipmiPort)), true
}

// suites are the cipher suites that authenticate, protect and encrypt every
// message, best first (IPMI 2.0, table 22-20): 17 with HMAC-SHA256, 3 with
// HMAC-SHA1, both with AES. Suite 0 asks for no password at all and suite 1
// protects nothing but the login: whoever is on the way could act in our name.
// They are never proposed, and an answer that would lead to one is refused.
var suites = [...]struct {
	id                     goipmi.CipherSuiteID
	auth, integrity, crypt uint8
}{{goipmi.CipherSuiteID17, 3, 4, 1}, {goipmi.CipherSuiteID3, 1, 1, 1}}

// IPMI is one login to a BMC that knows no Redfish. It has the methods of a
// Session as far as IPMI reaches: power, boot device, identity. There is no
// virtual media. Its methods may be called from several goroutines.
type IPMI struct {
	address string
	opts    Options
	mu      sync.Mutex // one exchange at a time: answers are told apart by a counter of six bits
	client  *goipmi.Client
	weak    []int // cipher suites without protection that the BMC offers
}

// DialIPMI logs in with the best cipher suite that the BMC takes, as
// administrator, once: no password is used before both sides agree on a suite.
// A BMC that agrees to neither of the suites is refused. Faults: BMC-001 not
// reached, BMC-003 login refused, BMC-007 no suite.
func DialIPMI(ctx context.Context, l Login) (*IPMI, error) {
	s := &IPMI{address: l.Endpoint.Address, opts: l.Options.withDefaults()}
	hostport, ok := IPMIAddress(l.Endpoint.Address)
	if !ok {
		return nil, s.wrap("log in to", fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Invalid, nil, "%q is no address of the form ipmi://host", l.Endpoint.Address))
	}
	if l.Endpoint.Username == "" || l.Password == "" {
		return nil, s.wrap("log in to", fleet.NewFault(fleet.CodeBMCLoginRefused, fleet.Invalid, nil, "user name or password is empty"))
	}
	host, portText, _ := net.SplitHostPort(hostport)
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, s.wrap("log in to", fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Invalid, err, "port %q is no number", portText))
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]" // the library puts a port behind it
	}
	c, err := goipmi.NewClient(host, port, l.Endpoint.Username, l.Password)
	if err != nil {
		return nil, s.wrap("log in to", fleet.NewFault(fleet.CodeBMCLoginRefused, fleet.Invalid, nil, "the user name is longer than IPMI's %d bytes", goipmi.IPMI_MAX_USER_NAME_LENGTH))
	}
	s.client = c.WithTimeout(min(s.opts.RequestTimeout, 5*time.Second)).WithRetry(2).WithMaxPrivilegeLevel(goipmi.PrivilegeLevelAdministrator)
	return s, s.wrap("log in to", s.login(ctx))
}

// login goes the four steps of RMCP+ (IPMI 2.0, 13.15) by itself, because the
// library's own Connect tries its list of suites with the password in turn, which
// locks accounts, and takes whatever algorithms the BMC answers with.
func (s *IPMI) login(ctx context.Context) error {
	id, err := s.agree(ctx)
	if err != nil {
		return err
	}
	err = s.exchange("log in", false, func() error {
		if _, err := s.client.RAKPMessage1(ctx); err != nil {
			return err
		}
		if _, err := s.client.RAKPMessage3(ctx); err != nil {
			return err
		}
		level, err := s.client.SetSessionPrivilegeLevel(ctx, goipmi.PrivilegeLevelAdministrator)
		if err == nil && goipmi.PrivilegeLevel(level.PrivilegeLevel) != goipmi.PrivilegeLevelAdministrator {
			return errNoAdministrator
		}
		return err
	})
	if fleet.CodeOf(err) == fleet.CodeBMCUnreachable && isSilence(err) {
		return err
	}
	if err != nil {
		// The library's text holds the hashes of the exchange, from which a weak
		// password could be guessed. It goes no further.
		return fleet.NewFault(fleet.CodeBMCLoginRefused, fleet.Denied, nil, "the BMC refused user or password with cipher suite %d, or the user is no administrator over LAN", int(id))
	}
	s.weak = s.weakSuites(ctx)
	return nil
}

var errNoAdministrator = errors.New("the BMC gave less than the rights of an administrator")

// agree opens a session with the first suite that the BMC takes.
func (s *IPMI) agree(ctx context.Context) (goipmi.CipherSuiteID, error) {
	var why error
	for _, want := range suites {
		var got *goipmi.OpenSessionResponse
		err := s.exchange("open a session", false, func() (err error) {
			got, err = s.client.WithCipherSuiteID(want.id).OpenSession(ctx)
			return err
		})
		switch {
		case err != nil && isSilence(err):
			return 0, err
		case err != nil:
			why = err
			continue
		case got.AuthAlg != want.auth || got.IntegrityAlg != want.integrity || got.CryptAlg != want.crypt:
			return 0, fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Denied, nil,
				"the BMC was asked for IPMI cipher suite %d and answered with the algorithms %d, %d, %d, which are another one's", int(want.id), got.AuthAlg, got.IntegrityAlg, got.CryptAlg)
		}
		return want.id, nil
	}
	return 0, fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Denied, why, "the BMC takes neither of the IPMI cipher suites 17 and 3, which alone protect a login and what follows it")
}

// weakSuites asks which suites without protection the BMC takes from others.
func (s *IPMI) weakSuites(ctx context.Context) []int {
	var out []int
	_ = s.exchange("ask for cipher suites", false, func() error {
		all, err := s.client.GetAllChannelCipherSuites(ctx, goipmi.ChannelNumberSelf)
		for _, r := range all {
			if r.CipherSuitID == goipmi.CipherSuiteID0 || r.CipherSuitID == goipmi.CipherSuiteID1 {
				out = append(out, int(r.CipherSuitID))
			}
		}
		return err
	})
	return out
}

// isSilence tells that nothing came, from that something came that was no use.
func isSilence(err error) bool {
	var broken net.Error
	return errors.As(err, &broken) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// exchange runs one conversation. An answer that was lost makes an act uncertain.
// What the library trips over in an answer becomes an error.
func (s *IPMI) exchange(what string, act bool, talk func() error) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if r := recover(); r != nil {
			err = fleet.NewFault(fleet.CodeBMCAnswerInvalid, fleet.UnsureKind, nil, "the answer to %q was not understood: %v", what, r)
		}
	}()
	if err = talk(); err == nil {
		return nil
	}
	var refused *goipmi.ResponseError
	if errors.As(err, &refused) {
		return fleet.NewFault(fleet.CodeBMCRejected, fleet.Unsupported, err, "the BMC refused to %s", what)
	}
	// Over UDP no answer and one that was no use look alike to the library.
	kind := fleet.Transient
	if act {
		kind = fleet.UnsureKind
	}
	return fleet.NewFault(fleet.CodeBMCUnreachable, kind, err, "no usable answer to %q", what)
}

func (s *IPMI) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s bmc %s: %w", doing, s.address, err)
}

// String names the session without its secrets.
func (s *IPMI) String() string { return "ipmi session on bmc " + s.address }

// GoString keeps %#v from printing secrets.
func (s *IPMI) GoString() string { return s.String() }

// Address is the BMC's.
func (s *IPMI) Address() string { return s.address }

// Close ends the session on the BMC.
func (s *IPMI) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	return s.wrap("close session on", s.exchange("close the session", false, func() error { return s.client.Close(ctx) }))
}

// Power asks for a change of power and returns when the BMC has accepted it. A
// server that already is as wished is a success.
func (s *IPMI) Power(ctx context.Context, _ string, w Wish) error {
	return s.wrap("power "+string(w)+" at", s.power(ctx, w))
}

func (s *IPMI) power(ctx context.Context, w Wish) error {
	now, err := s.powerNow(ctx)
	if err != nil {
		return err
	}
	if now == fleet.PowerOff && (w == Restart || w == Cycle) {
		w = On
	}
	var control goipmi.ChassisControl
	switch w {
	case On:
		control = goipmi.ChassisControlPowerUp
	case ForceOff:
		control = goipmi.ChassisControlPowerDown
	case GracefulOff:
		control = goipmi.ChassisControlSoftShutdown
	case Restart:
		control = goipmi.ChassisControlHardReset
	case Cycle:
		control = goipmi.ChassisControlPowerCycle
	default:
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Invalid, nil, "no such wish: %q", w)
	}
	if w == On && now == fleet.PowerOn || (w == ForceOff || w == GracefulOff) && now == fleet.PowerOff {
		return nil
	}
	return s.exchange("power "+string(w), true, func() error {
		_, err := s.client.ChassisControl(ctx, control)
		return err
	})
}

func (s *IPMI) powerNow(ctx context.Context) (fleet.PowerState, error) {
	state := fleet.PowerOff
	err := s.exchange("read the power state", false, func() error {
		r, err := s.client.GetChassisStatus(ctx)
		if err == nil && r.PowerIsOn {
			state = fleet.PowerOn
		}
		return err
	})
	return state, err
}

// WaitPower waits until the server shows a power state, for Options.Settle.
func (s *IPMI) WaitPower(ctx context.Context, _ string, want fleet.PowerState) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Settle)
	defer cancel()
	for {
		now, err := s.powerNow(ctx)
		if err == nil && now == want {
			return nil
		}
		if pause(ctx, s.opts.Poll) != nil {
			return s.wrap("wait for power "+string(want)+" at", fleet.NewFault(fleet.CodePowerStuck, fleet.Transient, err, "still %s after %s", now, s.opts.Settle))
		}
	}
}

// BootOnce makes the next start boot from the target, by UEFI, and reads it
// back. BMCs forget the wish unless the server is started within a minute
// (IPMI 2.0, table 28-14, parameter 3). Not all show the marks "valid" and "UEFI"
// again (ipmi_sim shows neither), so only the device is compared; Look tells all.
func (s *IPMI) BootOnce(ctx context.Context, _ string, t Target) error {
	return s.wrap("set boot once from "+string(t)+" at", s.bootOnce(ctx, t))
}

func (s *IPMI) bootOnce(ctx context.Context, t Target) error {
	device := map[Target]goipmi.BootDeviceSelector{
		Cd: goipmi.BootDeviceSelectorForceCDROM, Pxe: goipmi.BootDeviceSelectorForcePXE, Hdd: goipmi.BootDeviceSelectorForceHardDrive,
	}[t]
	if device == goipmi.BootDeviceSelectorNoOverride {
		return fleet.NewFault(fleet.CodeBMCUnsupported, fleet.Unsupported, nil, "IPMI has no boot device for %s", t)
	}
	if err := s.exchange("set the boot device", true, func() error { return s.client.SetBootDevice(ctx, device, goipmi.BIOSBootTypeEFI, false) }); err != nil {
		return err
	}
	flags, err := s.bootFlags(ctx)
	if err != nil {
		return err
	}
	if flags.Persist || flags.BootDeviceSelector != device {
		return fleet.NewFault(fleet.CodeBMCRejected, fleet.Conflict, nil, "accepted, but it does not show: the boot device is %s, lasting %t", flags.BootDeviceSelector, flags.Persist)
	}
	return nil
}

// ClearBoot takes the wish for the next start back.
func (s *IPMI) ClearBoot(ctx context.Context, _ string) error {
	return s.wrap("clear boot device at", s.exchange("clear the boot device", true, func() error {
		return s.client.SetSystemBootOptionsParamFor(ctx, &goipmi.BootOptionParam_BootFlags{BootDeviceSelector: goipmi.BootDeviceSelectorNoOverride})
	}))
}

func (s *IPMI) bootFlags(ctx context.Context) (goipmi.BootOptionParam_BootFlags, error) {
	var flags goipmi.BootOptionParam_BootFlags
	err := s.exchange("read the boot device", false, func() error { return s.client.GetSystemBootOptionsParamFor(ctx, &flags) })
	return flags, err
}
