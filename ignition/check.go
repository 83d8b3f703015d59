package ignition

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// checkAssignment checks every field that ends up in a config.
func checkAssignment(p *problems, a fleet.Assignment) {
	if a.Server == "" {
		p.add("assignment.server", "is empty: a config is made for one server")
	}
	switch a.Role {
	case fleet.ControlPlane, fleet.Worker, fleet.SingleNode:
	case fleet.Excluded:
		p.add("assignment.role", "excluded servers get no config")
	default:
		p.add("assignment.role", "%s is no role: use control-plane, worker or single-node", quote(string(a.Role)))
	}
	checkHostname(p, "assignment.hostname", a.Hostname)
	if a.Node != nil {
		checkHostname(p, "assignment.node.name", a.Node.Name)
	}
	checkNetwork(p, "assignment.network", a.Network)
	checkBridges(p, "assignment.bridges", a.Bridges, a.Network)
	checkHypervisor(p, "assignment.hypervisor", a.Hypervisor)
	for i, key := range a.Access.SSHKeys {
		if why := sshKeyProblem(key); why != "" {
			p.add(fmt.Sprintf("assignment.access.sshKeys[%d]", i), "%s", why)
		}
	}
	for i, text := range a.Access.CACertificates {
		if _, err := certificates(text); err != nil {
			p.add(fmt.Sprintf("assignment.access.caCertificates[%d]", i), "%v", err)
		}
	}
}

// checkHostname holds a name to RFC 1123 and to the kernel's 64 bytes.
func checkHostname(p *problems, field, name string) {
	if !isDNSName(name) || len(name) > 64 {
		p.add(field, "%s is no host name: labels of a-z, 0-9 and '-' up to 63 characters, joined by dots, 64 in all", quote(name))
	}
}

// isHost tells whether s is an IP address without zone, or a name that cannot be
// mistaken for one: no top-level domain is a number (RFC 3696, section 2).
func isHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Zone() == ""
	}
	last := s[strings.LastIndexByte(s, '.')+1:]
	return isDNSName(s) && strings.Trim(last, "0123456789") != ""
}

// isDNSName holds labels to RFC 1123, section 2.1, lower case only.
func isDNSName(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		if strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}

func checkNetwork(p *problems, field string, n fleet.Network) {
	checkMAC(p, field+".mac", n.MAC)
	if n.Bond != nil {
		checkBond(p, field+".bond", *n.Bond, n.MAC)
	}
	// IEEE 802.1Q: 0 is "no VLAN", 4095 is reserved.
	if n.VLAN < 0 || n.VLAN > 4094 {
		p.add(field+".vlan", "%d is no VLAN: use 1 to 4094, or 0 for untagged", n.VLAN)
	}
	address, err := netip.ParsePrefix(n.Address)
	known := err == nil && !address.Addr().IsUnspecified() && !address.Addr().IsMulticast() && !address.Addr().Is4In6()
	if !known {
		p.add(field+".address", "%s is no address with prefix length: write it like 10.0.1.21/24", quote(n.Address))
	}
	// RFC 791 and RFC 8200 name the smallest packets each family must carry.
	least := 576
	if known && address.Addr().Is6() {
		least = 1280
	}
	if n.MTU != 0 && (n.MTU < least || n.MTU > 65535) {
		p.add(field+".mtu", "%d is out of range: use %d to 65535, or 0 for the kernel's own", n.MTU, least)
	}
	if n.Gateway != "" {
		checkPeer(p, field+".gateway", n.Gateway, address, known)
	}
	for i, s := range n.DNS {
		checkPeer(p, fmt.Sprintf("%s.dns[%d]", field, i), s, address, known)
	}
	for i, s := range n.NTP {
		if !isHost(s) {
			p.add(fmt.Sprintf("%s.ntp[%d]", field, i), "%s is neither an address nor a name", quote(s))
		}
	}
}

// checkPeer checks an address that the server shall reach from its own one: a
// server without an address of that family never could.
func checkPeer(p *problems, field, s string, own netip.Prefix, ownKnown bool) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified():
		p.add(field, "%s is no IP address", quote(s))
	case ownKnown && a.Is4() != own.Addr().Is4():
		p.add(field, "%s is of another address family than the server's %s", a, own)
	}
}

func checkMAC(p *problems, field, s string) {
	mac, err := net.ParseMAC(s)
	switch {
	case err != nil || len(mac) != 6 || strings.ToLower(s) != mac.String():
		p.add(field, "%s is no MAC address: write it like 52:54:00:12:34:56", quote(s))
	case mac[0]&1 != 0:
		p.add(field, "%s is a group address, no port has it", quote(s))
	case mac.String() == "00:00:00:00:00:00":
		p.add(field, "all zeros is no port's address")
	}
}

func checkBond(p *problems, field string, b fleet.Bond, first string) {
	if b.Mode != bondActiveBackup && b.Mode != bondLACP {
		p.add(field+".mode", "%s is no bond mode: use %s or %s", quote(b.Mode), bondActiveBackup, bondLACP)
	}
	if len(b.MACs) == 0 {
		p.add(field+".macs", "is empty: a bond needs ports")
	}
	for i, mac := range b.MACs {
		at := fmt.Sprintf("%s.macs[%d]", field, i)
		checkMAC(p, at, mac)
		if slices.ContainsFunc(b.MACs[:i], func(m string) bool { return strings.EqualFold(m, mac) }) {
			p.add(at, "%s is listed twice", quote(mac))
		}
	}
	if len(b.MACs) > 0 && !slices.ContainsFunc(b.MACs, func(m string) bool { return strings.EqualFold(m, first) }) {
		p.add(field+".macs", "%s, whose address the bond takes, is not among its ports", quote(first))
	}
}

func checkHypervisor(p *problems, field string, h fleet.Hypervisor) {
	switch h.Vendor {
	case "", vendorIntel, vendorAMD:
	default:
		p.add(field+".vendor", "%s is no vendor: use intel, amd or nothing", quote(h.Vendor))
	}
	switch h.Profile {
	case fleet.ProfileGeneral, fleet.ProfilePassthrough:
	default:
		p.add(field+".profile", "%s is no profile: use general or passthrough", quote(string(h.Profile)))
	}
	// 64 TiB is what one x86-64 server can hold today with four-level paging.
	if h.HugepagesGiB < 0 || h.HugepagesGiB > 64<<10 {
		p.add(field+".hugepagesGiB", "%d is out of range: use 0 to %d", h.HugepagesGiB, 64<<10)
	}
}

// sshKeyProblem says why a line is no public key of authorized_keys, "" when it
// is one. It never repeats the line: people paste private keys by mistake.
// The wire form is in RFC 4253, section 6.6: the blob starts with its own type.
func sshKeyProblem(line string) string {
	if strings.Contains(line, "PRIVATE KEY") {
		return "this is a private key: give the public one (the file that ends in .pub), and replace that private key"
	}
	if len(line) > 16<<10 || strings.ContainsFunc(line, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\ufffd' }) {
		return "is no single line of text: give one line of authorized_keys per entry"
	}
	fields := strings.Fields(line)
	for i := 0; i+1 < len(fields); i++ {
		if !isSSHKeyType(fields[i]) {
			continue // options may stand before the type
		}
		blob, err := base64.StdEncoding.DecodeString(fields[i+1])
		if err != nil || len(blob) < 4 {
			return "the key after " + fields[i] + " is damaged: copy the whole line again"
		}
		size := binary.BigEndian.Uint32(blob)
		if uint64(size) > uint64(len(blob)-4) || string(blob[4:4+size]) != fields[i] {
			return "the key after " + fields[i] + " is of another type: copy the whole line again"
		}
		return ""
	}
	return "is no public key: give a line like \"ssh-ed25519 AAAA… name\""
}

func isSSHKeyType(s string) bool {
	switch s {
	case "ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
		"sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com":
		return true
	}
	return false
}

// certificates splits a PEM text into its certificates, each in canonical PEM
// form. The text is not repeated in errors: it might hold a key.
func certificates(text string) ([]string, error) {
	var out []string
	rest := []byte(text)
	for {
		block, more := pem.Decode(rest)
		if block == nil {
			break
		}
		rest = more
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a %s: give certificates only", quote(block.Type))
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read: %w", len(out)+1, err)
		}
		out = append(out, string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("holds no certificate in PEM form")
	}
	if strings.Contains(string(rest), "-----BEGIN") {
		return nil, fmt.Errorf("is damaged after certificate %d", len(out))
	}
	return out, nil
}

// checkTicket checks that a ticket is whole and made for this assignment.
func checkTicket(p *problems, t callhome.Ticket, a fleet.Assignment, stage callhome.Stage) {
	if t.Protocol != callhome.Protocol {
		p.add("ticket.protocol", "is %d, this is %d", t.Protocol, callhome.Protocol)
	}
	if why := baseURLProblem(t.URL); why != "" {
		p.add("ticket.url", "%s", why)
	}
	if _, err := certificates(t.CA); err != nil {
		p.add("ticket.ca", "%v", err)
	}
	if t.Token == "" {
		p.add("ticket.token", "is empty")
	}
	if t.Stage != stage {
		p.add("ticket.stage", "is %s, this system is %s", quote(string(t.Stage)), stage)
	}
	if t.Server != a.Server {
		p.add("ticket.server", "is %s, the assignment is for %s", quote(string(t.Server)), quote(string(a.Server)))
	}
	if t.Identity != a.Identity {
		p.add("ticket.identity", "is not that of the assignment")
	}
	if t.Plan == "" {
		p.add("ticket.plan", "is empty")
	}
	if t.Attempt < 1 {
		p.add("ticket.attempt", "is %d, attempts count from 1", t.Attempt)
	}
}

// baseURLProblem says why a URL cannot be the base of the calls. The text goes
// into a script between single quotes, so it may hold nothing but host and port.
func baseURLProblem(s string) string {
	const want = "is no base URL: write it like https://10.0.1.5:8443, without path, user or query"
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || s != "https://"+u.Host {
		return want // not shown: a URL of another shape may carry a password
	}
	if !isHost(u.Hostname()) || strings.Contains(u.Host, "%") || strings.Trim(u.Port(), "0123456789") != "" {
		return want
	}
	return ""
}

func checkArtefact(p *problems, field string, a Artefact) {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-"
	if !strings.HasPrefix(a.Path, "/") || path.Clean(a.Path) != a.Path || a.Path == "/" || strings.Trim(a.Path, allowed) != "" {
		p.add(field+".path", "%s is no plain absolute path of letters, digits and ._-", quote(a.Path))
	}
	if len(a.SHA256) != 64 || strings.Trim(a.SHA256, "0123456789abcdef") != "" {
		p.add(field+".sha256", "%s is no SHA-256 in lower-case hexadecimal", quote(a.SHA256))
	}
	if a.Bytes <= 0 {
		p.add(field+".bytes", "is %d, must be the exact size", a.Bytes)
	}
}

func checkSpec(p *problems, s Spec) {
	switch s {
	case "", Spec34, Spec35:
	default:
		p.add("spec", "%s is not known here: use %s or %s", quote(string(s)), Spec34, Spec35)
	}
}
