package fleet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// DefaultBMCPort is where a Redfish service answers unless the site says otherwise.
const DefaultBMCPort = 443

// maxRange bounds one entry of bmcs.addresses: a /16 of IPv4, a large machine
// hall, which a sweep asks in minutes. A mistyped /8 is caught before it is tried.
const maxRange = 1 << maxRangeBits

const maxRangeBits = 16

// plainPrefix stands before the address of a BMC that speaks HTTP without TLS.
const plainPrefix = "http://"

// AddressRange is one entry of bmcs.addresses, read: a single host, or all
// addresses from First to Last.
type AddressRange struct {
	Host  string // DNS name; "" when First and Last are set
	First netip.Addr
	Last  netip.Addr
	Port  int  // 0: the site's
	Plain bool // typed with http:// before it: without TLS, port 80 unless Port says another
}

// ParseAddressRange reads "10.0.9.11", "10.0.9.11-15", "10.0.9.11-10.0.9.15",
// "10.0.9.0/28", "[fd00::1]:8443", "fd00::1" or a DNS name, each with ":port"
// behind it if wanted (IPv6 then in brackets), and "http://" before it where a
// BMC knows no TLS. Of an IPv4 prefix shorter than 31
// the network and broadcast addresses are left out.
func ParseAddressRange(s string) (AddressRange, error) {
	s, plain := strings.CutPrefix(s, plainPrefix)
	body, port, err := splitPort(s)
	if err != nil {
		return AddressRange{}, err
	}
	r, err := parseHosts(body)
	if err != nil {
		return AddressRange{}, err
	}
	r.Port, r.Plain = port, plain
	return r, nil
}

func splitPort(s string) (body string, port int, err error) {
	body = s
	text := ""
	switch {
	case strings.HasPrefix(s, "["):
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", 0, fmt.Errorf("%q lacks a closing bracket", s)
		}
		body = s[1:end]
		if rest := s[end+1:]; rest != "" {
			if !strings.HasPrefix(rest, ":") {
				return "", 0, fmt.Errorf("%q has text behind its bracket that is no port", s)
			}
			text = rest[1:]
		} else {
			return body, 0, nil
		}
	case strings.Count(s, ":") == 1:
		body, text, _ = strings.Cut(s, ":")
	default:
		return body, 0, nil
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 1 || port > 65535 {
		return "", 0, fmt.Errorf("port %q of %q is not between 1 and 65535", text, s)
	}
	return body, port, nil
}

func parseHosts(s string) (AddressRange, error) {
	if s == "" {
		return AddressRange{}, errors.New("the address is empty")
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return spanOf(s, a, a)
	}
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return AddressRange{}, fmt.Errorf("%q is no prefix such as 10.0.9.0/28", s)
		}
		return prefixHosts(s, p)
	}
	if from, to, ok := strings.Cut(s, "-"); ok {
		if first, err := netip.ParseAddr(from); err == nil {
			return rangeHosts(s, first, to)
		}
	}
	if !ValidHostname(s) || numericTop(s) {
		return AddressRange{}, fmt.Errorf("%q is no address, range, prefix or host name", s)
	}
	return AddressRange{Host: strings.ToLower(s)}, nil
}

// numericTop tells whether the last label is a number, as in a mistyped IPv4
// address; no real domain ends so (RFC 3696, section 2).
func numericTop(s string) bool {
	_, err := strconv.Atoi(s[strings.LastIndexByte(s, '.')+1:])
	return err == nil
}

func rangeHosts(s string, first netip.Addr, to string) (AddressRange, error) {
	if last, err := netip.ParseAddr(to); err == nil {
		return spanOf(s, first, last)
	}
	n, err := strconv.ParseUint(to, 10, 8)
	if err != nil || !first.Is4() {
		return AddressRange{}, fmt.Errorf("%q does not end in an address or, for IPv4, a last number of at most 255", s)
	}
	b := first.As4()
	b[3] = byte(n)
	return spanOf(s, first, netip.AddrFrom4(b))
}

func prefixHosts(s string, p netip.Prefix) (AddressRange, error) {
	hostBits := p.Addr().BitLen() - p.Bits()
	if hostBits > maxRangeBits {
		return AddressRange{}, fmt.Errorf("%q holds more than %d addresses", s, maxRange)
	}
	first := p.Masked().Addr()
	last := first
	for range 1<<hostBits - 1 {
		last = last.Next()
	}
	if first.Is4() && hostBits > 1 {
		first, last = first.Next(), last.Prev()
	}
	return spanOf(s, first, last)
}

func spanOf(s string, first, last netip.Addr) (AddressRange, error) {
	if first.Zone() != "" || last.Zone() != "" {
		return AddressRange{}, fmt.Errorf("%q has a zone; link-local addresses cannot be kept in a file", s)
	}
	first, last = first.Unmap(), last.Unmap()
	if first.IsUnspecified() || first.IsMulticast() || last.IsMulticast() {
		return AddressRange{}, fmt.Errorf("%q is not the address of one host", s)
	}
	if first.BitLen() != last.BitLen() || last.Less(first) {
		return AddressRange{}, fmt.Errorf("%q ends before it begins", s)
	}
	n := 1
	for a := first; a != last; a = a.Next() {
		if n++; n > maxRange {
			return AddressRange{}, fmt.Errorf("%q holds more than %d addresses", s, maxRange)
		}
	}
	return AddressRange{First: first, Last: last}, nil
}

// Contains tells whether host (an IP address or a DNS name, without a port) is
// one of the range's.
func (r AddressRange) Contains(host string) bool {
	if r.Host != "" {
		return strings.EqualFold(r.Host, host)
	}
	a, err := netip.ParseAddr(host)
	if err != nil || !r.First.IsValid() {
		return false
	}
	a = a.Unmap()
	return a.BitLen() == r.First.BitLen() && !a.Less(r.First) && !r.Last.Less(a)
}

// Addresses lists the range as host:port in rising order; port is used where
// the range names none.
func (r AddressRange) Addresses(port int) []string {
	before := ""
	if r.Plain {
		before, port = plainPrefix, 80
	}
	if r.Port != 0 {
		port = r.Port
	}
	p := strconv.Itoa(port)
	if r.Host != "" {
		return []string{before + r.Host + ":" + p}
	}
	if !r.First.IsValid() {
		return nil
	}
	var out []string
	for a := r.First; ; a = a.Next() {
		out = append(out, before+netip.AddrPortFrom(a, uint16(port)).String())
		if a == r.Last {
			return out
		}
	}
}

// SplitAddress takes a BMC's address apart: host:port, or http://host:port. The
// port is "" when there is none.
func SplitAddress(address string) (host, port string) {
	address = strings.TrimPrefix(address, plainPrefix)
	if h, p, err := net.SplitHostPort(address); err == nil {
		return h, p
	}
	return strings.Trim(address, "[]"), ""
}

// ValidLabel tells whether s is a DNS label: 1 to 63 letters, digits or hyphens,
// no hyphen at either end (RFC 1123, section 2.1).
func ValidLabel(s string) bool {
	if len(s) < 1 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return false
		}
	}
	return true
}

// ValidHostname tells whether s is one or more DNS labels joined by dots, 253
// bytes at most and without a dot at the end.
func ValidHostname(s string) bool {
	if len(s) > 253 {
		return false
	}
	for _, label := range strings.Split(s, ".") {
		if !ValidLabel(label) {
			return false
		}
	}
	return true
}
