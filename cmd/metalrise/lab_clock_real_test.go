package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// TestRealWrongClock makes a cluster of a server whose clock is two hours off at
// each power-on: a full virtual machine, because container machines have no clock
// of their own. The agent must set the clock in the live system and in the
// installed one, the journal must tell, and the node must become ready all the
// same.
func TestRealWrongClock(t *testing.T) {
	if os.Getenv("METALRISE_QEMU") != "1" {
		t.Skip("skipped: heavy, software emulation takes minutes; set METALRISE_QEMU=1")
	}
	r := newRack(t, "clock", 1, "--machine", "qemu", "--kubernetes", "--memory", "4096", "--clock", "-2h")
	r.planned(1)
	begin := time.Now()
	r.must("apply", "--erase-disks", "1")
	if v := r.overview(); !allSettled(v) || v.Servers[0].Phase != fleet.Ready {
		t.Fatalf("%+v", v.Servers)
	}
	t.Logf("ready after %s", time.Since(begin).Round(time.Second))
	noted := false
	for _, e := range r.events() {
		noted = noted || e.Action == fleet.ActHello && strings.Contains(e.Note, string(fleet.CodeClockSkew))
	}
	if !noted {
		t.Error("the journal does not say that the clock was wrong")
	}
	console := r.must("lab", "console", "--name", r.lab, "n1")
	// The machine's clock and ours drift apart while it is emulated.
	set := regexp.MustCompile(`clock was (2h0m|1h59m5)\ds off and is set`).FindAllString(console, -1)
	if len(set) != 2 {
		t.Errorf("the clock was set %d times, want it once in the live and once in the installed system:\n%.2000s", len(set), console[max(0, len(console)-2000):])
	}
	t.Logf("the machine said: %q", set)
}
