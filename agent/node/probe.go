package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// question is how one address family asks who has an address.
type question struct {
	protocol uint16 // EtherType
	to       net.HardwareAddr
	packet   []byte // without the Ethernet header
	// answer finds the MAC address of who holds the address, if a packet says so.
	answer func(packet []byte, from net.HardwareAddr) (net.HardwareAddr, bool)
}

// probe asks a segment three times who has an address, and returns the MAC
// address of the first who answers, nil when nobody does. It needs the right to
// open packet sockets.
func probe(ctx context.Context, at net.Interface, address netip.Addr) (net.HardwareAddr, error) {
	if len(at.HardwareAddr) != 6 {
		return nil, fmt.Errorf("%s is no Ethernet interface", at.Name)
	}
	var q question
	if address.Is4() {
		q = arpQuestion(at.HardwareAddr, address)
	} else {
		q = neighbourQuestion(address)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(bigEndian(q.protocol)))
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	here := &unix.SockaddrLinklayer{Protocol: bigEndian(q.protocol), Ifindex: at.Index}
	if err := unix.Bind(fd, here); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	to := &unix.SockaddrLinklayer{Protocol: bigEndian(q.protocol), Ifindex: at.Index, Halen: 6}
	copy(to.Addr[:], q.to)
	for i := range probes {
		if err := unix.Sendto(fd, q.packet, 0, to); err != nil {
			return nil, fmt.Errorf("send: %w", err)
		}
		wait := probeGap
		if i == probes-1 {
			wait = probeEnd
		}
		holder, err := listen(ctx, fd, at.HardwareAddr, q, time.Now().Add(wait))
		if holder != nil || err != nil {
			return holder, err
		}
	}
	return nil, nil
}

// listen waits for an answer from another machine.
func listen(ctx context.Context, fd int, own net.HardwareAddr, q question, until time.Time) (net.HardwareAddr, error) {
	buf := make([]byte, 2048)
	for {
		left := time.Until(until)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if left <= 0 {
			return nil, nil
		}
		// In short steps, so that the end of the context is noticed.
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(min(left, 100*time.Millisecond).Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("wait for an answer: %w", err)
		}
		if ready <= 0 {
			continue
		}
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("hear an answer: %w", err)
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok || link.Pkttype == unix.PACKET_OUTGOING || link.Halen != 6 {
			continue
		}
		sender := net.HardwareAddr(bytes.Clone(link.Addr[:6]))
		if holder, ok := q.answer(buf[:n], sender); ok && !bytes.Equal(holder, own) && !bytes.Equal(sender, own) {
			return holder, nil
		}
	}
}

func bigEndian(v uint16) uint16 { return v<<8 | v>>8 }

// arpQuestion is an ARP probe (RFC 5227, section 2.1.1): a request with an
// all-zero sender address, so that nobody's cache changes by being asked.
func arpQuestion(own net.HardwareAddr, address netip.Addr) question {
	a := address.As4()
	p := binary.BigEndian.AppendUint16(nil, 1)         // Ethernet
	p = binary.BigEndian.AppendUint16(p, 0x0800)       // IPv4
	p = append(p, 6, 4, 0, 1)                          // lengths, request
	p = append(append(p, own...), 0, 0, 0, 0)          // sender
	p = append(append(p, make([]byte, 6)...), a[:]...) // target
	return question{
		protocol: unix.ETH_P_ARP, to: net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, packet: p,
		answer: func(p []byte, _ net.HardwareAddr) (net.HardwareAddr, bool) {
			// Requests count as well as replies: whoever sends from the address has it.
			if len(p) < 28 || !bytes.Equal(p[:6], []byte{0, 1, 8, 0, 6, 4}) || !bytes.Equal(p[14:18], a[:]) {
				return nil, false
			}
			return bytes.Clone(p[8:14]), true
		},
	}
}

// neighbourQuestion is the solicitation of duplicate address detection (RFC
// 4862, section 5.4.2): from the unspecified address to the solicited-node
// multicast address.
func neighbourQuestion(address netip.Addr) question {
	const icmp, hopLimit, solicitation, advertisement = 58, 255, 135, 136
	a := address.As16()
	group := [16]byte{0: 0xff, 1: 0x02, 11: 0x01, 12: 0xff, 13: a[13], 14: a[14], 15: a[15]}
	message := append([]byte{solicitation, 0, 0, 0, 0, 0, 0, 0}, a[:]...)
	var source [16]byte
	binary.BigEndian.PutUint16(message[2:], checksum6(source, group, icmp, message))
	p := []byte{0x60, 0, 0, 0, 0, byte(len(message)), icmp, hopLimit}
	p = append(append(append(p, source[:]...), group[:]...), message...)
	return question{
		protocol: unix.ETH_P_IPV6, to: net.HardwareAddr{0x33, 0x33, 0xff, a[13], a[14], a[15]}, packet: p,
		answer: func(p []byte, from net.HardwareAddr) (net.HardwareAddr, bool) {
			// A hop limit below 255 has come through a router (RFC 4861, section 7.1.2).
			if len(p) < 64 || p[0]>>4 != 6 || p[6] != icmp || p[7] != hopLimit || p[40] != advertisement || !bytes.Equal(p[48:64], a[:]) {
				return nil, false
			}
			if o := p[64:]; len(o) >= 8 && o[0] == 2 && o[1] == 1 { // target link-layer address
				return bytes.Clone(o[2:8]), true
			}
			return from, true
		},
	}
}

// checksum6 is the checksum over a message and its pseudo-header (RFC 8200,
// section 8.1).
func checksum6(source, to [16]byte, protocol byte, message []byte) uint16 {
	b := append(append([]byte{}, source[:]...), to[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(message)))
	b = append(append(b, 0, 0, 0, protocol), message...)
	if len(b)%2 == 1 {
		b = append(b, 0)
	}
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
