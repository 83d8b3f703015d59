package guest

import (
	"fmt"
	"hash/crc32"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// opening begins each line of a guest, with the version of its form.
const opening = "metalrise-guest 1 "

// maxLine bounds a line that is read; the longest that is written has below
// 700 bytes.
const maxLine = 1024

// Beat is one line of a guest: who it is and how it stands. Everything it knows
// is in each of them, so that a lost line loses nothing.
type Beat struct {
	Nonce string
	Boot  string        // random, new with each boot: 16 hexadecimal digits
	Seq   uint64        // from 1, without gaps within a boot
	Up    time.Duration // of the kernel, in milliseconds
	// Addresses are those that it configured, as in its orders.
	Addresses []netip.Prefix
	Ping      Trips  // echo requests to Orders.Ping
	Dial      Trips  // calls to Orders.Dial, from the connection's begin to the answer's end
	Heard     string // boot of the guest that answered the last call, with the same nonce
	Found     Mark   // what was on the disk when this boot first read it
	Holds     Mark   // what is on it now, written and read back by this boot
	Cloud     string // instance id of the cloud-init disk
	User      string // what its user data say after UserMark
	Fault     string // what went wrong last, words joined by '_'
}

// UserMark stands in cloud-init user data before a word that the guest repeats.
const UserMark = "metalrise-proof:"

// Trips counts questions and answers, and how long an answer took.
type Trips struct {
	Sent, Got      uint64
	Min, Mean, Max time.Duration // microseconds; zero while Got is 0
}

// Mark is what a guest wrote on a disk, and in which boot. Blank is a disk with
// nothing on it; the zero value is: not looked yet.
type Mark struct {
	Text string
	Boot string
}

// Blank is the mark of a disk on which nothing is written.
func Blank() Mark { return Mark{Text: blank, Boot: blank} }

const blank = "-"

// Zero tells whether no disk was looked at yet.
func (m Mark) Zero() bool { return m == Mark{} }

// Line writes a beat, without a line end. Its last field is a checksum over all
// others: kernels and consoles mix their own words in.
func (b Beat) Line() string {
	var s strings.Builder
	s.WriteString(opening)
	add := func(name, value string) {
		if value != "" {
			s.WriteString(name + "=" + value + " ")
		}
	}
	add("nonce", b.Nonce)
	add("boot", b.Boot)
	add("seq", strconv.FormatUint(b.Seq, 10))
	add("up", strconv.FormatInt(b.Up.Milliseconds(), 10))
	var addresses []string
	for _, a := range b.Addresses {
		addresses = append(addresses, a.String())
	}
	add("ip", strings.Join(addresses, ","))
	add("ping", b.Ping.text())
	add("dial", b.Dial.text())
	add("heard", b.Heard)
	add("found", b.Found.text())
	add("holds", b.Holds.text())
	add("cloud", b.Cloud)
	add("user", b.User)
	add("fault", joined(b.Fault))
	fmt.Fprintf(&s, "crc=%08x", crc32.ChecksumIEEE([]byte(s.String())))
	return s.String()
}

func (t Trips) text() string {
	if t == (Trips{}) {
		return ""
	}
	return fmt.Sprintf("%d/%d/%d/%d/%d", t.Sent, t.Got, t.Min.Microseconds(), t.Mean.Microseconds(), t.Max.Microseconds())
}

func (m Mark) text() string {
	if m.Zero() {
		return ""
	}
	return m.Text + "@" + m.Boot
}

// joined makes one word of many, of at most 200 bytes.
func joined(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return !plain(r) && r != '/' && r != ':' }), "_")
	return s[:min(len(s), 200)]
}

// ParseBeat finds a beat in a line of a console. ok is false for everything
// else: words of the kernel, a line that was cut or mixed with another one, or
// one that no guest of ours writes.
func ParseBeat(line string) (b Beat, ok bool) {
	if len(line) > 4*maxLine {
		return Beat{}, false
	}
	at := strings.LastIndex(line, opening)
	if at < 0 {
		return Beat{}, false
	}
	line = strings.TrimRight(line[at:], "\r\n ")
	text, sum, found := cutLast(line, "crc=")
	if !found || len(line) > maxLine || sum != fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(text))) {
		return Beat{}, false
	}
	for _, field := range strings.Fields(strings.TrimPrefix(text, opening)) {
		name, value, has := strings.Cut(field, "=")
		if !has || !b.take(name, value) {
			return Beat{}, false
		}
	}
	return b, len(b.Boot) == bootLength && b.Seq > 0
}

const bootLength = 16

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// take reads one field. Names that it does not know are passed over: a later
// guest may say more.
func (b *Beat) take(name, value string) bool {
	var err error
	switch name {
	case "nonce":
		b.Nonce, err = nameOf(value)
	case "boot":
		b.Boot, err = nameOf(value)
	case "heard":
		b.Heard, err = nameOf(value)
	case "cloud":
		b.Cloud, err = nameOf(value)
	case "user":
		b.User, err = nameOf(value)
	case "fault":
		b.Fault = joined(value)
	case "seq":
		b.Seq, err = strconv.ParseUint(value, 10, 63)
	case "up":
		b.Up, err = count(value, time.Millisecond)
	case "ping":
		b.Ping, err = parseTrips(value)
	case "dial":
		b.Dial, err = parseTrips(value)
	case "found":
		b.Found, err = parseMark(value)
	case "holds":
		b.Holds, err = parseMark(value)
	case "ip":
		for part := range strings.SplitSeq(value, ",") {
			p, wrong := netip.ParsePrefix(part)
			if wrong != nil || len(b.Addresses) == maxNets {
				return false
			}
			b.Addresses = append(b.Addresses, p)
		}
	}
	return err == nil
}

// maxCount keeps times within a hundred years.
const maxCount = uint64(100*365*24) * uint64(time.Hour/time.Microsecond)

func count(value string, unit time.Duration) (time.Duration, error) {
	n, err := strconv.ParseUint(value, 10, 63)
	if err == nil && n > maxCount/uint64(unit/time.Microsecond) {
		err = fmt.Errorf("%d is too long", n)
	}
	return time.Duration(n) * unit, err
}

func parseTrips(value string) (t Trips, err error) {
	parts := strings.Split(value, "/")
	if len(parts) != 5 {
		return t, fmt.Errorf("%q has %d parts, want 5", value, len(parts))
	}
	for i, to := range []*uint64{&t.Sent, &t.Got} {
		if *to, err = strconv.ParseUint(parts[i], 10, 63); err != nil {
			return t, err
		}
	}
	for i, to := range []*time.Duration{&t.Min, &t.Mean, &t.Max} {
		if *to, err = count(parts[2+i], time.Microsecond); err != nil {
			return t, err
		}
	}
	if t.Got > t.Sent {
		return t, fmt.Errorf("%d answers to %d questions", t.Got, t.Sent)
	}
	return t, nil
}

func parseMark(value string) (Mark, error) {
	text, boot, _ := strings.Cut(value, "@")
	var err error
	if text, err = nameOf(text); err != nil {
		return Mark{}, err
	}
	boot, err = nameOf(boot)
	return Mark{text, boot}, err
}

// took counts one answer.
func (t *Trips) took(d time.Duration) {
	t.Got++
	if t.Got == 1 || d < t.Min {
		t.Min = d
	}
	t.Max = max(t.Max, d)
	t.Mean += (d - t.Mean) / time.Duration(t.Got)
}
