package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// TestRealWrongClock installs a server whose clock is two hours off at each
// power-on: a full virtual machine, because container machines have no clock of
// their own. The agent must set the clock in the live system and in the
// installed one, and the journal must tell.
func TestRealWrongClock(t *testing.T) {
	if os.Getenv("METALRISE_QEMU") != "1" {
		t.Skip("skipped: heavy, software emulation takes minutes; set METALRISE_QEMU=1")
	}
	r := newRack(t, "clock", 1, "--machine", "qemu", "--clock", "-2h")
	r.planned(1)
	begin := time.Now()
	r.must("apply", "--erase-disks", "1")
	if v := r.overview(); !allSettled(v) || v.Servers[0].Phase != fleet.Installed {
		t.Fatalf("%+v", v.Servers)
	}
	t.Logf("installed after %s", time.Since(begin).Round(time.Second))
	noted := false
	for _, e := range r.events() {
		noted = noted || e.Action == fleet.ActHello && strings.Contains(e.Note, string(fleet.CodeClockSkew))
	}
	if !noted {
		t.Error("the journal does not say that the clock was wrong")
	}
	console := r.must("lab", "console", "--name", r.lab, "n1")
	if n := strings.Count(console, "2h0m0s off and is set") + strings.Count(console, "1h59m59s off and is set"); n < 2 {
		t.Errorf("the clock was set %d times, want it in the live and in the installed system:\n%.2000s", n, console[max(0, len(console)-2000):])
	}
}
