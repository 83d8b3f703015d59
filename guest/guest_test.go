package guest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const boot = "0123456789abcdef"

func someOrders() Orders {
	return Orders{
		Nonce: "run-7", Beat: 250 * time.Millisecond, Life: time.Hour, Listen: 7007, Disk: "proofdisk", Mark: "one", Cloud: "proofcloud",
		Nets: []Net{
			{MAC: "02:00:00:00:00:01", Address: netip.MustParsePrefix("10.0.2.2/24"), Gateway: netip.MustParseAddr("10.0.2.1")},
			{MAC: "02:00:00:00:00:02", Address: netip.MustParsePrefix("10.0.20.11/24")},
		},
		Ping: netip.MustParseAddr("10.0.20.12"), Dial: netip.MustParseAddrPort("10.96.3.4:7007"),
	}
}

func TestOrdersComeThroughTheCommandLine(t *testing.T) {
	want := someOrders()
	got, err := ParseOrders("console=ttyS0 quiet " + want.Args() + " panic=-1")
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
	}
	if got, err := ParseOrders("console=ttyS0"); err != nil || got.Beat != DefaultBeat || got.Nonce != "" {
		t.Fatalf("no orders: %+v, %v", got, err)
	}
}

func TestWrongOrdersAreNamed(t *testing.T) {
	for _, wrong := range []string{
		"metalrise.nonce=", "metalrise.nonce=a/b", "metalrise.nonce=" + strings.Repeat("a", 64), "metalrise.beat=1ms", "metalrise.beat=x",
		"metalrise.ping=fe80::1", "metalrise.dial=10.0.0.1", "metalrise.dial=[::1]:7", "metalrise.listen=70000", "metalrise.net=a,b",
		"metalrise.net=02:00:00:00:00:01", "metalrise.net=02:00:00:00:00:01,10.0.0.1", "metalrise.net=02:00:00:00:00:01,10.0.0.1/24,x",
		"metalrise.life=0s", "metalrise.erase=yes", strings.Repeat("metalrise.net=02:00:00:00:00:01,10.0.0.1/24 ", maxNets+1), strings.Repeat("a", maxCommandLine+1),
	} {
		got, err := ParseOrders("metalrise.nonce=kept " + wrong)
		if err == nil {
			t.Errorf("%q was taken: %+v", wrong, got)
		}
	}
	got, _ := ParseOrders("metalrise.nonce=kept metalrise.beat=x")
	if got.Nonce != "kept" || got.Beat != DefaultBeat {
		t.Errorf("orders before a wrong one: %+v", got)
	}
}

func someBeat() Beat {
	return Beat{
		Nonce: "run-7", Boot: boot, Seq: 41, Up: 12345 * time.Millisecond,
		Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.2/24"), netip.MustParsePrefix("10.0.20.11/24")},
		Ping:      Trips{Sent: 5, Got: 4, Min: 310 * time.Microsecond, Mean: 400 * time.Microsecond, Max: time.Second},
		Dial:      Trips{Sent: 1}, Heard: boot, Found: Blank(), Holds: Mark{"one", boot}, Cloud: "vm-1.metalrise-proof", User: "run-7", Fault: "network_card:_gone",
	}
}

func TestWordsComeThroughTheConsole(t *testing.T) {
	want := someBeat()
	for _, around := range [][2]string{{"", ""}, {"[    1.234567] random: crng ", "\r"}, {"", "\r\n"}} {
		got, ok := ParseBeat(around[0] + want.Line() + around[1])
		if !ok || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q: got %+v, %v\nwant %+v", around, got, ok, want)
		}
	}
	if got, ok := ParseBeat(Beat{Boot: boot, Seq: 1}.Line()); !ok || got.Nonce != "" {
		t.Errorf("a guest without orders is not understood: %+v", got)
	}
	if n := len(want.Line()); n > 700 {
		t.Errorf("a line has %d bytes", n)
	}
}

func TestBrokenWordsAreNone(t *testing.T) {
	line := someBeat().Line()
	for name, wrong := range map[string]string{
		"cut at its end":    line[:len(line)-3],
		"cut at its begin":  line[5:],
		"letter changed":    strings.Replace(line, "seq=41", "seq=42", 1),
		"kernel in between": line[:60] + "[ 12.3] virtio_net: " + line[60:],
		"no boot":           Beat{Nonce: "run-7", Seq: 1}.Line(),
		"no number":         Beat{Boot: boot}.Line(),
		"too many answers":  Beat{Boot: boot, Seq: 1, Ping: Trips{Sent: 1, Got: 2}}.Line(),
		"too long":          strings.Repeat("x", 4*maxLine) + line,
		"nothing":           "",
	} {
		if got, ok := ParseBeat(wrong); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func FuzzParseBeat(f *testing.F) {
	f.Add(someBeat().Line())
	f.Add(opening + "seq=1 crc=00000000")
	f.Fuzz(func(t *testing.T, line string) {
		if b, ok := ParseBeat(line); ok {
			if again, ok := ParseBeat(b.Line()); !ok || !reflect.DeepEqual(again, b) {
				t.Errorf("%+v is read back as %+v, %v", b, again, ok)
			}
		}
	})
}

func TestTrips(t *testing.T) {
	var trips Trips
	for _, d := range []time.Duration{4, 2, 6} {
		trips.Sent++
		trips.took(d * time.Millisecond)
	}
	if want := (Trips{3, 3, 2 * time.Millisecond, 4 * time.Millisecond, 6 * time.Millisecond}); trips != want {
		t.Errorf("got %+v, want %+v", trips, want)
	}
}

func TestEcho(t *testing.T) {
	request := echo(7, 9)
	if checksum(request) != 0 {
		t.Errorf("a packet with its checksum sums up to %#x", checksum(request))
	}
	reply := append(append([]byte{0x45}, make([]byte, 19)...), request...)
	if isAnswer(reply, 7, 9) {
		t.Error("our own question counts as an answer")
	}
	reply[20] = echoReply
	if !isAnswer(reply, 7, 9) || isAnswer(reply, 7, 8) || isAnswer(reply, 8, 9) || isAnswer(reply[:27], 7, 9) || isAnswer(nil, 7, 9) {
		t.Error("the wrong packets are answers")
	}
}

func TestAnswersToCalls(t *testing.T) {
	if got, err := parseAnswer(answer("run-7", boot), "run-7"); err != nil || got != boot {
		t.Errorf("got %q, %v", got, err)
	}
	for _, wrong := range []string{"", "HTTP/1.1 400 Bad Request\n", answer("run-8", boot), answer("run-7", ""), opening + "run-7\n"} {
		if got, err := parseAnswer(wrong, "run-7"); err == nil {
			t.Errorf("%q is taken as %q", wrong, got)
		}
	}
}

func TestDiskKeepsItsMark(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(8 << 20); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, patternSize)
	visit := func(text, boot string) (found, holds Mark, err error) {
		err = keep(f, Mark{text, boot}, buffer, func(a, b Mark) { found, holds = a, b })
		return found, holds, err
	}
	for _, step := range []struct {
		mark, boot   string
		found, holds Mark
	}{
		{"one", "a", Blank(), Mark{"one", "a"}},
		{"one", "b", Mark{"one", "a"}, Mark{"one", "a"}}, // a restart writes nothing
		{"two", "c", Mark{"one", "a"}, Mark{"two", "c"}},
		{"", "d", Mark{"two", "c"}, Mark{"two", "c"}},
	} {
		if found, holds, err := visit(step.mark, step.boot); err != nil || found != step.found || holds != step.holds {
			t.Fatalf("%+v: found %v, holds %v, %v", step, found, holds, err)
		}
	}
	f.WriteAt([]byte{1}, diskBlock+3<<20)
	if _, _, err := visit("two", "e"); err == nil || !strings.Contains(err.Error(), "other bytes") {
		t.Errorf("a changed byte is not seen: %v", err)
	}
	f.WriteAt([]byte("LABELONE"), 0)
	if _, _, err := visit("two", "f"); !errors.Is(err, errForeign) {
		t.Errorf("a disk of others: %v", err)
	}
	head := make([]byte, 8)
	if f.ReadAt(head, 0); string(head) != "LABELONE" {
		t.Error("a disk of others was written")
	}
}

// A guest finds the mark of a shipped image, also on a larger disk, and writes
// its own over it.
func TestShippedImage(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := WriteImage(f); err != nil {
		t.Fatal(err)
	}
	if st, err := f.Stat(); err != nil || st.Size() != ImageSize {
		t.Errorf("%d bytes, want %d (%v)", st.Size(), ImageSize, err)
	}
	if err := f.Truncate(64 << 20); err != nil {
		t.Fatal(err)
	}
	var found, holds Mark
	if err := keep(f, Mark{"one", "a"}, make([]byte, patternSize), func(a, b Mark) { found, holds = a, b }); err != nil {
		t.Fatal(err)
	}
	if found != Shipped() || holds != (Mark{"one", "a"}) {
		t.Errorf("found %v, holds %v", found, holds)
	}
}

func TestCloudWords(t *testing.T) {
	disk := append(make([]byte, 70000), `{"instance-id":"vm-1.metalrise-proof","local-hostname":"vm-1"}`...)
	disk = append(append(disk, make([]byte, 2000)...), "#cloud-config\n# "+UserMark+" run-7\n"...)
	if instance, user := cloudWords(disk); instance != "vm-1.metalrise-proof" || user != "run-7" {
		t.Errorf("got %q, %q", instance, user)
	}
	if instance, user := cloudWords(make([]byte, 1000)); instance != "" || user != "" {
		t.Errorf("an empty disk says %q, %q", instance, user)
	}
}

func TestPack(t *testing.T) {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Pack(&out, program, []Module{{"virtio.ko", []byte("abc")}}); err != nil {
		if strings.Contains(err.Error(), "not static") {
			program = staticProgram(t)
			err = Pack(&out, program, []Module{{"virtio.ko", []byte("abc")}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	z, err := gzip.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	cpio, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if len(cpio)%4 != 0 || !bytes.HasPrefix(cpio, []byte("070701")) || !bytes.Contains(cpio, []byte("modules/virtio.ko\x00")) || !bytes.Contains(cpio, []byte("TRAILER!!!\x00")) {
		t.Error("it is no cpio archive with a module")
	}
	if err := Pack(io.Discard, []byte("#!/bin/sh"), nil); err == nil {
		t.Error("a script was packed as a program")
	}
	if err := Pack(io.Discard, program, []Module{{"../x", nil}}); err == nil {
		t.Error("a module with a path was packed")
	}
}
