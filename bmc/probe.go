package bmc

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"metalrise.dev/fleet"
)

// Shorter than a session's: in a sweep most addresses are dead. 65,536 of them,
// 256 at a time, take 22 minutes at worst.
const (
	probeConnect = 5 * time.Second
	probeRequest = 20 * time.Second
)

// What says what answers at an address.
type What string

const (
	RedfishService      What = "redfish"              // a service root with systems: a server's BMC
	EnclosureController What = "enclosure controller" // a service root without systems
	LegacyRedfish       What = "legacy redfish"       // only the /rest/v1 of before the standard (iLO 4 below 2.30)
	NotBMC              What = "not a bmc"            // something else speaks there
	NoAnswer            What = "no answer"            // no TCP or no TLS connection
)

// Found is what the service root of one address tells without a login.
type Found struct {
	Address        string `json:"address"`
	What           What   `json:"what"`
	Why            string `json:"why"`                   // how What was known
	Fingerprint    string `json:"fingerprint,omitempty"` // SHA-256 of the certificate in DER form, lower-case hexadecimal
	Vendor         string `json:"vendor,omitempty"`
	Product        string `json:"product,omitempty"`
	RedfishVersion string `json:"redfishVersion,omitempty"`
	UUID           string `json:"uuid,omitempty"` // of the service, not of a server
	OEM            string `json:"oem,omitempty"`  // key under Oem: "Dell", "Hpe", …
	Err            error  `json:"-"`              // cause of NoAnswer and NotBMC
}

// Probe reads the unauthenticated service root at address (host:port). It
// never sends credentials. An address where no BMC answers is a Found too; the
// error then says why (BMC-001, BMC-002).
func Probe(ctx context.Context, address string) (Found, error) {
	o := Options{AcceptNewPin: true, Parallel: 1, ConnectTimeout: probeConnect, RequestTimeout: probeRequest}.withDefaults()
	c := newClient(withPort(address), "", o)
	defer c.closeIdle()
	f := Found{Address: address}
	root, err := readRoot(ctx, c)
	f.Fingerprint = c.pin.get()
	if err != nil {
		f.What, f.Why, f.Err = NotBMC, "the service root was not understood", fmt.Errorf("probe %s: %w", address, err)
		switch {
		case fleet.CodeOf(err) == fleet.CodeBMCUnreachable && f.Fingerprint == "":
			f.What, f.Why = NoAnswer, "no connection"
		case isLegacy(ctx, c):
			f.What, f.Why = LegacyRedfish, "answers at /rest/v1 only"
		}
		return f, f.Err
	}
	f.What, f.Why = RedfishService, "service root with Systems"
	if !root.has("Systems") {
		f.What, f.Why = EnclosureController, "service root without Systems"
	}
	f.Vendor, f.Product = root.str("Vendor"), root.str("Product")
	f.RedfishVersion, f.UUID = root.str("RedfishVersion"), root.str("UUID")
	f.OEM = oemKey(root)
	return f, nil
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

// Sweep probes many addresses, concurrency at a time (256 at most), and hands
// over each result as it comes, one call at a time. It ends with the context's
// error when that ends first; addresses not probed are then not reported.
func Sweep(ctx context.Context, addresses []string, concurrency int, found func(Found)) error {
	concurrency = max(1, min(concurrency, 256, len(addresses)))
	next := make(chan string)
	var mu sync.Mutex
	var group sync.WaitGroup
	for range concurrency {
		group.Go(func() {
			for a := range next {
				f, err := Probe(ctx, a)
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
