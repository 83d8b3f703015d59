package netboot

import (
	"encoding/binary"
	"net/netip"
)

// datagram is a UDP datagram as it stands on the wire.
type datagram struct {
	from, to netip.AddrPort
	payload  []byte
}

const (
	ipHeader  = 20
	udpHeader = 8
	protoUDP  = 17
)

// parseDatagram reads an IPv4 packet. It knows no fragments: DHCP has none.
func parseDatagram(b []byte) (datagram, bool) {
	if len(b) < ipHeader+udpHeader || b[0]>>4 != 4 || b[9] != protoUDP {
		return datagram{}, false
	}
	be := binary.BigEndian
	head, total := int(b[0]&15)*4, int(be.Uint16(b[2:]))
	if head < ipHeader || total > len(b) || total < head+udpHeader || be.Uint16(b[6:])&0x3fff != 0 {
		return datagram{}, false
	}
	u := b[head:total]
	n := int(be.Uint16(u[4:]))
	if n < udpHeader || n > len(u) {
		return datagram{}, false
	}
	return datagram{
		from:    netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), be.Uint16(u)),
		to:      netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), be.Uint16(u[2:])),
		payload: u[udpHeader:n],
	}, true
}

// bytes is the IPv4 packet, without a UDP checksum, which IPv4 allows to leave out.
func (d datagram) bytes() []byte {
	be := binary.BigEndian
	total := ipHeader + udpHeader + len(d.payload)
	b := make([]byte, total)
	b[0], b[8], b[9] = 0x45, 64, protoUDP
	be.PutUint16(b[2:], uint16(total))
	from, to := d.from.Addr().As4(), d.to.Addr().As4()
	copy(b[12:], from[:])
	copy(b[16:], to[:])
	be.PutUint16(b[10:], checksum(b[:ipHeader]))
	u := b[ipHeader:]
	be.PutUint16(u, d.from.Port())
	be.PutUint16(u[2:], d.to.Port())
	be.PutUint16(u[4:], uint16(udpHeader+len(d.payload)))
	copy(u[udpHeader:], d.payload)
	return b
}

// checksum is that of RFC 1071, over an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
