package ignition_test

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/ignition"
)

// TestLiveFiles wants the same settings that a medium of the server's own has,
// for each shape of network, and no secret.
func TestLiveFiles(t *testing.T) {
	for _, c := range configs(t) {
		if !strings.HasPrefix(c.name, "live") {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			shape := strings.TrimPrefix(c.name, "live-")
			in := liveInput(t, shape)
			files, err := ignition.LiveFiles(in.Assignment)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := ignition.Live(in)
			if err != nil {
				t.Fatal(err)
			}
			whole := map[string]string{}
			for _, f := range parse(t, raw).Storage.Files {
				whole[f.Path] = f.Contents.Source
			}
			for _, f := range files {
				if _, ok := whole[f.Path]; !ok || f.Text == "" || strings.Contains(f.Text, "%0A") || strings.Contains(f.Text, in.Ticket.Token) {
					t.Errorf("%s is not of the live system: %q", f.Path, f.Text)
				}
				if strings.HasSuffix(f.Path, ".nmconnection") && f.Mode != 0o600 {
					t.Errorf("%s has mode %o", f.Path, f.Mode)
				}
			}
			if len(files) < 3 {
				t.Errorf("%d files", len(files))
			}
		})
	}
	in := liveInput(t, "port")
	in.Assignment.Network.Address = "x"
	if _, err := ignition.LiveFiles(in.Assignment); fleet.CodeOf(err) != fleet.CodeSiteInvalid {
		t.Errorf("%v", err)
	}
}
