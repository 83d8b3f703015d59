package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
)

// TestEveryCommandTakesOutput walks the commands for the flag that the README
// promises.
func TestEveryCommandTakesOutput(t *testing.T) {
	everyCommand(testRoot(), func(words []string, c *cobra.Command) {
		if c.HasSubCommands() || c.InheritedFlags().Lookup("output") != nil {
			return
		}
		t.Errorf("%s: no --output", strings.Join(words, " "))
	})
}

// TestOutputIsJSON runs what can be run without servers: whatever succeeds prints
// JSON and nothing else.
func TestOutputIsJSON(t *testing.T) {
	state, file := t.TempDir(), filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(file, []byte(siteWithoutRelease), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{{"stop"}, {"stop", "--cancel"}, {"status"}, {"events"}, {"node", "list"}, {"explain"}, {"explain", "PLAN-017"}, {"site", "check"}} {
		var out, errs bytes.Buffer
		args := append(slices.Clone(words), "-f", file, "--state", state, "-o", "json")
		code := run(t.Context(), args, strings.NewReader(""), &out, &errs)
		n, d := 0, json.NewDecoder(&out)
		for {
			var v any
			err := d.Decode(&v)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Errorf("%v: no JSON: %v", words, err)
				break
			}
			n++
		}
		if code == exitOK && n == 0 && words[0] != "events" { // of an empty journal there is nothing to tell
			t.Errorf("%v: no JSON, %s", words, errs.String())
		}
		if slices.Contains([]string{"stop", "explain"}, words[0]) && code != exitOK {
			t.Errorf("%v: exit code %d, %s", words, code, errs.String())
		}
	}
}

// TestRetryTellsPrograms: what a retry began is a list, also of nothing.
func TestRetryTellsPrograms(t *testing.T) {
	var out bytes.Buffer
	o := &options{output: "json", streams: &streams{out: &out}}
	if err := o.begun([]fleet.ServerID{"SN1"}...); err != nil || !json.Valid(out.Bytes()) || !strings.Contains(out.String(), "SN1") {
		t.Errorf("%v: %s", err, out.String())
	}
}
