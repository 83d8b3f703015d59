package bmc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"metalrise.dev/fleet"
)

// Shorter than a session's: in a sweep most addresses are dead.
const (
	// A lost SYN is sent again after one second and after three (RFC 6298).
	knockTimeout = 3500 * time.Millisecond
	probeConnect = 5 * time.Second
	probeRequest = 20 * time.Second
)

// What says what answers at an address.
type What string

const (
	RedfishService      What = "redfish"              // a service root with systems: a server's BMC
	EnclosureController What = "enclosure controller" // a service root without systems
	LegacyRedfish       What = "legacy redfish"       // only the /rest/v1 of before the standard (iLO 4 below 2.30)
	IPMIOnly            What = "ipmi only"            // answers the RMCP presence ping, but no Redfish
	NotBMC              What = "not a bmc"            // something else speaks there
	Unknown             What = "unknown"              // something listens, but did not answer in time
	NoAnswer            What = "no answer"            // no TCP connection, no RMCP
)

// Found is what one address tells without a login.
type Found struct {
	Address        string     `json:"address"`
	What           What       `json:"what"`
	Why            string     `json:"why"`                   // how What was known
	Fingerprint    string     `json:"fingerprint,omitempty"` // SHA-256 of the certificate in DER form, lower-case hexadecimal
	Vendor         string     `json:"vendor,omitempty"`
	Product        string     `json:"product,omitempty"`
	RedfishVersion string     `json:"redfishVersion,omitempty"`
	UUID           string     `json:"uuid,omitempty"`     // of the service, not of a server
	OEM            string     `json:"oem,omitempty"`      // key under Oem: "Dell", "Hpe", …
	IPMI           bool       `json:"ipmi,omitempty"`     // answers the RMCP presence ping; asked only where Redfish is not found
	Outdated       fleet.Code `json:"outdated,omitempty"` // BMC-016 to BMC-018: a login needs LegacyTLS
	Err            error      `json:"-"`                  // cause of NoAnswer, Unknown and NotBMC
}

// Probe asks one address. See Prober.Probe.
func Probe(ctx context.Context, address string) (Found, error) {
	return NewProber(1).Probe(ctx, address)
}

// Prober asks many addresses. It bounds how many connections are open at a
// time, whoever calls. Zero is not usable; see NewProber.
type Prober struct {
	knocks   chan struct{} // one token per address being asked: a TCP and a UDP socket at most
	talks    chan struct{} // one token per address whose service root is read
	ipmiPort int
	knock    time.Duration // for TCP
	connect  time.Duration // for TLS
	request  time.Duration // for the service root
}

// talkers bounds how many service roots are read at a time: each costs a TLS
// handshake, about 2 ms of processor time here.
const talkers = 64

// NewProber makes a prober that asks up to width addresses at a time, fewer
// where the process may not open that many files.
func NewProber(width int) *Prober {
	width = max(1, min(width, 512, freeFiles()))
	return &Prober{knocks: make(chan struct{}, width), talks: make(chan struct{}, talkers),
		ipmiPort: 623, knock: knockTimeout, connect: probeConnect, request: probeRequest}
}

// freeFiles is how many addresses may be asked at a time. Each needs two files,
// and a look at outdated TLS or /rest/v1 one more; the rest of the program keeps
// 128 and a talker's extra connection each.
func freeFiles() int {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) != nil {
		return 64
	}
	return max(8, (int(min(r.Cur, 1<<20))-128-talkers)/2)
}

// Probe connects to address (host:port, or http://host:port) and reads the
// unauthenticated service root where something listens; where there is none it
// sends the RMCP presence ping. It never sends credentials. An address where no
// BMC answers is a Found too; the error then says why (BMC-001, BMC-002).
func (p *Prober) Probe(ctx context.Context, address string) (Found, error) {
	select {
	case p.knocks <- struct{}{}:
		defer func() { <-p.knocks }()
	case <-ctx.Done():
		return Found{Address: address, What: NoAnswer, Why: "not asked", Err: ctx.Err()}, ctx.Err()
	}
	host, _ := hostPort(strings.TrimPrefix(address, ipmiScheme))
	pinged, stop := p.ping(ctx, host)
	defer stop()
	if strings.HasPrefix(address, ipmiScheme) {
		f := Found{Address: address, What: NoAnswer, Why: "no RMCP answer"}
		f.Err = fmt.Errorf("probe %s: %w", address, fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Transient, nil, "no answer to the RMCP presence ping"))
		return f.orIPMI(<-pinged)
	}
	dialer := net.Dialer{Timeout: p.knock}
	conn, err := dialer.DialContext(ctx, "tcp", host)
	if err != nil {
		f := Found{Address: address, What: NoAnswer, Why: "no TCP connection and no RMCP answer"}
		if errors.Is(err, syscall.ECONNRESET) { // a reset that comes at once is seen here, a later one while reading
			f.What, f.Why = NotBMC, "something listens, but resets connections"
		}
		f.Err = fmt.Errorf("probe %s: %w", address, fleet.NewFault(fleet.CodeBMCUnreachable, fleet.Transient, err, "no TCP connection"))
		return f.orIPMI(<-pinged)
	}
	stop()
	select {
	case p.talks <- struct{}{}:
		defer func() { <-p.talks }()
	case <-ctx.Done():
		_ = conn.Close()
		return Found{Address: address, What: NoAnswer, Why: "not asked", Err: ctx.Err()}, ctx.Err()
	}
	f, err := p.readFound(ctx, address, conn)
	if f.What == NotBMC || f.What == Unknown {
		again, stop := p.ping(ctx, host)
		defer stop()
		return f.orIPMI(<-again)
	}
	return f, err
}

// orIPMI is f, or an IPMI BMC where the presence ping was answered.
func (f Found) orIPMI(answered bool) (Found, error) {
	if answered {
		f.Why = "answers the RMCP presence ping; " + f.Why
		if f.What == NoAnswer {
			f.Why = "answers the RMCP presence ping; Redfish was not found"
		}
		f.What, f.IPMI, f.Err = IPMIOnly, true, nil
	}
	return f, f.Err
}

// readFound reads the service root over conn, and over new connections when
// that one ends.
func (p *Prober) readFound(ctx context.Context, address string, conn net.Conn) (Found, error) {
	var met outdated
	var given atomic.Pointer[net.Conn]
	given.Store(&conn)
	take := func() net.Conn {
		if c := given.Swap(nil); c != nil {
			return *c
		}
		return nil
	}
	defer func() {
		if c := take(); c != nil {
			_ = c.Close()
		}
	}()
	// Outdated TLS is good enough for a look that carries no secret.
	o := Options{AcceptNewPin: true, Parallel: 1, ConnectTimeout: p.connect, RequestTimeout: p.request, LegacyTLS: true, first: take, met: &met}.withDefaults()
	c := newClient(address, "", o)
	defer c.closeIdle()
	f := Found{Address: address}
	root, err := readRoot(ctx, c)
	f.Fingerprint, f.Outdated = c.pin.get(), met.code
	if err != nil {
		f.What, f.Why, f.Err = NotBMC, "something listens, but gives no service root", fmt.Errorf("probe %s: %w", address, err)
		switch {
		case isPlainHTTP(err):
			f.Why = "speaks HTTP without TLS at this port; write " + plainPrefix + c.host + " if this is meant"
		case isSlow(err):
			f.What, f.Why = Unknown, "something listens, but did not answer in time"
		case fleet.CodeOf(err) == fleet.CodeBMCUnreachable && f.Fingerprint == "" && !c.plain:
			f.Why = "something listens, but speaks no TLS"
		case fleet.CodeOf(err) == fleet.CodeBMCUnreachable:
			f.Why = "something listens, but breaks off"
		case fleet.CodeOf(err) == fleet.CodeBMCNotRedfish && isLegacy(ctx, c):
			f.What, f.Why, f.Err = LegacyRedfish, "answers at /rest/v1 only", nil
		}
		return f, f.Err
	}
	f.What, f.Why = RedfishService, "service root with Systems"
	if !root.has("Systems") {
		f.What, f.Why = EnclosureController, "service root without Systems"
	}
	if met.code != "" {
		f.Why += "; " + met.text
	}
	f.Vendor, f.Product = root.str("Vendor"), root.str("Product")
	f.RedfishVersion, f.UUID = root.str("RedfishVersion"), root.str("UUID")
	f.OEM = oemKey(root)
	return f, nil
}

// isPlainHTTP recognises an answer in HTTP to a TLS greeting.
func isPlainHTTP(err error) bool {
	var h tls.RecordHeaderError
	return errors.As(err, &h) && string(h.RecordHeader[:]) == "HTTP/"
}

// oemKey is the vendor's key under Oem; the first by name when there are more.
func oemKey(root node) string {
	var keys []string
	for k := range root.object("Oem").m {
		keys = append(keys, clean(k))
	}
	if len(keys) == 0 {
		return ""
	}
	return slices.Min(keys)
}

func isLegacy(ctx context.Context, c *client) bool {
	a, err := c.send(ctx, ask{method: http.MethodGet, path: "/rest/v1"})
	if err != nil || a.status != http.StatusOK {
		return false
	}
	_, err = decode(a.body)
	return err == nil
}

// Sweep probes many addresses, width at a time (512 at most), and hands over
// each result as it comes, one call at a time. It ends with the context's error
// when that ends first; addresses not probed are then not reported.
func Sweep(ctx context.Context, addresses []string, width int, found func(Found)) error {
	return NewProber(width).sweep(ctx, addresses, found)
}

func (p *Prober) sweep(ctx context.Context, addresses []string, found func(Found)) error {
	next := make(chan string)
	var mu sync.Mutex
	var group sync.WaitGroup
	for range min(cap(p.knocks), len(addresses)) {
		group.Go(func() {
			for a := range next {
				f, err := p.Probe(ctx, a)
				if err != nil && ctx.Err() != nil {
					continue // cut short: it says nothing about the address
				}
				mu.Lock()
				found(f)
				mu.Unlock()
			}
		})
	}
	for _, a := range addresses {
		select {
		case next <- a:
			continue
		case <-ctx.Done():
		}
		break
	}
	close(next)
	group.Wait()
	return ctx.Err()
}
