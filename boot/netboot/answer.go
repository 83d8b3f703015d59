package netboot

import (
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Mode says who gives addresses on the segment.
type Mode string

const (
	Whole  Mode = "whole"  // we do, to our guests
	Beside Mode = "beside" // another DHCP server does; we only add what to boot
)

// lease is long enough for firmware and a live system, which gets its address
// by configuration. It promises nothing: the address is the machine's by plan.
const lease = 2 * time.Hour

// Loaders by architecture, as Debian and iPXE's own site name them.
const (
	LoaderBIOS  = "undionly.kpxe"
	LoaderUEFI  = "snponly.efi" // uses the firmware's own network driver, which just worked
	LoaderEFI   = "ipxe.efi"    // has drivers of its own
	LoaderARM64 = "snponly-arm64.efi"
)

// door is the port at which a request came in.
type door int

const (
	doorDHCP  door = 67
	doorProxy door = 4011 // boot server of a proxyDHCP, in the PXE specification
)

// verdict is what became of a request.
type verdict struct {
	kind SightingKind // "" says nothing
	why  string
}

// desk answers requests. It is pure: packet and guest in, packet out.
type desk struct {
	mode Mode
	self netip.Addr
}

// answer returns the reply to a guest's request, or nil.
func (d desk) answer(m *dhcpv4.DHCPv4, c Client, g Guest, at door) (*dhcpv4.DHCPv4, verdict) {
	if c.Class != ClassSystem && !fits(c, g) {
		return nil, verdict{SightingRefused, "it asks as " + string(c.Class) + " client, its planned road is " + string(g.Road)}
	}
	switch {
	case at == doorProxy:
		return d.bootServer(m, c, g)
	case d.mode == Beside:
		return d.beside(m, c, g)
	}
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return d.withAddress(m, c, g, dhcpv4.MessageTypeOffer), verdict{SightingOffered, ""}
	case dhcpv4.MessageTypeRequest:
		return d.request(m, c, g)
	case dhcpv4.MessageTypeInform:
		r := d.reply(m, dhcpv4.MessageTypeAck)
		d.tellNetwork(r, g)
		d.tellBoot(r, c, g)
		return r, verdict{}
	case dhcpv4.MessageTypeDecline:
		return nil, verdict{SightingDeclined, "it says that " + g.Address.Addr().String() + " is in use by another machine"}
	}
	return nil, verdict{}
}

// fits says whether firmware or loader of this kind has its place on the road.
func fits(c Client, g Guest) bool {
	switch c.Class {
	case ClassIPXE:
		return g.Road != RoadAddress && g.Script != ""
	case ClassPXE:
		return g.Road == RoadPXE && loaderFor(c, g) != ""
	case ClassHTTP:
		return g.Road == RoadUEFIHTTP
	}
	return true
}

// request answers a client that chose, or comes back (RFC 2131 section 4.3.2).
func (d desk) request(m *dhcpv4.DHCPv4, c Client, g Guest) (*dhcpv4.DHCPv4, verdict) {
	chosen, has := netip.AddrFromSlice(m.ServerIdentifier().To4())
	if has && chosen != d.self {
		return nil, verdict{} // it took another server's offer; the loop reports that server
	}
	ours := net.IP(g.Address.Addr().AsSlice())
	wanted := m.RequestedIPAddress()
	renews := !m.ClientIPAddr.IsUnspecified()
	if renews {
		wanted = m.ClientIPAddr
	}
	switch {
	case wanted.Equal(ours):
		return d.withAddress(m, c, g, dhcpv4.MessageTypeAck), verdict{SightingLeased, ""}
	case renews:
		// an address from elsewhere that it already uses: not ours to take away
		return nil, verdict{SightingRefused, "it renews " + wanted.String() + ", its planned address is " + ours.String()}
	}
	return d.reply(m, dhcpv4.MessageTypeNak), verdict{SightingRefused, "it wants " + clean(wanted.String(), 20) + ", its planned address is " + ours.String()}
}

// beside answers a proxyDHCP's DISCOVER: what to boot, and no address.
func (d desk) beside(m *dhcpv4.DHCPv4, c Client, g Guest) (*dhcpv4.DHCPv4, verdict) {
	if m.MessageType() != dhcpv4.MessageTypeDiscover || c.Class == ClassSystem {
		return nil, verdict{}
	}
	r := d.reply(m, dhcpv4.MessageTypeOffer)
	d.tellProxy(r, c)
	d.tellBoot(r, c, g)
	return r, verdict{SightingProxied, ""}
}

// bootServer answers at port 4011, where PXE firmware asks for the file when it
// did not take it from the proxy's offer.
func (d desk) bootServer(m *dhcpv4.DHCPv4, c Client, g Guest) (*dhcpv4.DHCPv4, verdict) {
	kind := m.MessageType()
	if kind != dhcpv4.MessageTypeRequest && kind != dhcpv4.MessageTypeInform || c.Class == ClassSystem {
		return nil, verdict{}
	}
	r := d.reply(m, dhcpv4.MessageTypeAck)
	d.tellProxy(r, c)
	d.tellBoot(r, c, g)
	return r, verdict{SightingProxied, ""}
}

// reply is a packet with what every answer holds.
func (d desk) reply(m *dhcpv4.DHCPv4, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	self := net.IP(d.self.AsSlice())
	r := &dhcpv4.DHCPv4{
		OpCode:         dhcpv4.OpcodeBootReply,
		HWType:         m.HWType,
		TransactionID:  m.TransactionID,
		Flags:          m.Flags,
		ClientIPAddr:   net.IPv4zero,
		YourIPAddr:     net.IPv4zero,
		ServerIPAddr:   net.IPv4zero,
		GatewayIPAddr:  m.GatewayIPAddr,
		ClientHWAddr:   m.ClientHWAddr,
		Options:        dhcpv4.Options{},
		ServerHostName: "", BootFileName: "",
	}
	r.UpdateOption(dhcpv4.OptMessageType(kind))
	r.UpdateOption(dhcpv4.OptServerIdentifier(self))
	// a relay wants its own option back (RFC 3046), a client its identifier (RFC
	// 6842), PXE firmware its UUID
	for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionRelayAgentInformation, dhcpv4.OptionClientIdentifier, dhcpv4.OptionClientMachineIdentifier} {
		if b := m.GetOneOption(code); len(b) > 0 && len(b) <= 255 {
			r.UpdateOption(dhcpv4.OptGeneric(code, b))
		}
	}
	return r
}

func (d desk) withAddress(m *dhcpv4.DHCPv4, c Client, g Guest, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	r := d.reply(m, kind)
	r.YourIPAddr = g.Address.Addr().AsSlice()
	if kind == dhcpv4.MessageTypeAck {
		r.ClientIPAddr = m.ClientIPAddr
	}
	r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(lease))
	d.tellNetwork(r, g)
	d.tellBoot(r, c, g)
	return r
}

func (d desk) tellNetwork(r *dhcpv4.DHCPv4, g Guest) {
	r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(g.Address.Bits(), 32)))
	if g.Gateway.IsValid() {
		r.UpdateOption(dhcpv4.OptRouter(g.Gateway.AsSlice()))
	}
	var dns []net.IP
	for _, a := range g.DNS[:min(len(g.DNS), 4)] {
		dns = append(dns, a.AsSlice())
	}
	if len(dns) > 0 {
		r.UpdateOption(dhcpv4.OptDNS(dns...))
	}
	if g.Host != "" {
		r.UpdateOption(dhcpv4.OptHostName(g.Host))
	}
}

// tellBoot adds what to boot, in the words that the client understands.
func (d desk) tellBoot(r *dhcpv4.DHCPv4, c Client, g Guest) {
	switch c.Class {
	case ClassHTTP:
		// UEFI 2.10 section 24.7.3: without this class it takes no address of a file
		r.UpdateOption(dhcpv4.OptClassIdentifier("HTTPClient"))
		r.UpdateOption(dhcpv4.OptBootFileName(g.Image))
	case ClassIPXE:
		if c.IPXE.HTTP || c.IPXE == (Features{}) {
			d.bootFile(r, g.Script)
		} else if name := loaderFor(c, g); name != "" {
			d.tftpFile(r, name) // an iPXE without HTTP loads one that has it
		}
		if d.mode == Whole {
			// it need not wait for a proxy's offer
			r.UpdateOption(dhcpv4.OptGeneric(optIPXE, []byte{noProxyDHCP, 1, 1}))
		}
	case ClassPXE:
		d.tftpFile(r, loaderFor(c, g))
	}
}

func (d desk) tftpFile(r *dhcpv4.DHCPv4, name string) {
	r.ServerIPAddr = d.self.AsSlice()
	r.UpdateOption(dhcpv4.OptTFTPServerName(d.self.String()))
	d.bootFile(r, name)
}

// bootFile names the file twice: old ROMs read only the header's field, whose
// last byte must stay zero.
func (d desk) bootFile(r *dhcpv4.DHCPv4, name string) {
	r.UpdateOption(dhcpv4.OptBootFileName(name))
	if len(name) < 128 {
		r.BootFileName = name
	}
}

// tellProxy marks an answer as a proxyDHCP's. Sub-option 6 of PXE's vendor
// options (discovery control, PXE 2.1 section 2.4.1), bit 3: boot the named file,
// look for no menu and no other boot server.
func (d desk) tellProxy(r *dhcpv4.DHCPv4, c Client) {
	r.ServerIPAddr = d.self.AsSlice()
	if c.Class != ClassHTTP {
		r.UpdateOption(dhcpv4.OptClassIdentifier("PXEClient"))
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{6, 1, 8, 255}))
	}
}

// loaderFor is the TFTP file for a machine, "" when there is none for it.
func loaderFor(c Client, g Guest) string {
	if g.Loader != "" {
		return g.Loader
	}
	switch c.Arch {
	case ArchBIOS, ArchUnknown: // PXE before 2.1 does not tell
		return LoaderBIOS
	case ArchUEFIx64:
		return LoaderUEFI
	case ArchUEFIarm:
		return LoaderARM64
	}
	return ""
}
