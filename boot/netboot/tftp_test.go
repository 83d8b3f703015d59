package netboot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// memory is a table of bytes.
type memory map[string][]byte

func (m memory) File(name string, _ netip.Addr, _ time.Time) (File, error) {
	b, ok := m[name]
	if !ok {
		return File{}, fs.ErrNotExist
	}
	return File{Name: name, Body: bytes.NewReader(b), Size: int64(len(b))}, nil
}

// noise is n bytes that compress badly and repeat nowhere.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// onLoopback serves files on a free port of the loopback interface.
func onLoopback(t testing.TB, files Files, mtu int) netip.AddrPort {
	t.Helper()
	s, err := listenTFTP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), files, mtu)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(s.run)
	t.Cleanup(func() {
		_ = s.Close()
		wg.Wait()
	})
	return s.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// receiver is a client of RFC 7440 that can be made to misbehave.
type receiver struct {
	to      netip.AddrPort
	options []string
	// lose says whether a data packet gets lost; seen counts from 0.
	lose func(seen int, block uint16) bool
	// repeat sends each acknowledgement twice.
	repeat bool

	oack  map[string]string
	conn  *net.UDPConn
	peer  netip.AddrPort
	seen  int
	bytes int
}

func request(op uint16, name, mode string, options ...string) []byte {
	b := binary.BigEndian.AppendUint16(nil, op)
	for _, s := range append([]string{name, mode}, options...) {
		b = append(append(b, s...), 0)
	}
	return b
}

func (c *receiver) get(name string) ([]byte, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c.conn = conn
	if _, err := conn.WriteToUDPAddrPort(request(opRead, name, "octet", c.options...), c.to); err != nil {
		return nil, err
	}
	return c.receive()
}

func (c *receiver) ack(n uint16) {
	b := binary.BigEndian.AppendUint16([]byte{0, opAck}, n)
	for range 1 + map[bool]int{true: 1}[c.repeat] {
		_, _ = c.conn.WriteToUDPAddrPort(b, c.peer)
	}
}

func (c *receiver) receive() ([]byte, error) {
	block, window := 512, 1
	var out []byte
	var last uint16
	inWindow, asked := 0, false
	buf := make([]byte, 70000)
	for {
		_ = c.conn.SetReadDeadline(time.Now().Add(8 * time.Second))
		n, from, err := c.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return out, err
		}
		c.peer = from
		switch binary.BigEndian.Uint16(buf) {
		case opError:
			return out, fmt.Errorf("error %d: %s", binary.BigEndian.Uint16(buf[2:]), bytes.TrimRight(buf[4:n], "\x00"))
		case opOAck:
			c.oack = map[string]string{}
			fields := strings.Split(string(buf[2:n-1]), "\x00")
			for i := 0; i+1 < len(fields); i += 2 {
				c.oack[fields[i]] = fields[i+1]
			}
			_, _ = fmt.Sscan(c.oack["blksize"], &block)
			_, _ = fmt.Sscan(c.oack["windowsize"], &window)
			c.ack(0)
		case opData:
			number := binary.BigEndian.Uint16(buf[2:])
			c.seen++
			if c.lose != nil && c.lose(c.seen-1, number) {
				continue
			}
			if number != last+1 {
				if !asked { // RFC 7440 section 4: say once where to go on
					asked, inWindow = true, 0
					c.ack(last)
				}
				continue
			}
			last, asked = number, false
			out = append(out, buf[4:n]...)
			c.bytes += n - 4
			if inWindow++; inWindow == window || n-4 < block {
				inWindow = 0
				c.ack(last)
			}
			if n-4 < block {
				return out, nil
			}
		}
	}
}

func TestTransfers(t *testing.T) {
	files := memory{"empty": {}, "short": noise(100), "exact": noise(1024), "long": noise(300_001), "many": noise(70_000 * 16)}
	to := onLoopback(t, files, 1500)
	for _, tt := range []struct {
		name    string
		options []string
		oack    map[string]string
	}{
		{"empty", nil, nil},
		{"short", nil, nil},
		{"exact", nil, nil},
		{"long", []string{"blksize", "1468", "tsize", "0"}, map[string]string{"blksize": "1468", "tsize": "300001"}},
		{"long", []string{"BLKSIZE", "9000", "windowsize", "4"}, map[string]string{"blksize": "1468", "windowsize": "4"}},
		{"long", []string{"windowsize", "65535", "timeout", "3"}, map[string]string{"windowsize": "64", "timeout": "3"}},
		{"long", []string{"blksize", "7", "windowsize", "0", "timeout", "256", "multicast", "x", "tsize", "5"}, nil},
		// more than 65,535 blocks: the numbers begin again
		{"many", []string{"blksize", "16", "windowsize", "32"}, map[string]string{"blksize": "16", "windowsize": "32"}},
	} {
		c := receiver{to: to, options: tt.options}
		got, err := c.get(tt.name)
		if err != nil || !bytes.Equal(got, files[tt.name]) {
			t.Errorf("%s %v: %d of %d bytes, %v", tt.name, tt.options, len(got), len(files[tt.name]), err)
		}
		if fmt.Sprint(c.oack) != fmt.Sprint(tt.oack) {
			t.Errorf("%s %v: agreed %v, want %v", tt.name, tt.options, c.oack, tt.oack)
		}
	}
}

func TestTransfersOverABadLink(t *testing.T) {
	files := memory{"f": noise(40_000)}
	to := onLoopback(t, files, 1500)
	r := rand.New(rand.NewPCG(1, 2))
	for name, c := range map[string]*receiver{
		"first of a window": {options: []string{"windowsize", "8"}, lose: func(seen int, _ uint16) bool { return seen == 8 }},
		"middle":            {options: []string{"windowsize", "8"}, lose: func(seen int, _ uint16) bool { return seen == 11 }},
		"last":              {options: []string{"windowsize", "8"}, lose: func(seen int, _ uint16) bool { return seen == 15 }},
		"some":              {options: []string{"windowsize", "16"}, lose: func(int, uint16) bool { return r.IntN(40) == 0 }},
		"lock step":         {lose: func(seen int, _ uint16) bool { return seen == 5 }},
	} {
		c.to = to
		got, err := c.get("f")
		if err != nil || !bytes.Equal(got, files["f"]) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	// repeated acknowledgements must not multiply what is sent (RFC 1123 section 4.2.3.1)
	c := &receiver{to: to, repeat: true}
	got, err := c.get("f")
	if err != nil || !bytes.Equal(got, files["f"]) || c.seen > 40_000/512+2 {
		t.Errorf("repeated acknowledgements: %d packets for %d blocks, %v", c.seen, 40_000/512+1, err)
	}
}

func TestRefusals(t *testing.T) {
	to := onLoopback(t, memory{"f": noise(10)}, 1500)
	for name, tt := range map[string]struct {
		packet []byte
		want   string
	}{
		"unknown":     {request(opRead, "g", "octet"), "error 1"},
		"path":        {request(opRead, "../../etc/passwd", "octet"), "error 1"},
		"absolute":    {request(opRead, "//etc/passwd", "octet"), "error 1"},
		"write":       {request(opWrite, "f", "octet"), "error 2"},
		"mail":        {request(opRead, "f", "mail"), "error 4"},
		"no end":      {[]byte("\x00\x01f\x00octet"), "error 4"},
		"no mode":     {[]byte("\x00\x01ffff\x00"), "error 4"},
		"error":       {[]byte("\x00\x05\x00\x01x\x00"), "timeout"},
		"too long":    {request(opRead, strings.Repeat("f", 600), "octet"), "timeout"},
		"short":       {[]byte{0, 1}, "timeout"},
		"data":        {[]byte("\x00\x03\x00\x01data"), "timeout"},
		"long name":   {request(opRead, strings.Repeat("f", 129), "octet"), "error 1"},
		"options":     {request(opRead, "f", "octet", strings.Split(strings.Repeat("a,1,", 20)+"b,1", ",")...), "error 4"},
		"empty name":  {request(opRead, "", "octet"), "error 1"},
		"hidden":      {request(opRead, ".f", "octet"), "error 1"},
		"backslashes": {request(opRead, `\f`, "octet"), "error 1"},
	} {
		conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write(tt.packet)
		wait := 2 * time.Second
		if tt.want == "timeout" {
			wait = 50 * time.Millisecond
		}
		_ = conn.SetReadDeadline(time.Now().Add(wait))
		buf := make([]byte, 600)
		n, err := conn.Read(buf)
		got := "timeout"
		if err == nil && n >= 4 && buf[1] == opError {
			got = fmt.Sprintf("error %d", buf[3])
		} else if err == nil {
			got = fmt.Sprintf("%q", buf[:n])
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
		conn.Close()
	}
}

func TestOneSenderCannotOpenManyTransfers(t *testing.T) {
	to := onLoopback(t, memory{"f": noise(100_000)}, 1500)
	refused := 0
	for range maxTransfersEach + 4 {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, _ = conn.WriteToUDPAddrPort(request(opRead, "f", "octet"), to)
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		buf := make([]byte, 600)
		if n, err := conn.Read(buf); err != nil || n < 4 {
			t.Fatal(n, err)
		}
		if buf[1] == opError {
			refused++
		}
	}
	if refused != 4 {
		t.Errorf("%d refused, want 4", refused)
	}
}

// TestTFTPClients fetches with programs of others.
func TestTFTPClients(t *testing.T) {
	newSegment(t)
	want := noise(1_500_000)
	b := book()
	listen(t, b, Whole, func(c *Config) { c.Files = memory{"big.img": want} })
	plug(t, "n1", knownMAC)
	run(t, "ip", "-n", "n1", "addr", "add", "192.0.2.11/24", "dev", "eth0")
	dir := t.TempDir()
	for i, args := range [][]string{
		{"curl", "-sS", "--max-time", "15", "-o", "OUT", "tftp://192.0.2.1/big.img"},
		{"curl", "-sS", "--max-time", "15", "--tftp-blksize", "1468", "-o", "OUT", "tftp://192.0.2.1/big.img"},
		{"curl", "-sS", "--max-time", "15", "--tftp-no-options", "-o", "OUT", "tftp://192.0.2.1/big.img"},
		{"atftp", "--option", "blksize 1428", "--option", "windowsize 16", "--option", "tsize", "-g", "-r", "big.img", "-l", "OUT", "192.0.2.1"},
		{"tftp", "-m", "binary", "192.0.2.1", "-c", "get", "big.img", "OUT"},
		{"busybox", "tftp", "-b", "1468", "-g", "-r", "big.img", "-l", "OUT", "192.0.2.1"},
	} {
		need(t, args[0], "curl atftp tftp-hpa busybox")
		out := filepath.Join(dir, fmt.Sprint(i))
		for j := range args {
			if args[j] == "OUT" {
				args[j] = out
			}
		}
		said, err := in(t.Context(), "n1", args...)
		got, _ := os.ReadFile(out)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: %d bytes, %v: %s", args, len(got), err, said)
		}
	}
	if said, err := in(t.Context(), "n1", "curl", "-sS", "--max-time", "10", "tftp://192.0.2.1/other.img"); err == nil {
		t.Errorf("another name was opened: %q", said)
	}
	if s := b.saw(SightingFetched); s == nil || s.File != "big.img" || s.Bytes != int64(len(want)) {
		t.Errorf("sighting: %+v", s)
	}
}

func FuzzTFTPRequest(f *testing.F) {
	f.Add(request(opRead, "undionly.kpxe", "octet", "blksize", "1468", "tsize", "0", "windowsize", "4"))
	f.Add(request(opWrite, "x", "netascii"))
	f.Add([]byte{0, 5, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRequest(b)
		if err != nil {
			return
		}
		if !fileName(r.name) || strings.ContainsAny(r.name, "/\\\x00") {
			t.Fatalf("name %q got through", r.name)
		}
		a := r.agree(1<<20, 1468)
		if a.block < blockMin || a.block > 1468 || a.window < 1 || a.window > maxWindow || a.timeout < 0 || a.timeout > 255 || len(a.oack) > 200 {
			t.Fatalf("agreed %+v", a)
		}
	})
}
