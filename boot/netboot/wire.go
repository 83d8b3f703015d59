package netboot

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// wire reads and writes DHCP as it passes an interface, below the computer's own
// sockets: a probe must hear answers to addresses that are not ours, and may not
// disturb the DHCP client that runs here.
type wire struct {
	file  *os.File
	index int
	buf   [maxPacket]byte
}

func openWire(device string) (*wire, error) {
	ifi, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	const ipv4 = unix.ETH_P_IP
	network := uint16(ipv4>>8 | ipv4<<8&0xff00)
	// protocol 0: nothing arrives before the filter is there
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	filter := fromServers()
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network, Ifindex: ifi.Index})
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("prepare packet socket: %w", err)
	}
	return &wire{file: os.NewFile(uintptr(fd), "dhcp on "+device), index: ifi.Index}, nil
}

// fromServers lets UDP from port 67 through, without fragments, so that we are
// not woken for every packet of the interface. Offsets are from the IP header.
func fromServers() []unix.SockFilter {
	const drop = 255 // replaced below by the distance to the end
	f := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 9},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: protoUDP, Jf: drop},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 6},
		{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: 0x1fff, Jt: drop},
		{Code: unix.BPF_LDX | unix.BPF_B | unix.BPF_MSH, K: 0},
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_IND, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(doorDHCP), Jf: drop},
		{Code: unix.BPF_RET | unix.BPF_K, K: maxPacket},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	for i := range f {
		distance := uint8(len(f) - 1 - (i + 1))
		if f[i].Jt == drop {
			f[i].Jt = distance
		}
		if f[i].Jf == drop {
			f[i].Jf = distance
		}
	}
	return f
}

// read returns the next datagram and the MAC address it came from. Only one
// goroutine may read; the datagram is valid until the next call.
func (w *wire) read() (datagram, string, error) {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return datagram{}, "", err
	}
	for {
		var n int
		var from unix.Sockaddr
		var rerr error
		if err := raw.Read(func(fd uintptr) bool {
			n, from, rerr = unix.Recvfrom(int(fd), w.buf[:], 0)
			return rerr != unix.EAGAIN && rerr != unix.EINTR
		}); err != nil {
			return datagram{}, "", net.ErrClosed
		}
		if rerr != nil {
			return datagram{}, "", rerr
		}
		link, ok := from.(*unix.SockaddrLinklayer)
		if !ok || link.Pkttype == unix.PACKET_OUTGOING {
			continue // our own
		}
		if d, ok := parseDatagram(w.buf[:n]); ok {
			return d, net.HardwareAddr(link.Addr[:min(link.Halen, 6)]).String(), nil
		}
	}
}

// broadcast sends a client's message to all servers.
func (w *wire) broadcast(payload []byte) error {
	d := datagram{
		from:    netip.AddrPortFrom(netip.IPv4Unspecified(), 68),
		to:      netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), uint16(doorDHCP)),
		payload: payload,
	}
	raw, err := w.file.SyscallConn()
	if err != nil {
		return err
	}
	const ipv4 = unix.ETH_P_IP
	to := &unix.SockaddrLinklayer{Protocol: uint16(ipv4>>8 | ipv4<<8&0xff00), Ifindex: w.index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	var serr error
	if err := raw.Write(func(fd uintptr) bool {
		serr = unix.Sendto(int(fd), d.bytes(), 0, to)
		return serr != unix.EAGAIN
	}); err != nil {
		return err
	}
	return serr
}

func (w *wire) Close() error { return w.file.Close() }
