package guest

import "encoding/binary"

// Kinds of ICMP messages (RFC 792).
const (
	echoReply   = 0
	echoRequest = 8
	echoSize    = 8 + 56 // as ping(8) sends
)

// echo makes an ICMP echo request.
func echo(id, seq uint16) []byte {
	b := make([]byte, echoSize)
	b[0] = echoRequest
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], seq)
	binary.BigEndian.PutUint16(b[2:], checksum(b))
	return b
}

// isAnswer tells whether an IPv4 packet, as a raw socket gives it with its
// header, is the reply to one echo request.
func isAnswer(packet []byte, id, seq uint16) bool {
	if len(packet) < 20 {
		return false
	}
	header := int(packet[0]&15) * 4
	if packet[0]>>4 != 4 || header < 20 || len(packet) < header+8 {
		return false
	}
	b := packet[header:]
	return b[0] == echoReply && binary.BigEndian.Uint16(b[4:]) == id && binary.BigEndian.Uint16(b[6:]) == seq
}

// checksum is that of the Internet (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
