package guest

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Prefix begins the name of each of our parameters on the kernel's command
// line. The kernel itself ignores names with a dot that belong to no module.
const Prefix = "metalrise."

// Bounds of orders. The kernel's command line has 2048 bytes on x86
// (COMMAND_LINE_SIZE), which all orders together keep.
const (
	maxCommandLine = 2048
	maxName        = 63
	maxNets        = 4
	DefaultBeat    = time.Second
	MinBeat        = 50 * time.Millisecond
	MaxBeat        = time.Minute
)

// Orders are what a guest is told when it boots. The zero value only beats.
type Orders struct {
	Nonce string        // names the run: letters, digits, '-', '.', at most 63
	Beat  time.Duration // between two lines; 0: DefaultBeat
	Nets  []Net         // network cards that it configures, at most 4
	Ping  netip.Addr    // IPv4 address it sends echo requests to, unset: none
	// Listen is the TCP port on which it answers each call with its nonce and
	// boot; 0: none.
	Listen uint16
	Dial   netip.AddrPort // where it calls another guest's Listen, unset: nowhere
	// Disk is the serial of a block device that it reads, and writes Mark on
	// when Mark is not there yet. "": none.
	Disk string
	Mark string
	// Cloud is the serial of a cloud-init disk (NoCloud) of which it tells the
	// instance id. "": none.
	Cloud string
	Life  time.Duration // after which it switches itself off; 0: never
}

// Net is one network card with its address.
type Net struct {
	MAC     string       // "02:00:00:00:00:01", lower case
	Address netip.Prefix // IPv4 with the length of its network
	Gateway netip.Addr   // of the default route; unset: none
}

// Args writes the orders as parameters of the kernel.
func (o Orders) Args() string {
	var b strings.Builder
	add := func(name, value string) {
		if value == "" {
			return
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(Prefix + name + "=" + value)
	}
	add("nonce", o.Nonce)
	if o.Beat > 0 {
		add("beat", o.Beat.String())
	}
	for _, n := range o.Nets {
		value := n.MAC + "," + n.Address.String()
		if n.Gateway.IsValid() {
			value += "," + n.Gateway.String()
		}
		add("net", value)
	}
	if o.Ping.IsValid() {
		add("ping", o.Ping.String())
	}
	if o.Listen != 0 {
		add("listen", strconv.Itoa(int(o.Listen)))
	}
	if o.Dial.IsValid() {
		add("dial", o.Dial.String())
	}
	add("disk", o.Disk)
	add("mark", o.Mark)
	add("cloud", o.Cloud)
	if o.Life > 0 {
		add("life", o.Life.String())
	}
	return b.String()
}

// ParseOrders reads the orders from a kernel's command line. Parameters of
// others are passed over; one of ours that is unknown or wrong is an error, and
// the orders read so far are given with it.
func ParseOrders(commandLine string) (Orders, error) {
	o := Orders{Beat: DefaultBeat}
	if len(commandLine) > maxCommandLine {
		return o, fmt.Errorf("command line of %d bytes is longer than %d", len(commandLine), maxCommandLine)
	}
	for _, field := range strings.Fields(commandLine) {
		order, ours := strings.CutPrefix(field, Prefix)
		if !ours {
			continue
		}
		name, value, _ := strings.Cut(order, "=")
		if err := o.take(name, value); err != nil {
			return o, fmt.Errorf("order %q: %w", clip(field), err)
		}
	}
	return o, nil
}

func (o *Orders) take(name, value string) (err error) {
	switch name {
	case "nonce":
		o.Nonce, err = nameOf(value)
	case "disk":
		o.Disk, err = nameOf(value)
	case "mark":
		o.Mark, err = nameOf(value)
	case "cloud":
		o.Cloud, err = nameOf(value)
	case "beat":
		var d time.Duration
		if d, err = duration(value, MinBeat, MaxBeat); err == nil {
			o.Beat = d
		}
	case "life":
		o.Life, err = duration(value, time.Second, 24*time.Hour)
	case "ping":
		o.Ping, err = address(value)
	case "dial":
		if o.Dial, err = netip.ParseAddrPort(value); err == nil && !o.Dial.Addr().Is4() {
			err = fmt.Errorf("%s is no IPv4 address", o.Dial.Addr())
		}
	case "listen":
		var port uint64
		port, err = strconv.ParseUint(value, 10, 16)
		o.Listen = uint16(port)
	case "net":
		var n Net
		if n, err = parseNet(value); err == nil && len(o.Nets) == maxNets {
			err = fmt.Errorf("there are more than %d networks", maxNets)
		}
		if err == nil {
			o.Nets = append(o.Nets, n)
		}
	default:
		err = fmt.Errorf("it is not known")
	}
	return err
}

func parseNet(value string) (Net, error) {
	parts := strings.Split(value, ",")
	if len(parts) != 2 && len(parts) != 3 {
		return Net{}, fmt.Errorf("want MAC,address/length or MAC,address/length,gateway")
	}
	mac, err := net.ParseMAC(parts[0])
	if err != nil || len(mac) != 6 {
		return Net{}, fmt.Errorf("%q is no MAC address", clip(parts[0]))
	}
	n := Net{MAC: mac.String()}
	if n.Address, err = netip.ParsePrefix(parts[1]); err != nil || !n.Address.Addr().Is4() {
		return Net{}, fmt.Errorf("%q is no IPv4 address with a length", clip(parts[1]))
	}
	if len(parts) == 3 {
		n.Gateway, err = address(parts[2])
	}
	return n, err
}

func address(value string) (netip.Addr, error) {
	a, err := netip.ParseAddr(value)
	if err != nil || !a.Is4() {
		return netip.Addr{}, fmt.Errorf("%q is no IPv4 address", clip(value))
	}
	return a, nil
}

func duration(value string, least, most time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < least || d > most {
		return 0, fmt.Errorf("%q is no time from %s to %s", clip(value), least, most)
	}
	return d, nil
}

// nameOf checks a name as it may stand in orders and words.
func nameOf(value string) (string, error) {
	if value == "" || len(value) > maxName || strings.ContainsFunc(value, func(r rune) bool { return !plain(r) }) {
		return "", fmt.Errorf("%q is no name of at most %d letters, digits, '-' and '.'", clip(value), maxName)
	}
	return value, nil
}

func plain(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.'
}

func clip(s string) string {
	if len(s) > 80 {
		return strings.ToValidUTF8(s[:80], "") + "…"
	}
	return s
}
