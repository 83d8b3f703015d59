package bmc

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"metalrise.dev/fleet"
)

const maxAddresses = 65536 // a /16, or the same in IPv6

// Expand turns address patterns into addresses of the form host:port, in order
// and without duplicates. Patterns are "10.0.9.11", "bmc7.example",
// "10.0.9.11-15", "10.0.9.11-10.0.9.20", "10.0.9.0/28" (without network and
// broadcast address), "fd00::1", "[fd00::1]:8443", "fd00::10-fd00::1f", each
// but bare IPv6 with ":port" after it if need be. "http://" before a pattern
// stays before each of its addresses; their port is then 80. So does "ipmi://",
// with port 623. It reports every bad pattern
// at once, with code SITE-001.
func Expand(patterns []string, defaultPort int) ([]string, error) {
	if defaultPort == 0 {
		defaultPort = 443
	}
	var out []string
	var wrong []error
	known := map[string]bool{}
	for _, p := range patterns {
		room := maxAddresses - len(out)
		rest, plain := strings.CutPrefix(strings.TrimSpace(p), plainPrefix)
		port, scheme := defaultPort, ""
		if plain {
			port, scheme = 80, plainPrefix
		} else if ip, ok := strings.CutPrefix(rest, ipmiScheme); ok {
			rest, port, scheme = ip, ipmiPort, ipmiScheme
		}
		list, err := expandOne(rest, port, room)
		if err != nil {
			wrong = append(wrong, fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, nil, "address %q: %v", p, err))
			continue
		}
		for _, a := range list {
			a = scheme + a
			if !known[a] {
				known[a] = true
				out = append(out, a)
			}
		}
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	return out, nil
}

func expandOne(p string, port, room int) ([]string, error) {
	if p == "" {
		return nil, errors.New("empty")
	}
	host, port, err := cutPort(p, port)
	if err != nil {
		return nil, err
	}
	var first, last netip.Addr
	switch {
	case strings.Contains(host, "/"):
		first, last, err = cidr(host)
	case isRange(host):
		first, last, err = span(host)
	default:
		if a, err := netip.ParseAddr(host); err == nil {
			return []string{join(a.String(), port)}, nil
		}
		if err := checkName(host); err != nil {
			return nil, err
		}
		return []string{join(strings.ToLower(host), port)}, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for a := first; ; a = a.Next() {
		if len(out) >= room {
			return nil, fmt.Errorf("more than %d addresses in all", maxAddresses)
		}
		out = append(out, join(a.String(), port))
		if a == last || !a.Next().IsValid() {
			return out, nil
		}
	}
}

func join(host string, port int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(port)
}

// cutPort splits ":port" off, where it cannot be a part of an IPv6 address.
func cutPort(p string, port int) (string, int, error) {
	host, text := p, ""
	switch {
	case strings.HasPrefix(p, "["):
		end := strings.IndexByte(p, ']')
		if end < 0 {
			return "", 0, errors.New("missing ]")
		}
		host = p[1:end]
		if rest := p[end+1:]; rest != "" {
			if !strings.HasPrefix(rest, ":") {
				return "", 0, fmt.Errorf("%q after ]; want :port", rest)
			}
			text = rest[1:]
		} else {
			return host, port, nil
		}
	case strings.Count(p, ":") == 1:
		host, text, _ = strings.Cut(p, ":")
	default:
		return p, port, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > 65535 {
		return "", 0, fmt.Errorf("port %q; want 1 to 65535", text)
	}
	return host, n, nil
}

// isRange tells "10.0.9.11-15" from a host name with a hyphen.
func isRange(host string) bool {
	from, _, ok := strings.Cut(host, "-")
	if !ok {
		return false
	}
	_, err := netip.ParseAddr(strings.TrimSpace(from))
	return err == nil
}

func cidr(host string) (first, last netip.Addr, err error) {
	prefix, err := netip.ParsePrefix(host)
	if err != nil {
		return first, last, errors.New("not a CIDR prefix")
	}
	prefix = prefix.Masked()
	free := prefix.Addr().BitLen() - prefix.Bits()
	if free > 16 {
		return first, last, fmt.Errorf("/%d holds more than %d addresses", prefix.Bits(), maxAddresses)
	}
	first, last = prefix.Addr(), prefix.Addr()
	for range 1<<free - 1 {
		last = last.Next()
	}
	if first.Is4() && free >= 2 {
		first, last = first.Next(), last.Prev()
	}
	return first, last, nil
}

func span(host string) (first, last netip.Addr, err error) {
	from, to, _ := strings.Cut(host, "-")
	from, to = strings.TrimSpace(from), strings.TrimSpace(to)
	if first, err = netip.ParseAddr(from); err != nil {
		return first, last, fmt.Errorf("%q is not an address", from)
	}
	if n, err := strconv.Atoi(to); err == nil && first.Is4() {
		if n < 0 || n > 255 {
			return first, last, fmt.Errorf("end %d; want 0 to 255 or an address", n)
		}
		b := first.As4()
		b[3] = byte(n)
		last = netip.AddrFrom4(b)
	} else if last, err = netip.ParseAddr(to); err != nil {
		return first, last, fmt.Errorf("%q is not an address", to)
	}
	if first.Is4() != last.Is4() {
		return first, last, errors.New("the ends are of different families")
	}
	if first.Zone() != last.Zone() {
		return first, last, errors.New("the ends are of different zones")
	}
	if last.Less(first) {
		return first, last, fmt.Errorf("ends before it begins: %s is below %s", last, first)
	}
	return first, last, nil
}

func checkName(host string) error {
	if host == "" || len(host) > 253 {
		return errors.New("no host")
	}
	digits := true
	for _, label := range strings.Split(strings.TrimSuffix(host, "."), ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return errors.New("neither an address nor a host name")
		}
		for _, r := range label {
			switch {
			case r >= '0' && r <= '9':
			case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '-', r == '_':
				digits = false
			default:
				return errors.New("neither an address nor a host name")
			}
		}
	}
	if digits {
		return errors.New("not an address")
	}
	return nil
}
