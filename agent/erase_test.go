package agent_test

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"metalrise.dev/agent"
	"metalrise.dev/agent/agenttest"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// newEraseRig is a rig that orders the planned disk to be erased, which is full
// of old data behind a partition table.
func newEraseRig(t *testing.T) (*rig, *agenttest.Disk) {
	t.Helper()
	r := newRig(t, "raw", mib)
	r.desk.erase = &callhome.EraseOrder{Disk: r.desk.write.Disk, Owner: "rack-a"}
	d := r.host.Disk("PLANNED")
	if _, err := d.WriteAt(bytes.Repeat([]byte("old!"), 16*mib), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := d.WriteAt(r.image, 0); err != nil {
		t.Fatal(err)
	}
	return r, d
}

// erases runs the agent until it reported twice that the disk is erased.
func (r *rig) erases(t *testing.T, host agent.Host) callhome.Erased {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r.desk.onErased, r.desk.onFailed = cancel, cancel
	_ = agent.RunWith(ctx, r.ticket, host, r.log)
	r.desk.mu.Lock()
	defer r.desk.mu.Unlock()
	if len(r.desk.erased) < 2 || r.desk.erased[0] != r.desk.erased[1] || len(r.desk.failed) > 0 {
		t.Fatalf("reports %+v, failures %+v; console:\n%s", r.desk.erased, r.desk.failed, r.log)
	}
	return r.desk.erased[0]
}

func TestEraseByDiscard(t *testing.T) {
	r, d := newEraseRig(t)
	got := r.erases(t, r.host)
	if got.Method != "discard" || got.Bytes != d.Size() || got.Disk.Serial != "PLANNED" || d.Discards() == 0 {
		t.Errorf("report %+v after %d discards", got, d.Discards())
	}
	wantUnbootable(t, d)
	p := make([]byte, 4)
	if _, err := d.ReadAt(p, 40*mib); err != nil || string(p) != "old!" {
		t.Errorf("the middle reads %q, %v: this disk keeps what it discards, so the test cannot see what it must", p, err)
	}
	if n := r.host.Reboots(); n != 0 {
		t.Errorf("%d reboots", n)
	}
	if other := r.host.Disk("OTHER"); other.Written() != 0 || other.Discards() != 0 {
		t.Error("the other disk was touched")
	}
}

func TestEraseWithoutDiscard(t *testing.T) {
	r, d := newEraseRig(t)
	d.NoDiscard()
	if got := r.erases(t, r.host); got.Method != "zero" || got.Bytes != d.Size() {
		t.Errorf("report %+v", got)
	}
	p := make([]byte, d.Size())
	if _, err := d.ReadAt(p, 0); err != nil || len(bytes.Trim(p, "\x00")) > 0 {
		t.Errorf("the disk is not zero: %v", err)
	}
}

// TestRestartedAgentErasesOnce starts a second agent in the same boot: it must
// report, and touch nothing.
func TestRestartedAgentErasesOnce(t *testing.T) {
	r, d := newEraseRig(t)
	first := r.erases(t, r.host)
	if _, err := d.WriteAt([]byte("new"), 0); err != nil {
		t.Fatal(err)
	}
	hellos, discards := len(r.desk.hellos), d.Discards()
	r.desk.erased = nil
	if again := r.erases(t, r.host); again != first || len(r.desk.hellos) != hellos || d.Discards() != discards {
		t.Errorf("the second agent reported %+v, first was %+v; %d hellos", again, first, len(r.desk.hellos)-hellos)
	}
	p := make([]byte, 3)
	if _, err := d.ReadAt(p, 0); err != nil || string(p) != "new" {
		t.Errorf("erased again: %q, %v", p, err)
	}
}

func TestEraseRefusesBeforeFirstByte(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*rig)
		want   fleet.Code
	}{
		"another site's system": {func(r *rig) { r.host.SetContents("PLANNED", agent.Contents{Owner: "rack-b"}) }, fleet.CodeDiskForeign},
		"a member of an array": {func(r *rig) {
			r.host.SetContents("PLANNED", agent.Contents{Signs: []agent.Sign{{Kind: agent.Member, Text: "ZFS pool member"}}})
		}, fleet.CodeDiskForeign},
		"the running system": {func(r *rig) {
			r.host.SetContents("PLANNED", agent.Contents{Signs: []agent.Sign{{Kind: agent.Medium, Text: "in use"}}})
		}, fleet.CodeDiskForeign},
		"another machine": {func(r *rig) { r.ticket.Identity = fleet.NewIdentity("", "SN0002") }, fleet.CodeFactsDiffer},
		"no such disk":    {func(r *rig) { r.desk.erase.Disk = fleet.DiskRef{Serial: "GONE"} }, fleet.CodeDiskChanged},
		"no name":         {func(r *rig) { r.desk.erase.Disk = fleet.DiskRef{} }, fleet.CodeWriteFailed},
		"no owner":        {func(r *rig) { r.desk.erase.Owner = "" }, fleet.CodeWriteFailed},
	} {
		t.Run(name, func(t *testing.T) {
			r, d := newEraseRig(t)
			c.change(r)
			before := d.Written()
			if cause := r.runUntilFailed(t); cause.Code != c.want {
				t.Errorf("code %s, want %s: %v", cause.Code, c.want, cause.Chain)
			}
			p := make([]byte, mib)
			if _, err := d.ReadAt(p, 0); err != nil || !bytes.Equal(p, r.image[:mib]) || d.Written() != before || d.Discards() != 0 {
				t.Error("the disk was touched")
			}
		})
	}
}

func TestEraseIsReadBack(t *testing.T) {
	r, d := newEraseRig(t)
	d.Rot(3 * mib)
	if cause := r.runUntilFailed(t); cause.Code != fleet.CodeWriteFailed || !strings.Contains(strings.Join(cause.Chain, " "), "other bytes") {
		t.Errorf("%+v", cause)
	}
}

// TestEraseImageFile erases a plain file as the lab's disks are, after the agent
// itself had installed a system on it: our own marker is no obstacle.
func TestEraseImageFile(t *testing.T) {
	r, host, dev := newFolderRig(t, 64*mib)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := agent.RunWith(ctx, r.ticket, host, r.log); err != nil {
		t.Fatal(err)
	}
	r.desk.erase = &callhome.EraseOrder{Disk: r.desk.write.Disk, Owner: "rack-a"}
	r.desk.key = ""
	if err := os.RemoveAll(strings.TrimSuffix(dev, "dev/sda") + "run/metalrise"); err != nil { // another boot
		t.Fatal(err)
	}
	got := r.erases(t, host)
	b, err := os.ReadFile(dev)
	if err != nil || got.Method != "discard" || got.Bytes != 64*mib || len(bytes.Trim(b, "\x00")) > 0 {
		t.Errorf("%+v, %v, or something is left on the disk", got, err)
	}
}
