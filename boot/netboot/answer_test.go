package netboot

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

func message(t testing.TB, kind dhcpv4.MessageType, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	mac, _ := net.ParseMAC(knownMAC)
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(kind)}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func vendor(s string) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptClassIdentifier(s)) }
func arch(a iana.Arch) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptClientArch(a))
}
func raw(code uint8, b ...byte) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(code), b)
}

// shown is what of an answer decides.
func shown(r *dhcpv4.DHCPv4) string {
	if r == nil {
		return "silence"
	}
	file := r.BootFileNameOption()
	if i := strings.LastIndexByte(file, '/'); i >= 0 {
		file = "URL " + file[i+1:]
	}
	return fmt.Sprintf("%s %s next=%s class=%q file=%q", r.MessageType(), r.YourIPAddr, r.ServerIPAddr, r.ClassIdentifier(), file)
}

func TestAnswers(t *testing.T) {
	pxe := book().guests[knownMAC]
	web := pxe
	web.Road, web.Image = RoadUEFIHTTP, "http://192.0.2.1"+"/m/"+NewKey()+"/snponly.efi"
	plain := pxe
	plain.Road = RoadAddress
	proxied := pxe
	proxied.Address = netip.Prefix{}
	webProxied := web
	webProxied.Address = netip.Prefix{}
	bios, uefi := []dhcpv4.Modifier{vendor("PXEClient:Arch:00000:UNDI:002001"), arch(iana.INTEL_X86PC)}, []dhcpv4.Modifier{vendor("PXEClient:Arch:00007:UNDI:003016"), arch(iana.EFI_X86_64)}
	http := []dhcpv4.Modifier{vendor("HTTPClient:Arch:00016:UNDI:003016"), arch(iana.EFI_X86_64_HTTP)}
	with := func(more []dhcpv4.Modifier, a ...dhcpv4.Modifier) []dhcpv4.Modifier { return append(a, more...) }
	ipxe := with(bios, raw(175, featureHTTP, 1, 1, featureHTTPS, 1, 1))
	requested := func(ip string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(ip)))
	}
	chosen := func(ip string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(ip)))
	}
	const discover, ask, inform = dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform
	for name, tt := range map[string]struct {
		mode Mode
		at   door
		kind dhcpv4.MessageType
		more []dhcpv4.Modifier
		g    Guest
		want string
	}{
		"BIOS":                {Whole, doorDHCP, discover, bios, pxe, `OFFER 192.0.2.11 next=192.0.2.1 class="" file="undionly.kpxe"`},
		"UEFI":                {Whole, doorDHCP, discover, uefi, pxe, `OFFER 192.0.2.11 next=192.0.2.1 class="" file="snponly.efi"`},
		"UEFI by 9":           {Whole, doorDHCP, discover, []dhcpv4.Modifier{vendor("PXEClient"), arch(iana.EFI_BC)}, pxe, `OFFER 192.0.2.11 next=192.0.2.1 class="" file="snponly.efi"`},
		"arm64":               {Whole, doorDHCP, discover, []dhcpv4.Modifier{vendor("PXEClient"), arch(iana.EFI_ARM64)}, pxe, `OFFER 192.0.2.11 next=192.0.2.1 class="" file="snponly-arm64.efi"`},
		"no program for it":   {Whole, doorDHCP, discover, []dhcpv4.Modifier{vendor("PXEClient"), arch(iana.EFI_IA32)}, pxe, "silence"},
		"iPXE":                {Whole, doorDHCP, discover, ipxe, pxe, `OFFER 192.0.2.11 next=0.0.0.0 class="" file="URL boot.ipxe"`},
		"iPXE by class":       {Whole, doorDHCP, discover, with(bios, raw(77, []byte("iPXE")...)), pxe, `OFFER 192.0.2.11 next=0.0.0.0 class="" file="URL boot.ipxe"`},
		"iPXE by RFC 3004":    {Whole, doorDHCP, discover, with(bios, raw(77, []byte("\x04iPXE")...)), pxe, `OFFER 192.0.2.11 next=0.0.0.0 class="" file="URL boot.ipxe"`},
		"iPXE without HTTP":   {Whole, doorDHCP, discover, with(bios, raw(175, featureHTTPS, 1, 1)), pxe, `OFFER 192.0.2.11 next=192.0.2.1 class="" file="undionly.kpxe"`},
		"HTTP":                {Whole, doorDHCP, discover, http, web, `OFFER 192.0.2.11 next=0.0.0.0 class="HTTPClient" file="URL snponly.efi"`},
		"HTTP, planned PXE":   {Whole, doorDHCP, discover, http, pxe, "silence"},
		"PXE, planned HTTP":   {Whole, doorDHCP, discover, uefi, web, "silence"},
		"iPXE after HTTP":     {Whole, doorDHCP, discover, ipxe, web, `OFFER 192.0.2.11 next=0.0.0.0 class="" file="URL boot.ipxe"`},
		"system":              {Whole, doorDHCP, discover, nil, web, `OFFER 192.0.2.11 next=0.0.0.0 class="" file=""`},
		"nothing to boot":     {Whole, doorDHCP, discover, bios, plain, "silence"},
		"accepts":             {Whole, doorDHCP, ask, with(bios, requested("192.0.2.11"), chosen(ourself)), pxe, `ACK 192.0.2.11 next=192.0.2.1 class="" file="undionly.kpxe"`},
		"chose another":       {Whole, doorDHCP, ask, with(bios, requested("192.0.2.11"), chosen("192.0.2.2")), pxe, "silence"},
		"wants another":       {Whole, doorDHCP, ask, with(nil, requested("192.0.2.12"), chosen(ourself)), pxe, `NAK 0.0.0.0 next=0.0.0.0 class="" file=""`},
		"comes back":          {Whole, doorDHCP, ask, with(nil, requested("192.0.2.11")), pxe, `ACK 192.0.2.11 next=0.0.0.0 class="" file=""`},
		"renews":              {Whole, doorDHCP, ask, with(nil, dhcpv4.WithClientIP(net.IPv4(192, 0, 2, 11))), pxe, `ACK 192.0.2.11 next=0.0.0.0 class="" file=""`},
		"renews another":      {Whole, doorDHCP, ask, with(nil, dhcpv4.WithClientIP(net.IPv4(192, 0, 2, 12))), pxe, "silence"},
		"informs":             {Whole, doorDHCP, inform, with(nil, dhcpv4.WithClientIP(net.IPv4(192, 0, 2, 11))), pxe, `ACK 0.0.0.0 next=0.0.0.0 class="" file=""`},
		"declines":            {Whole, doorDHCP, dhcpv4.MessageTypeDecline, nil, pxe, "silence"},
		"releases":            {Whole, doorDHCP, dhcpv4.MessageTypeRelease, nil, pxe, "silence"},
		"no type":             {Whole, doorDHCP, dhcpv4.MessageTypeNone, nil, pxe, "silence"},
		"proxy, BIOS":         {Beside, doorDHCP, discover, bios, proxied, `OFFER 0.0.0.0 next=192.0.2.1 class="PXEClient" file="undionly.kpxe"`},
		"proxy, iPXE":         {Beside, doorDHCP, discover, ipxe, proxied, `OFFER 0.0.0.0 next=192.0.2.1 class="PXEClient" file="URL boot.ipxe"`},
		"proxy, HTTP":         {Beside, doorDHCP, discover, http, webProxied, `OFFER 0.0.0.0 next=192.0.2.1 class="HTTPClient" file="URL snponly.efi"`},
		"proxy, system":       {Beside, doorDHCP, discover, nil, proxied, "silence"},
		"proxy, request":      {Beside, doorDHCP, ask, with(bios, requested("192.0.2.100"), chosen("192.0.2.2")), proxied, "silence"},
		"boot server":         {Beside, doorProxy, ask, uefi, proxied, `ACK 0.0.0.0 next=192.0.2.1 class="PXEClient" file="snponly.efi"`},
		"boot server, system": {Beside, doorProxy, ask, nil, proxied, "silence"},
	} {
		if err := tt.g.Check(tt.mode); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		m := message(t, tt.kind, tt.more...)
		c, ok := clientOf(m)
		if !ok {
			t.Fatalf("%s: no client", name)
		}
		r, _ := desk{tt.mode, netip.MustParseAddr(ourself)}.answer(m, c, tt.g, tt.at)
		if got := shown(r); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, tt.want)
		}
		if r != nil && r.ServerIdentifier().String() != ourself {
			t.Errorf("%s: server identifier %s", name, r.ServerIdentifier())
		}
	}
}

func TestWhereAnswersGo(t *testing.T) {
	g := book().guests[knownMAC]
	from := netip.MustParseAddrPort("192.0.2.11:68")
	for name, tt := range map[string]struct {
		kind dhcpv4.MessageType
		more []dhcpv4.Modifier
		at   door
		want string
	}{
		"no address yet":  {dhcpv4.MessageTypeAck, nil, doorDHCP, "255.255.255.255:68"},
		"its address":     {dhcpv4.MessageTypeAck, []dhcpv4.Modifier{dhcpv4.WithClientIP(net.IPv4(192, 0, 2, 11))}, doorDHCP, "192.0.2.11:68"},
		"foreign address": {dhcpv4.MessageTypeAck, []dhcpv4.Modifier{dhcpv4.WithClientIP(net.IPv4(203, 0, 113, 5))}, doorDHCP, "nowhere"},
		"relay":           {dhcpv4.MessageTypeOffer, []dhcpv4.Modifier{dhcpv4.WithRelay(net.IPv4(192, 0, 2, 254))}, doorDHCP, "192.0.2.254:67"},
		"foreign relay":   {dhcpv4.MessageTypeOffer, []dhcpv4.Modifier{dhcpv4.WithRelay(net.IPv4(203, 0, 113, 5))}, doorDHCP, "nowhere"},
		"refusal":         {dhcpv4.MessageTypeNak, []dhcpv4.Modifier{dhcpv4.WithClientIP(net.IPv4(192, 0, 2, 12))}, doorDHCP, "255.255.255.255:68"},
		"boot server":     {dhcpv4.MessageTypeAck, nil, doorProxy, "192.0.2.11:68"},
	} {
		m, r := message(t, dhcpv4.MessageTypeRequest, tt.more...), message(t, tt.kind)
		got := "nowhere"
		if to, ok := destination(m, r, g, from, tt.at); ok {
			got = to.String()
		}
		if got != tt.want {
			t.Errorf("%s: to %s, want %s", name, got, tt.want)
		}
	}
}

func TestClients(t *testing.T) {
	uuid, _ := hex.DecodeString("0044332211665588" + "7799aabbccddeeff00")
	m := message(t, dhcpv4.MessageTypeDiscover, raw(97, uuid...), dhcpv4.WithOption(dhcpv4.OptHostName("bad\x1b[31m")))
	c, ok := clientOf(m)
	if !ok || c.UUID != "11223344-5566-7788-99aa-bbccddeeff00" || c.Host != "bad?[31m" || c.Class != ClassSystem {
		t.Errorf("client %+v", c)
	}
	for name, change := range map[string]func(*dhcpv4.DHCPv4){
		"reply":     func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootReply },
		"long":      func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = make(net.HardwareAddr, 16) },
		"multicast": func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = net.HardwareAddr{1, 0, 0, 0, 0, 1} },
		"nobody":    func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = make(net.HardwareAddr, 6) },
		"not wired": func(m *dhcpv4.DHCPv4) { m.HWType = iana.HWTypeInfiniband },
	} {
		m := message(t, dhcpv4.MessageTypeDiscover)
		change(m)
		if c, ok := clientOf(m); ok {
			t.Errorf("%s is a client: %+v", name, c)
		}
	}
}

func TestGuestsAreChecked(t *testing.T) {
	good := book().guests[knownMAC]
	for name, tt := range map[string]struct {
		change func(*Guest)
		want   string
	}{
		"address":   {func(g *Guest) { g.Address = netip.Prefix{} }, "address"},
		"gateway":   {func(g *Guest) { g.Gateway = netip.MustParseAddr("198.51.100.1") }, "gateway"},
		"dns":       {func(g *Guest) { g.DNS = []netip.Addr{netip.MustParseAddr("::1")} }, "name server"},
		"host":      {func(g *Guest) { g.Host = "a b" }, "host name"},
		"road":      {func(g *Guest) { g.Road = "train" }, "unknown road"},
		"no script": {func(g *Guest) { g.Script = "" }, "without a script"},
		"no image":  {func(g *Guest) { g.Road = RoadUEFIHTTP }, "without an image"},
		"ftp":       {func(g *Guest) { g.Script = "ftp://192.0.2.1/x" }, "neither http nor https"},
		"query":     {func(g *Guest) { g.Script = "http://192.0.2.1/x?y" }, "not allowed"},
		"space":     {func(g *Guest) { g.Script = "http://192.0.2.1/x y" }, "not allowed"},
		"expansion": {func(g *Guest) { g.Script = "http://192.0.2.1/${x}" }, "not allowed"},
		"login":     {func(g *Guest) { g.Script = "http://u:p@192.0.2.1/x" }, "not allowed"},
		"long":      {func(g *Guest) { g.Script = "http://192.0.2.1/" + strings.Repeat("x", 255) }, "longer"},
		"loader":    {func(g *Guest) { g.Loader = "../x" }, "not a file name"},
	} {
		g := good
		tt.change(&g)
		if err := g.Check(Whole); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFloodsAreBounded(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := newLimiter[int](rate{1, 3}, rate{10, 100}, 50)
	passed := 0
	for range 100 {
		if l.allow(1, now) {
			passed++
		}
	}
	if passed != 3 || !l.allow(2, now) {
		t.Errorf("%d of one sender passed", passed)
	}
	if !l.allow(1, now.Add(time.Second)) || l.allow(1, now.Add(time.Second)) {
		t.Error("a second is worth one")
	}
	passed = 0
	for i := range 1000 {
		if l.allow(100+i, now) {
			passed++
		}
	}
	if passed > 100 || len(l.keys) > 50 {
		t.Errorf("%d senders passed, %d are remembered", passed, len(l.keys))
	}
	// strangers do not keep guests waiting
	rates := newDHCPRates()
	for i := range 5000 {
		rates.allow(Client{MAC: fmt.Sprint(i)}, false, now)
	}
	if rates.allow(Client{MAC: "stranger"}, false, now) || !rates.allow(Client{MAC: "guest"}, true, now) {
		t.Error("after a flood of strangers: strangers are answered, or guests are not")
	}
	var seen []Sighting
	r := newReporter(func(s Sighting) { seen = append(seen, s) }, func() time.Time { return now })
	for i := range maxRemembered + 100 {
		r.report(fmt.Sprint(i), Sighting{Kind: SightingUnknown})
		r.report(fmt.Sprint(i), Sighting{Kind: SightingUnknown})
	}
	if len(seen) != maxRemembered {
		t.Errorf("%d sightings, want %d", len(seen), maxRemembered)
	}
	now = now.Add(quiet)
	r.report("later", Sighting{Kind: SightingUnknown})
	if last := seen[len(seen)-1]; last.Unreported != 200 {
		t.Errorf("%d unreported, want 200", last.Unreported)
	}
}

func FuzzDHCP(f *testing.F) {
	for _, more := range [][]dhcpv4.Modifier{
		nil,
		{vendor("PXEClient:Arch:00007:UNDI:003016"), arch(iana.EFI_X86_64), raw(97, make([]byte, 17)...)},
		{raw(175, featureHTTP, 1, 1, 3), raw(77, []byte("\x04iPXE")...), raw(82, 1, 2, 3, 4)},
	} {
		f.Add(message(f, dhcpv4.MessageTypeDiscover, more...).ToBytes())
		f.Add(message(f, dhcpv4.MessageTypeRequest, more...).ToBytes())
	}
	b := book()
	g := b.guests[knownMAC]
	anyone := everyone{g}
	self := netip.MustParseAddr(ourself)
	from := netip.MustParseAddrPort("192.0.2.7:68")
	f.Fuzz(func(t *testing.T, packet []byte) {
		for _, s := range []*dhcp{
			{desk: desk{Whole, self}, at: doorDHCP}, {desk: desk{Beside, self}, at: doorDHCP}, {desk: desk{Beside, self}, at: doorProxy},
		} {
			s.guests, s.rates, s.now = anyone, newDHCPRates(), time.Now
			s.report = newReporter(func(Sighting) {}, time.Now)
			out, to := s.handle(packet, from)
			if out == nil {
				continue
			}
			r, err := dhcpv4.FromBytes(out)
			if err != nil || len(out) > 1400 {
				t.Fatalf("an answer of %d bytes that cannot be read: %v", len(out), err)
			}
			if a := r.YourIPAddr.To4(); !a.IsUnspecified() && !a.Equal(g.Address.Addr().AsSlice()) {
				t.Fatalf("gave %s", a)
			}
			if to.Addr() != from.Addr() && !g.Address.Masked().Contains(to.Addr()) && to.Addr() != netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
				t.Fatalf("answered to %s", to)
			}
		}
	})
}

type everyone struct{ g Guest }

func (e everyone) Guest(Client) (Guest, bool) { return e.g, true }

func FuzzDatagram(f *testing.F) {
	d := datagram{netip.MustParseAddrPort("192.0.2.2:67"), netip.MustParseAddrPort("255.255.255.255:68"), []byte("payload")}
	f.Add(d.bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		d, ok := parseDatagram(b)
		if !ok {
			return
		}
		again, ok := parseDatagram(d.bytes())
		if !ok || again.from != d.from || again.to != d.to || !bytes.Equal(again.payload, d.payload) {
			t.Fatalf("%+v became %+v", d, again)
		}
		if m, err := dhcpv4.FromBytes(d.payload); err == nil {
			_, _ = foreignOf(m, d.from.Addr(), "")
		}
	})
}
