package guest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	tripPace = 250 * time.Millisecond // between two questions
	tripWait = 2 * time.Second        // for an answer; later ones count as lost
	cardWait = 20 * time.Second       // until a network card that was ordered is there
)

// configure gives the network cards their addresses, and tells of each when it
// is up.
func (g *machine) configure() {
	g.fault(up("lo", netip.MustParsePrefix("127.0.0.1/8"), netip.Addr{}))
	for _, n := range g.orders.Nets {
		name, err := card(n.MAC)
		if err == nil {
			err = up(name, n.Address, n.Gateway)
		}
		if err != nil {
			g.fault(fmt.Errorf("network card %s: %w", n.MAC, err))
			continue
		}
		g.say(func(b *Beat) { b.Addresses = append(b.Addresses, n.Address) })
	}
}

// card finds a network card by its MAC address; drivers find theirs late.
func card(mac string) (string, error) {
	for until := time.Now().Add(cardWait); ; time.Sleep(100 * time.Millisecond) {
		all, err := net.Interfaces()
		if err != nil {
			return "", err
		}
		for _, i := range all {
			if i.HardwareAddr.String() == mac {
				return i.Name, nil
			}
		}
		if time.Now().After(until) {
			return "", fmt.Errorf("there is none with this MAC address")
		}
	}
}

// request is struct ifreq of <linux/if.h>: a name and one of many values.
type request struct {
	name  [syscall.IFNAMSIZ]byte
	value [24]byte
}

// up gives a card its IPv4 address and default route by the ioctls of
// netdevice(7).
func up(name string, a netip.Prefix, gateway netip.Addr) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	mask := net.CIDRMask(a.Bits(), 32)
	for _, step := range []struct {
		what  string
		call  uintptr
		value []byte
	}{
		{"set its address", syscall.SIOCSIFADDR, socketAddress(a.Addr())},
		{"set its netmask", syscall.SIOCSIFNETMASK, socketAddress(netip.AddrFrom4([4]byte(mask)))},
		{"set it up", syscall.SIOCSIFFLAGS, binary.LittleEndian.AppendUint16(nil, syscall.IFF_UP|syscall.IFF_RUNNING)},
	} {
		var r request
		copy(r.name[:syscall.IFNAMSIZ-1], name)
		copy(r.value[:], step.value)
		if err := ioctl(fd, step.call, unsafe.Pointer(&r)); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	if !gateway.IsValid() {
		return nil
	}
	if err := route(fd, gateway); err != nil {
		return fmt.Errorf("set the default route by %s: %w", gateway, err)
	}
	return nil
}

// entry is struct rtentry of <linux/route.h> on 64-bit machines.
type entry struct {
	_                          uint64
	destination, gateway, mask [16]byte
	flags                      uint16
	_                          [70]byte
}

func route(fd int, gateway netip.Addr) error {
	any4 := socketAddress(netip.IPv4Unspecified())
	e := entry{flags: syscall.RTF_UP | syscall.RTF_GATEWAY}
	copy(e.destination[:], any4)
	copy(e.mask[:], any4)
	copy(e.gateway[:], socketAddress(gateway))
	return ioctl(fd, syscall.SIOCADDRT, unsafe.Pointer(&e))
}

func ioctl(fd int, call uintptr, value unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), call, uintptr(value)); errno != 0 {
		return errno
	}
	return nil
}

// socketAddress is struct sockaddr_in of <netinet/in.h>.
func socketAddress(a netip.Addr) []byte {
	b := binary.LittleEndian.AppendUint16(nil, syscall.AF_INET)
	b = append(b, 0, 0)
	ip := a.As4()
	return append(append(b, ip[:]...), make([]byte, 8)...)
}

// ping asks the peer by ICMP echo (RFC 792), one question at a time.
func (g *machine) ping() {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP)
	if err != nil {
		g.fault(fmt.Errorf("ping %s: %w", g.orders.Ping, err))
		return
	}
	id := uint16(time.Now().UnixNano())
	for seq := uint16(1); ; seq++ {
		asked := time.Now()
		err := syscall.Sendto(fd, echo(id, seq), 0, &syscall.SockaddrInet4{Addr: g.orders.Ping.As4()})
		g.say(func(b *Beat) { b.Ping.Sent++ })
		if err != nil {
			g.fault(fmt.Errorf("ping %s: %w", g.orders.Ping, err))
		} else if answered(fd, g.orders.Ping, id, seq, asked.Add(tripWait)) {
			took := time.Since(asked)
			g.say(func(b *Beat) { b.Ping.took(took) })
		}
		time.Sleep(tripPace)
	}
}

// answered reads until the answer to one question came, or the time is over.
func answered(fd int, peer netip.Addr, id, seq uint16, until time.Time) bool {
	b := make([]byte, 1500)
	for {
		left := time.Until(until)
		if left <= 0 {
			return false
		}
		wait := syscall.NsecToTimeval(max(left, time.Millisecond).Nanoseconds())
		if syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait) != nil {
			return false
		}
		n, from, err := syscall.Recvfrom(fd, b, 0)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return false
		}
		a, ok := from.(*syscall.SockaddrInet4)
		if ok && netip.AddrFrom4(a.Addr) == peer && isAnswer(b[:n], id, seq) {
			return true
		}
	}
}

// dial calls the other guest, one call at a time.
func (g *machine) dial() {
	for {
		asked := time.Now()
		boot, err := call(g.orders.Dial, g.orders.Nonce)
		took := time.Since(asked)
		g.say(func(b *Beat) {
			b.Dial.Sent++
			if err == nil {
				b.Heard = boot
				b.Dial.took(took)
			}
		})
		if err != nil {
			g.fault(fmt.Errorf("call %s: %w", g.orders.Dial, err))
		}
		time.Sleep(tripPace)
	}
}

// call asks the guest at an address for its boot. One of another run is none.
func call(to netip.AddrPort, nonce string) (boot string, err error) {
	conn, err := net.DialTimeout("tcp4", to.String(), tripWait)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(tripWait))
	line, err := bufio.NewReader(io.LimitReader(conn, maxLine)).ReadString('\n')
	if err != nil {
		return "", err
	}
	return parseAnswer(line, nonce)
}

// answer is what a guest says to a caller.
func answer(nonce, boot string) string { return opening + nonce + " " + boot + "\n" }

func parseAnswer(line, nonce string) (boot string, err error) {
	rest, ok := strings.CutPrefix(strings.TrimRight(line, "\n"), opening)
	who, boot, two := strings.Cut(rest, " ")
	if _, err := nameOf(boot); !ok || !two || err != nil || len(boot) != bootLength {
		return "", fmt.Errorf("what answers is no guest of ours: %q", clip(line))
	}
	if who != nonce {
		return "", fmt.Errorf("the guest that answers is of another run, %s", clip(who))
	}
	return boot, nil
}

// listen answers calls.
func (g *machine) listen() {
	l, err := net.Listen("tcp4", fmt.Sprintf(":%d", g.orders.Listen))
	if err != nil {
		g.fault(err)
		return
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			time.Sleep(tripPace)
			continue
		}
		conn.SetDeadline(time.Now().Add(tripWait))
		io.WriteString(conn, answer(g.orders.Nonce, g.boot))
		conn.Close()
	}
}
