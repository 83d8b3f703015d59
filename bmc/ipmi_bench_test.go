package bmc

import (
	"net"
	"testing"

	bmclib "github.com/bmc-toolbox/bmclib/v2"
	goipmi "github.com/bougou/go-ipmi"
)

// BenchmarkIPMI logs in to ipmi_sim, reads the power state and logs out: with
// this package, and with bmclib, which runs Debian's ipmitool.
func BenchmarkIPMI(b *testing.B) {
	l, _ := startSim(b)
	hostport, _ := IPMIAddress(l.Endpoint.Address)
	host, port, _ := net.SplitHostPort(hostport)
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			s, err := DialIPMI(b.Context(), l)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := s.powerNow(b.Context()); err != nil {
				b.Fatal(err)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bmclib", func(b *testing.B) {
		for b.Loop() {
			c := bmclib.NewClient(host, l.Endpoint.Username, l.Password, bmclib.WithIpmitoolPort(port), bmclib.WithIpmitoolCipherSuite("3"))
			c.Registry.Drivers = c.Registry.For("ipmitool")
			if err := c.Open(b.Context()); err != nil {
				b.Fatal(err)
			}
			if _, err := c.GetPowerState(b.Context()); err != nil {
				b.Fatal(err)
			}
			if err := c.Close(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// The library's own Connect asks in a form that ipmi_sim does not answer. When
// this fails, a newer library can do it, and the way around it may go.
func TestLibraryCannotConnectByItself(t *testing.T) {
	l, _ := startSim(t)
	hostport, _ := IPMIAddress(l.Endpoint.Address)
	host, port, _ := net.SplitHostPort(hostport)
	n, err := net.LookupPort("udp", port)
	noError(t, err)
	c, err := goipmi.NewClient(host, n, l.Endpoint.Username, l.Password)
	noError(t, err)
	c.WithTimeout(l.Options.Poll * 5).WithRetry(0)
	if err := c.Connect(t.Context()); err == nil {
		t.Error("it connected: see DialIPMI")
	}
}
