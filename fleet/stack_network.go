package fleet

import (
	"encoding/binary"
	"net/netip"
)

// MigrationRange are the first and the last address of the subnet that
// hypervisors take for live migrations, and how many there are. The first of the
// subnet is left to a gateway, and the last five to the proofs and to what people
// like to put there. None: 0, as for a subnet that is not of IPv4, or too small.
func (n VMNetwork) MigrationRange() (first, last netip.Addr, count int) {
	const before, after = 2, 5
	p, err := netip.ParsePrefix(n.Subnet)
	if err != nil || !p.Addr().Is4() || p.Bits() > 29 || p.Bits() < 8 {
		return first, last, 0
	}
	base := p.Masked().Addr().As4()
	from := binary.BigEndian.Uint32(base[:]) + before
	to := binary.BigEndian.Uint32(base[:]) | (1<<(32-p.Bits()) - 1) - after
	return address4(from), address4(to), int(to-from) + 1
}

func address4(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
