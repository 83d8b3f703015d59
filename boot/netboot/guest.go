package netboot

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Road is the way on which a machine is meant to boot from the network.
type Road string

const (
	RoadPXE      Road = "pxe"       // loader by TFTP, then iPXE
	RoadUEFIHTTP Road = "uefi-http" // EFI program or disc image by HTTP
	RoadAddress  Road = "address"   // an address only; its firmware gets nothing
)

// Guest is what one machine is to be told.
type Guest struct {
	// Name is what people call the server; it appears in sightings only.
	Name string
	// Address is the machine's address with the length of its network. Beside
	// another DHCP server it is never told and may be the zero Prefix; then
	// requests that come through a relay are not answered.
	Address netip.Prefix
	Gateway netip.Addr   // or zero
	DNS     []netip.Addr // at most 4 are told
	Host    string       // host name, or ""

	Road Road
	// Script is the HTTP address of the machine's iPXE script. It is told to
	// iPXE only, on both roads, since the EFI program of RoadUEFIHTTP may be iPXE.
	Script string
	// Image is the HTTP address of the EFI program (".efi") or disc image
	// (".iso") that UEFI's HTTP client is told, with RoadUEFIHTTP only.
	Image string
	// Loader overrides the name of the TFTP file that is chosen by architecture.
	Loader string

	// Until ends the machine's time: from then on it is not answered.
	Until time.Time
}

// Guests tells who may boot. It is asked for each packet of a client and must
// answer from memory.
type Guests interface {
	// Guest finds the machine behind a client, by its MAC address or, if that is
	// unknown, by its UUID (not every firmware tells it).
	Guest(c Client) (Guest, bool)
}

// maxURL is what option 67 can hold. Firmware does not know long options
// (RFC 3396), so a longer address is a mistake of ours.
const maxURL = 255

// Check tells what is wrong with a guest, for a server of the given mode.
func (g Guest) Check(mode Mode) error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if mode == Whole {
		if !g.Address.Addr().Is4() || g.Address.Bits() < 1 || g.Address.Bits() > 31 {
			add("address %q is not an IPv4 address with the length of its network", g.Address)
		}
		if g.Gateway.IsValid() && !g.Address.Masked().Contains(g.Gateway) {
			add("gateway %s is not in the network of %s", g.Gateway, g.Address)
		}
	}
	for _, d := range g.DNS {
		if !d.Is4() {
			add("name server %s is not an IPv4 address", d)
		}
	}
	if len(g.Host) > 63 || strings.ContainsFunc(g.Host, func(r rune) bool { return r <= ' ' || r > '~' }) {
		add("host name %q is not one", g.Host)
	}
	switch g.Road {
	case RoadAddress:
	case RoadPXE:
		if g.Script == "" {
			add("road %s without a script", g.Road)
		}
	case RoadUEFIHTTP:
		if g.Image == "" {
			add("road %s without an image", g.Road)
		}
	default:
		add("unknown road %q", g.Road)
	}
	if g.Loader != "" && !fileName(g.Loader) {
		add("loader %q is not a file name", g.Loader)
	}
	for _, u := range []string{g.Script, g.Image} {
		if u != "" {
			errs = append(errs, checkURL(u))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("guest %s: %w", g.Name, err)
	}
	return nil
}

// checkURL holds addresses for firmware and iPXE to plain letters: no user,
// query or fragment, nothing a script language would take for something else.
func checkURL(s string) error {
	refuse := func(why string) error { return fmt.Errorf("address %q %s", s, why) }
	if len(s) > maxURL {
		return refuse(fmt.Sprintf("is longer than %d bytes", maxURL))
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return fmt.Errorf("address %q: %w", s, err)
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("is neither http nor https")
	case u.Host == "":
		return refuse("names no host")
	}
	for _, r := range s {
		if !wordRune(r) && !strings.ContainsRune("./:[]", r) {
			return refuse(fmt.Sprintf("has %q, which is not allowed in an address to boot from", r))
		}
	}
	return nil
}

func wordRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_'
}
