package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"metalrise.dev/agent"
	"metalrise.dev/agent/agenttest"
	"metalrise.dev/boot"
	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

func TestWholeWay(t *testing.T) {
	for _, format := range []string{"raw", "raw.zst", "raw.gz", "raw.xz"} {
		t.Run(format, func(t *testing.T) {
			r := newRig(t, format, 3*mib+512)
			if err := r.run(t.Context()); err != nil {
				t.Fatalf("%v; console:\n%s", err, r.log)
			}
			if n := r.host.Reboots(); n != 1 {
				t.Errorf("rebooted %d times, want once", n)
			}
			disk := r.host.Disk("PLANNED")
			got := make([]byte, len(r.image))
			if _, err := disk.ReadAt(got, 0); err != nil {
				t.Fatal(err)
			}
			// The partition table is moved; everything behind the first MiB is the image.
			end := len(r.image) - 33*512
			if !bytes.Equal(got[mib:end], r.image[mib:end]) {
				t.Error("the disk does not hold the image")
			}
			if !bytes.Equal(got[1024:mib], r.image[1024:mib]) {
				t.Error("the disk's start does not hold the image's entries and boot code")
			}
			if n := r.host.Disk("OTHER").Written(); n != 0 {
				t.Errorf("%d bytes were written to a disk that was not planned", n)
			}
			checkFiles(t, r.host)
			w := r.desk.written[0]
			if w.SHA256 != r.desk.write.Image.SHA256 || w.Bytes != int64(len(r.image)) || w.Disk.Serial != "PLANNED" {
				t.Errorf("reported %+v", w)
			}
			if strings.Contains(r.log.String(), "secret-token") || strings.Contains(r.log.String(), imageKey) {
				t.Errorf("the console shows a secret:\n%s", r.log)
			}
			r.ticket.Stage = callhome.Installed
			r.desk.key = "" // the installed system has a token and a key of its own
			if err := r.run(t.Context()); err != nil {
				t.Errorf("installed system: %v", err)
			}
		})
	}
}

func checkFiles(t *testing.T, h *agenttest.Host) {
	t.Helper()
	files := h.Files()
	if got := string(files["ignition/config.ign"].Data); got != `{"ignition":{"version":"3.4.0"}}` {
		t.Errorf("ignition/config.ign holds %q", got)
	}
	if mode := files["ignition/config.ign"].Mode; mode != 0o600 {
		t.Errorf("ignition/config.ign has mode %o", mode)
	}
	want := "set ignition_network_kcmdline=\"ip=10.0.0.2::10.0.0.1:255.255.255.0:n1:eno1:none rd.neednet=1\"\n"
	if got := string(files["ignition.firstboot"].Data); got != want {
		t.Errorf("ignition.firstboot holds %q", got)
	}
	var m agent.Marker
	if err := json.Unmarshal(files["metalrise.json"].Data, &m); err != nil || m.Site != "rack-a" || m.Plan != "plan-1" || m.Incomplete {
		t.Errorf("marker %+v, %v", m, err)
	}
}

func TestResumesBrokenTransfer(t *testing.T) {
	r := newRig(t, "raw.zst", 6*mib)
	r.shelf.cut = 1500 << 10
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.shelf.opens < 4 {
		t.Errorf("the image was opened %d times: nothing was resumed", r.shelf.opens)
	}
	if r.host.Reboots() != 1 {
		t.Error("not rebooted")
	}
}

func TestDiskStaysUnbootable(t *testing.T) {
	tests := map[string]struct {
		change func(r *rig)
		code   fleet.Code
	}{
		"wrong digest":     {func(r *rig) { r.desk.write.Image.SHA256 = strings.Repeat("ab", 32) }, fleet.CodeImageMismatch},
		"image too short":  {func(r *rig) { r.shelf.items[imageKey] = r.image[:len(r.image)/2]; r.desk.write.Image.Format = "raw" }, fleet.CodeImageMismatch},
		"image too long":   {func(r *rig) { r.desk.write.Image.Bytes = 4 * mib }, fleet.CodeImageMismatch},
		"bomb":             {func(r *rig) { r.bomb(t) }, fleet.CodeImageMismatch},
		"damaged stream":   {func(r *rig) { r.damage() }, fleet.CodeWriteFailed},
		"truncated stream": {func(r *rig) { b := r.shelf.items[imageKey]; r.shelf.items[imageKey] = b[:len(b)-100] }, fleet.CodeWriteFailed},
		"disk fails early": {func(r *rig) { r.host.Disk("PLANNED").Break(mib + 1) }, fleet.CodeWriteFailed},
		"disk fails late":  {func(r *rig) { r.host.Disk("PLANNED").Break(int64(len(r.image)) - 1000) }, fleet.CodeWriteFailed},
		"disk forgets":     {func(r *rig) { r.host.Disk("PLANNED").Rot(2*mib + 77) }, fleet.CodeWriteFailed},
		"image is gone":    {func(r *rig) { delete(r.shelf.items, imageKey) }, fleet.CodeWriteFailed},
		"no boot partition": {func(r *rig) {
			r.replace(t, bytes.ReplaceAll(r.image, []byte("b\x00o\x00o\x00t\x00"), []byte("b\x00o\x00o\x00x\x00")))
		}, fleet.CodeImageMismatch},
		"no partition table": {func(r *rig) { r.replace(t, make([]byte, 5*mib)) }, fleet.CodeImageMismatch},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "raw.zst", 4*mib)
			test.change(r)
			cause := r.runUntilFailed(t)
			if cause.Code != test.code {
				t.Errorf("reported %s %q, want %s", cause.Code, cause.Chain, test.code)
			}
			wantUnbootable(t, r.host.Disk("PLANNED"))
			if len(r.desk.written) > 0 {
				t.Error("reported the disk as written")
			}
		})
	}
}

func TestRefusesBeforeFirstByte(t *testing.T) {
	data := agent.Contents{Signs: []agent.Sign{{Kind: agent.Member, Text: "LVM physical volume"}}}
	tests := map[string]struct {
		change func(r *rig)
		code   fleet.Code
	}{
		"foreign data":         {func(r *rig) { r.host.SetContents("PLANNED", data) }, fleet.CodeDiskForeign},
		"another site's":       {func(r *rig) { r.host.SetContents("PLANNED", agent.Contents{Owner: "rack-b"}) }, fleet.CodeDiskForeign},
		"other serial allowed": {func(r *rig) { r.host.SetContents("PLANNED", data); r.desk.write.Foreign = "OTHER" }, fleet.CodeDiskForeign},
		"own medium": {func(r *rig) {
			r.host.SetContents("PLANNED", agent.Contents{Owner: "rack-a", Signs: []agent.Sign{{Kind: agent.Medium, Text: "in use"}}})
		}, fleet.CodeDiskForeign},
		"disk replaced":     {func(r *rig) { r.desk.write.Disk.WWN = "5000000000000099" }, fleet.CodeDiskChanged},
		"other size":        {func(r *rig) { r.desk.write.Disk.SizeBytes++ }, fleet.CodeDiskChanged},
		"other machine":     {func(r *rig) { r.ticket.Identity.Serial = "SN9999" }, fleet.CodeFactsDiffer},
		"disk unnamed":      {func(r *rig) { r.desk.write.Disk = fleet.DiskRef{SizeBytes: 64 * mib} }, fleet.CodeWriteFailed},
		"no digest":         {func(r *rig) { r.desk.write.Image.SHA256 = "" }, fleet.CodeWriteFailed},
		"evil arguments":    {func(r *rig) { r.desk.write.KernelArguments = []string{`x" ; halt`} }, fleet.CodeWriteFailed},
		"image for another": {func(r *rig) { r.desk.write.Image.Bytes = 65 * mib }, fleet.CodeDiskChanged},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "raw.zst", mib)
			disk := r.host.Disk("PLANNED")
			if _, err := disk.WriteAt([]byte("precious"), 0); err != nil {
				t.Fatal(err)
			}
			test.change(r)
			if cause := r.runUntilFailed(t); cause.Code != test.code {
				t.Errorf("reported %s %q, want %s", cause.Code, cause.Chain, test.code)
			}
			p := make([]byte, 8)
			if _, err := disk.ReadAt(p, 0); err != nil || string(p) != "precious" || disk.Written() != 8 {
				t.Errorf("the disk was changed: %q, %d bytes written", p, disk.Written())
			}
		})
	}
}

func TestErasesWhatIsAllowed(t *testing.T) {
	data := []agent.Sign{{Kind: agent.Member, Text: "LVM physical volume"}}
	for name, change := range map[string]func(r *rig){
		"our own": func(r *rig) { r.host.SetContents("PLANNED", agent.Contents{Owner: "rack-a", Signs: data}) },
		"named": func(r *rig) {
			r.host.SetContents("PLANNED", agent.Contents{Signs: data})
			r.desk.write.Foreign = "PLANNED"
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "raw.zst", mib)
			change(r)
			if err := r.run(t.Context()); err != nil || r.host.Reboots() != 1 {
				t.Errorf("%v, %d reboots; console:\n%s", err, r.host.Reboots(), r.log)
			}
		})
	}
}

func TestHoldStopsCleanly(t *testing.T) {
	r := newRig(t, "raw", 8*mib)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	asked := make(chan struct{})
	// The image stands still in its middle until the hold was given.
	r.shelf.slow = func(off int64) {
		if off > 4*mib {
			<-asked
		}
	}
	r.desk.hold = func(callhome.Progress) bool {
		if !r.desk.held {
			close(asked)
			time.AfterFunc(time.Second, cancel)
		}
		return true
	}
	if err := r.run(ctx); err == nil {
		t.Fatal("the agent ended as if all were well")
	}
	wantUnbootable(t, r.host.Disk("PLANNED"))
	if len(r.desk.failed) > 0 {
		t.Errorf("an order to hold was reported as failure: %+v", r.desk.failed)
	}
	if r.host.Reboots() != 0 || len(r.desk.progress) == 0 {
		t.Errorf("%d reboots, %d progress calls", r.host.Reboots(), len(r.desk.progress))
	}
}

func TestRestartedAgentGoesOn(t *testing.T) {
	r := newRig(t, "raw.zst", mib)
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := r.host.Disk("PLANNED").Written()
	// The same boot: the token is bound to the kept key and the disk is done.
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := r.host.Disk("PLANNED").Written(); after != before {
		t.Error("a restarted agent wrote the disk again")
	}
	// Another boot has another key, so the token must be refused.
	r.host.Boot()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := r.run(ctx); err == nil || !strings.Contains(r.log.String(), "token refused") {
		t.Errorf("a second boot was not refused: %v\n%s", err, r.log)
	}
}

func TestTrustsOnlyItsAuthority(t *testing.T) {
	r := newRig(t, "raw.zst", mib)
	other, err := boot.NewAuthority("rack-a")
	if err != nil {
		t.Fatal(err)
	}
	r.ticket.CA = string(other.PEM())
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := r.run(ctx); err == nil {
		t.Error("the agent talked to a server of another authority")
	}
	if len(r.desk.hellos) > 0 {
		t.Error("the token was sent to a server of another authority")
	}
	if !strings.Contains(r.log.String(), "certificate signed by unknown authority") {
		t.Errorf("the console does not say why:\n%s", r.log)
	}
}

func TestSetsClock(t *testing.T) {
	r := newRig(t, "raw.zst", mib)
	r.desk.now = time.Now().Add(2 * time.Hour)
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := r.host.Clock(); !got.Equal(r.desk.now) {
		t.Errorf("clock set to %s, want %s", got, r.desk.now)
	}
}

func (r *rig) replace(t *testing.T, image []byte) {
	t.Helper()
	packed, err := agenttest.Pack("raw.zst", image)
	if err != nil {
		t.Fatal(err)
	}
	r.shelf.items[imageKey] = packed
	r.desk.write.Image.SHA256, r.desk.write.Image.Bytes = sumOf(image), int64(len(image))
}

// bomb is a small stream that grows to more than the disk holds.
func (r *rig) bomb(t *testing.T) {
	r.replace(t, make([]byte, 80*mib))
	r.desk.write.Image.Bytes = 0
}

func (r *rig) damage() {
	b := r.shelf.items[imageKey]
	b[len(b)/2] ^= 0xff
}

// metalrise may be killed and started again while machines write their disks.
func TestServerComesBack(t *testing.T) {
	r := newRig(t, "raw", 6*mib)
	stored, err := r.authority.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	reached := make(chan struct{})
	var once sync.Once
	r.shelf.slow = func(off int64) {
		if off > 3*mib {
			once.Do(func() { close(reached); time.Sleep(100 * time.Millisecond) })
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- r.run(t.Context()) }()
	<-reached
	addr := r.server.Addr().String()
	if err := r.server.Close(); err != nil {
		t.Fatal(err)
	}
	authority, err := boot.ParseAuthority(stored)
	if err != nil {
		t.Fatal(err)
	}
	again, err := boot.Listen(t.Context(), boot.Config{Addr: addr, Authority: authority, Desk: r.desk, Library: r.shelf})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := <-ended; err != nil || r.host.Reboots() != 1 || len(r.desk.failed) > 0 {
		t.Errorf("%v, %d reboots, failures %+v; console:\n%s", err, r.host.Reboots(), r.desk.failed, r.log)
	}
}
