package bmc

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ssdpTarget is what Redfish services answer to (DMTF DSP0266, section
// "Discovery"; UPnP Device Architecture 1.1, section 1.3).
const (
	ssdpTarget = "urn:dmtf-org:service:redfish-rest:1"
	ssdpGroup  = "239.255.255.250:1900"
	ssdpMost   = 4096 // answers that are read in one search
)

// SSDP asks the local network by multicast which Redfish services are there and
// gives their addresses (host:port), sorted, without duplicates. It waits for
// the given time. The answers are claims of whoever sent them: probe them.
func SSDP(ctx context.Context, wait time.Duration) ([]string, error) {
	return ssdp(ctx, ssdpGroup, wait)
}

func ssdp(ctx context.Context, group string, wait time.Duration) ([]string, error) {
	to, err := net.ResolveUDPAddr("udp4", group)
	if err != nil {
		return nil, fmt.Errorf("search by SSDP: %w", err)
	}
	c, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return nil, fmt.Errorf("search by SSDP: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	search := "M-SEARCH * HTTP/1.1\r\nHOST: " + ssdpGroup + "\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\nST: " + ssdpTarget + "\r\n\r\n"
	_ = c.SetReadDeadline(time.Now().Add(wait))
	for range 2 { // UDP: one may be lost
		if _, err := c.WriteToUDP([]byte(search), to); err != nil {
			return nil, fmt.Errorf("search by SSDP: %w", err)
		}
	}
	var out []string
	buf := make([]byte, 4096)
	for range ssdpMost {
		n, from, err := c.ReadFromUDP(buf)
		if err != nil {
			break // the time is over
		}
		if a := ssdpAnswer(buf[:n], from.IP); a != "" && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	slices.Sort(out)
	return out, ctx.Err()
}

// ssdpAnswer reads where the service is: the header AL names its root. Only the
// port is taken from there, the host is who answered: else one host could send
// us to any other.
func ssdpAnswer(b []byte, from net.IP) string {
	r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK || !strings.HasPrefix(r.Header.Get("St"), "urn:dmtf-org:service:redfish-rest:") {
		return ""
	}
	port := "443"
	if u, err := url.Parse(strings.Trim(strings.TrimSpace(r.Header.Get("Al")), "<>")); err == nil && u.Scheme == "https" && u.Port() != "" {
		port = u.Port()
	}
	list, err := Expand([]string{net.JoinHostPort(from.String(), port)}, 443)
	if err != nil {
		return ""
	}
	return list[0]
}
