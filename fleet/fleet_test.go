package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/quick"
	"time"
	"unicode/utf8"

	"metalrise.dev/fleet"
)

func TestMaybe(t *testing.T) {
	type box struct {
		Count fleet.Maybe[int]       `json:"count"`
		Time  fleet.Maybe[time.Time] `json:"time,omitzero"`
	}
	unknown, _ := json.Marshal(box{})
	if string(unknown) != `{"count":null}` {
		t.Errorf("unknown is written as %s", unknown)
	}
	zero, _ := json.Marshal(box{Count: fleet.Known(0)})
	if string(zero) != `{"count":0}` {
		t.Errorf("a known zero is written as %s", zero)
	}
	b := box{Count: fleet.Known(5)}
	if err := json.Unmarshal([]byte(`{"count":null}`), &b); err != nil || b.Count.IsKnown() {
		t.Errorf("null is read as %v, %v", b.Count, err)
	}
	b = box{Count: fleet.Known(5)}
	if err := json.Unmarshal([]byte(`{"count":"x"}`), &b); err == nil || b.Count.Or(0) != 5 {
		t.Errorf("a wrong type is read as %v, %v", b.Count, err)
	}
	if s := fmt.Sprint(fleet.Maybe[bool]{}, fleet.Known(false)); s != "unknown false" {
		t.Errorf("printed as %q", s)
	}
	if v, ok := (fleet.Maybe[int]{}).Get(); v != 0 || ok {
		t.Error("the zero value is known")
	}
}

func TestMaybeComesBack(t *testing.T) {
	same := func(v string, known bool) bool {
		if !utf8.ValidString(v) {
			return true // JSON cannot hold it
		}
		m := fleet.Maybe[string]{}
		if known {
			m = fleet.Known(v)
		}
		b, err := json.Marshal(m)
		if err != nil {
			return false
		}
		var back fleet.Maybe[string]
		return json.Unmarshal(b, &back) == nil && back == m && back.IsZero() == !known
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
}

const uuid = "4c4c4544-0035-4810-8058-b4c04f564d31"

func TestNewIdentity(t *testing.T) {
	for _, c := range []struct{ uuid, serial, wantUUID, wantSerial string }{
		{strings.ToUpper(uuid), " CZ3210ABCD ", uuid, "CZ3210ABCD"},
		{strings.ReplaceAll(uuid, "-", ""), "a-b_c/d", uuid, "a-b_c/d"},
		{"00000000-0000-0000-0000-000000000000", "....", "", ""},
		{"ffffffff-ffff-ffff-ffff-ffffffffffff", "Default string", "", ""},
		{"not a uuid", "To Be Filled By O.E.M.", "", ""},
		{uuid[:35] + "g", "N/A", "", ""},
		{"", "0000000000", "", ""},
		{uuid + "0", "xxxx", "", ""},
		{"", "a\x00b", "", ""},
		{"", strings.Repeat("a", 65), "", ""},
		{"", "0123456789", "", ""},
		{"", "é", "", ""},
	} {
		got := fleet.NewIdentity(c.uuid, c.serial)
		if got.UUID != c.wantUUID || got.Serial != c.wantSerial {
			t.Errorf("NewIdentity(%q, %q) = %+v", c.uuid, c.serial, got)
		}
		if again := fleet.NewIdentity(got.UUID, got.Serial); again != got {
			t.Errorf("cleaning twice changes %+v to %+v", got, again)
		}
	}
}

func TestIdentityMatch(t *testing.T) {
	const other = "4c4c4544-0035-4810-8058-b4c04f564d32"
	for _, c := range []struct {
		a, b fleet.Identity
		want bool
	}{
		{fleet.Identity{UUID: uuid, Serial: "A"}, fleet.Identity{UUID: uuid, Serial: "A"}, true},
		{fleet.Identity{UUID: uuid, Serial: "A"}, fleet.Identity{UUID: uuid, Serial: "B"}, false},
		{fleet.Identity{UUID: uuid, Serial: "A"}, fleet.Identity{UUID: other, Serial: "A"}, false},
		{fleet.Identity{UUID: uuid, Serial: "A"}, fleet.Identity{Serial: "A"}, true},
		{fleet.Identity{UUID: uuid}, fleet.Identity{UUID: uuid, Serial: "A"}, true},
		{fleet.Identity{UUID: uuid}, fleet.Identity{Serial: "A"}, false},
		{fleet.Identity{}, fleet.Identity{}, false},
		{fleet.Identity{UUID: uuid, Serial: "A"}, fleet.Identity{}, false},
		{fleet.Identity{Serial: "A"}, fleet.Identity{Serial: "a"}, false},
	} {
		if c.a.Match(c.b) != c.want || c.b.Match(c.a) != c.want {
			t.Errorf("%+v and %+v: want %v both ways", c.a, c.b, c.want)
		}
	}
	if (fleet.Identity{UUID: uuid, Serial: "A"}).ID() != "A" || (fleet.Identity{UUID: uuid}).ID() != uuid || (fleet.Identity{}).ID() != "" {
		t.Error("the id is the serial, else the UUID, else nothing")
	}
}

func TestDiskRefMatch(t *testing.T) {
	gib := func(n int64) fleet.Maybe[int64] { return fleet.Known(n << 30) }
	for _, c := range []struct {
		ref  fleet.DiskRef
		disk fleet.Disk
		want bool
	}{
		{fleet.DiskRef{WWN: "1", Serial: "A", SizeBytes: 8 << 30}, fleet.Disk{WWN: "1", Serial: "A", SizeBytes: gib(8)}, true},
		{fleet.DiskRef{WWN: "1", Serial: "A"}, fleet.Disk{WWN: "1"}, true},
		{fleet.DiskRef{WWN: "1", Serial: "A"}, fleet.Disk{WWN: "1", Serial: "B"}, false},
		{fleet.DiskRef{WWN: "1", Serial: "A"}, fleet.Disk{WWN: "2", Serial: "A"}, false},
		{fleet.DiskRef{WWN: "1"}, fleet.Disk{Serial: "A"}, false},
		{fleet.DiskRef{Serial: "A", SizeBytes: 8 << 30}, fleet.Disk{Serial: "A", SizeBytes: gib(9)}, false},
		{fleet.DiskRef{Serial: "A", SizeBytes: 8 << 30}, fleet.Disk{Serial: "A"}, true},
		{fleet.DiskRef{SizeBytes: 8 << 30}, fleet.Disk{SizeBytes: gib(8)}, false},
		{fleet.DiskRef{}, fleet.Disk{}, false},
		{fleet.DiskRef{}, fleet.Disk{WWN: "1", Serial: "A"}, false},
	} {
		if got := c.ref.Match(c.disk); got != c.want {
			t.Errorf("%+v and %+v: %v", c.ref, c.disk, got)
		}
	}
}

// TestDiskRefMatchProperties: a disk matches the reference made from it, if it
// can be named at all, and stops matching once a known name changes.
func TestDiskRefMatchProperties(t *testing.T) {
	check := func(wwn, serial string, size int64) bool {
		d := fleet.Disk{WWN: wwn, Serial: serial, SizeBytes: fleet.Known(size)}
		r := fleet.DiskRef{WWN: wwn, Serial: serial, SizeBytes: size}
		ok := r.Match(d) == (wwn != "" || serial != "")
		d.WWN, d.Serial = wwn+"0", serial+"X"
		return ok && (!r.Match(d))
	}
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
}

func TestCauseOf(t *testing.T) {
	if fleet.CauseOf(nil) != nil {
		t.Error("no error has a cause")
	}
	disk := errors.New("disk full")
	f := fleet.NewFault(fleet.CodeStoreFailed, fleet.Transient, disk, "append event %d", 7)
	got := fleet.CauseOf(fmt.Errorf("server %s: %w", "A", f))
	want := &fleet.Cause{Code: fleet.CodeStoreFailed, Kind: fleet.Transient, Chain: []string{"server A", "append event 7", "disk full"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	if got := fleet.CauseOf(fmt.Errorf("no such rhyme (%w)", disk)); len(got.Chain) != 2 || got.Chain[0] != "no such rhyme (disk full)" {
		t.Errorf("a text that does not end in its cause stays whole: %+v", got)
	}
	for err, kind := range map[error]fleet.Kind{
		disk: fleet.Transient, fmt.Errorf("x: %w", context.DeadlineExceeded): fleet.UnsureKind, context.Canceled: fleet.UnsureKind,
		fleet.NewFault(fleet.CodeBMCRejected, fleet.Denied, context.Canceled, "x"): fleet.Denied,
	} {
		if fleet.KindOf(err) != kind {
			t.Errorf("%v is %s", err, fleet.KindOf(err))
		}
	}
	if fleet.CauseOf(disk).Code != fleet.CodeUnexpected {
		t.Error("an unknown error has a code")
	}
}

func TestCauseIsBounded(t *testing.T) {
	err := errors.New(strings.Repeat("é", 5000))
	for i := range 100 {
		err = fmt.Errorf("%d: %w", i, err)
	}
	c := fleet.CauseOf(err)
	if len(c.Chain) != 20 {
		t.Errorf("%d links", len(c.Chain))
	}
	for _, text := range fleet.CauseOf(errors.New("x" + strings.Repeat("é", 5000))).Chain {
		if len(text) > 1100 || !utf8.ValidString(text) {
			t.Errorf("%d bytes, valid %v", len(text), utf8.ValidString(text))
		}
	}
}

func TestSeal(t *testing.T) {
	p := fleet.Plan{Site: "s", Assignments: []fleet.Assignment{{Server: "C", Wave: 1, Hostname: "a"}, {Server: "B", Hostname: "b"}, {Server: "D", Hostname: "a"}, {Server: "A", Hostname: "a"}}}
	if err := p.Seal(); err != nil {
		t.Fatal(err)
	}
	order := ""
	for _, a := range p.Assignments {
		order += string(a.Server)
	}
	if order != "ADBC" {
		t.Errorf("order is %s", order)
	}
	id := p.ID
	for range 20 {
		rand.Shuffle(len(p.Assignments), func(i, j int) { p.Assignments[i], p.Assignments[j] = p.Assignments[j], p.Assignments[i] })
		if err := p.Seal(); err != nil || p.ID != id {
			t.Fatalf("the order of assignments changes the id (%v)", err)
		}
	}
	b, _ := json.Marshal(p)
	var back fleet.Plan
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	if err := back.Seal(); err != nil || back.ID != id {
		t.Errorf("stored and read again the id changes (%v)", err)
	}
	p.Assignments[0].InstallDisk.Serial = "other"
	if err := p.Seal(); err != nil || p.ID == id {
		t.Errorf("another disk keeps the id (%v)", err)
	}
}

func TestErasedDisks(t *testing.T) {
	p := fleet.Plan{Assignments: []fleet.Assignment{{Server: "A", InstallDisk: fleet.DiskRef{Serial: "1"}}, {Server: "B", Role: fleet.Excluded, InstallDisk: fleet.DiskRef{Serial: "2"}}}}
	if got := p.ErasedDisks(); len(got) != 1 || got[0].Serial != "1" {
		t.Errorf("got %v", got)
	}
}

// TestCodes: every code has one complete page, and codes are unique.
func TestCodes(t *testing.T) {
	seen := map[fleet.Code]bool{}
	for _, p := range fleet.CodePages() {
		if seen[p.Code] || p.Title == "" || p.Why == "" || p.Remedy == "" {
			t.Errorf("page %+v is incomplete or there twice", p)
		}
		seen[p.Code] = true
	}
	for _, c := range declaredCodes(t) {
		if !seen[c] {
			t.Errorf("code %s has no page", c)
		}
	}
	if _, ok := fleet.Page("NONE-1"); ok {
		t.Error("an unknown code has a page")
	}
}

// declaredCodes reads the constants of type Code from the source.
func declaredCodes(t *testing.T) []fleet.Code {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []fleet.Code
	ast.Inspect(tree, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if ok && len(spec.Values) == 1 {
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok && strings.HasPrefix(spec.Names[0].Name, "Code") {
				out = append(out, fleet.Code(strings.Trim(lit.Value, `"`)))
			}
		}
		return true
	})
	if len(out) < 50 {
		t.Fatalf("found %d codes", len(out))
	}
	return out
}
