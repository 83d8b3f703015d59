package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/images"
)

// served is a rack whose site says more about serving.
func (r *rack) served(text string) {
	r.t.Helper()
	old, err := os.ReadFile(r.site)
	if err != nil {
		r.t.Fatal(err)
	}
	file := filepath.Join(filepath.Dir(r.site), "served.yaml")
	if err := os.WriteFile(file, append(old, []byte("\nserving:\n"+text)...), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = os.Remove(file) })
	r.site = file
}

// reading is what the journal says at the end of a server's medium.
type reading struct {
	Medium            fleet.Medium
	Bytes, Size, Root int64
	Rate              float64
	Final             bool
	Note              string
}

func (r *rack) readings() []reading {
	r.t.Helper()
	var out []reading
	for _, e := range r.events() {
		var v reading
		if e.Action == fleet.ActFetch && json.Unmarshal(e.Data, &v) == nil && v.Final {
			v.Note = e.Note
			out = append(out, v)
		}
	}
	return out
}

// wantMinimal checks that each of n servers was installed by the minimal medium,
// that BMCs read far less than the full one, and that status and journal say so.
func (r *rack) wantMinimal(n int) {
	r.t.Helper()
	release, err := images.Load(r.t.Context(), r.release())
	if err != nil {
		r.t.Fatal(err)
	}
	info, err := os.Stat(release.ISO.Path)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range r.overview().Servers {
		if s.Medium != fleet.MinimalMedium || s.Fetched == 0 || s.Fetched >= info.Size()*6/10 {
			r.t.Errorf("%s: %s medium, %d bytes fetched of a full one of %d", s.Server, s.Medium, s.Fetched, info.Size())
		}
	}
	got := r.readings()
	for _, v := range got {
		r.t.Logf("full medium %d bytes; %+v", info.Size(), v)
		if v.Medium != fleet.MinimalMedium || v.Bytes < v.Size || v.Bytes >= info.Size()*6/10 || v.Root < info.Size()*4/10 || !strings.Contains(v.Note, "of the minimal medium") {
			r.t.Errorf("%+v", v)
		}
	}
	if len(got) != n {
		r.t.Errorf("%d media are accounted for, want %d", len(got), n)
	}
}

// release is the folder of the site's operating system.
func (r *rack) release() string {
	r.t.Helper()
	b, err := os.ReadFile(r.site)
	if err != nil {
		r.t.Fatal(err)
	}
	_, rest, _ := strings.Cut("\n"+string(b), "\nimage: ")
	path, _, _ := strings.Cut(rest, "\n")
	if path = strings.Trim(path, `"'`); !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(r.site), path)
	}
	return path
}

// TestRealMinimalMedium installs a machine from powered off by the minimal medium:
// firmware boots it, and its initial RAM disk takes the planned network, where
// nobody gives addresses, and fetches its root file system.
func TestRealMinimalMedium(t *testing.T) {
	if os.Getenv("METALRISE_QEMU") == "" {
		t.Skip("skipped: heavy, software emulation takes minutes; set METALRISE_QEMU=1")
	}
	for _, firmware := range []string{"bios", "uefi"} {
		t.Run(firmware, func(t *testing.T) {
			r := newRack(t, "small-"+firmware, 1, "--machine", "qemu", "--firmware", firmware)
			r.onFailure()
			r.served("  medium: minimal\n")
			r.planned(1)
			r.must("apply", "--erase-disks", "1", "--detach")
			begin := time.Now()
			r.installedBy(fleet.VirtualMedia)
			r.wantMinimal(1)
			t.Logf("%s: %s from consent to the installed system's report", firmware, time.Since(begin).Round(time.Second))
		})
	}
}

// TestRealMinimalMedia installs two servers in the lab's container machines: one
// whose BMC is named as one on a slow link, and one whose medium is read so slowly
// that the engine goes on with the minimal one by itself.
func TestRealMinimalMedia(t *testing.T) {
	r := newRack(t, "smalls", 2)
	r.onFailure()
	old, err := os.ReadFile(r.site)
	if err != nil {
		t.Fatal(err)
	}
	servers := r.labView().Servers
	host, _, _ := strings.Cut(servers[0].BMC, ":")
	file := filepath.Join(filepath.Dir(r.site), "links.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(string(old), "\nbmcs:\n", "\nbmcs:\n  slowLinks: ["+host+"]\n", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(file) })
	r.site = file
	r.planned(2)
	r.must("lab", "fault", "--name", r.lab, servers[1].Name, "media-slow limit=60000 times=1")
	r.must("apply", "--erase-disks", "2", "--detach", "--no-probe") // the fault is meant for the medium
	r.await(installLimit, "both installed", allSettled)
	r.wantMinimal(2)
	var left []string
	for _, s := range r.overview().Servers {
		for _, m := range s.Missed {
			left = append(left, strings.Join(m.Cause.Chain, " "))
			if m.Route != fleet.VirtualMedia || m.Medium != fleet.FullMedium || m.Cause.Code != fleet.CodeMediumSlow {
				t.Errorf("%s was left: %+v", m.Route, m)
			}
		}
	}
	if len(left) != 1 || !strings.Contains(left[0], "bit/s") {
		t.Errorf("full media that were left: %q", left)
	}
	t.Log(left)
	r.installedOnce()
}
