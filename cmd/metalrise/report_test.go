package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/provision/store"
)

// TestReportHasNoSecret puts the secrets of a site where they do not belong and
// wants none of them in the report, in any form.
func TestReportHasNoSecret(t *testing.T) {
	folder := t.TempDir()
	const password, other = `hunter2"of<osaka`, "spare-password-7"
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("pw", password+"\n")
	write("pw2", other)
	write("site.yaml", `apiVersion: metalrise.dev/v1alpha1
kind: Site
name: osaka
bmcs:
  addresses: [10.0.9.11]
  username: admin
  password: {file: pw}
  credentials: [{username: root, password: {file: pw2}}]
network: {firstAddress: 10.0.1.21/24}
image: /srv/image
# spare-password-7 was noted here by mistake
`)
	dir := filepath.Join(folder, "state")
	ctx := context.Background()
	st, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := st.Secret("tokens")
	if err != nil {
		t.Fatal(err)
	}
	authority, err := st.SecretOr("authority", func() ([]byte, error) {
		return []byte("-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END PRIVATE KEY-----\n"), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = st.Append(ctx, fleet.Event{At: time.Now(), Server: "SN1", Plan: "p", Action: fleet.ActInsert, Edge: fleet.Ended, Outcome: fleet.Failed,
		Note:  "the BMC said: login admin " + password + " refused, token abcdef.0123456789abcdef",
		Cause: &fleet.Cause{Code: fleet.CodeBMCRejected, Chain: []string{"get https://10.0.0.1:1/m/AbCdEf0123456789/boot.iso", other}}})
	if err == nil {
		err = st.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	log := "password=" + password + " key " + hex.EncodeToString(tokens) + " " + base64.StdEncoding.EncodeToString(tokens) + "\n" + string(authority) + string(tokens)
	if err := os.WriteFile(filepath.Join(dir, "engine.log"), []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	o := &options{streams: &streams{out: io.Discard, errs: io.Discard}, file: filepath.Join(folder, "site.yaml"), state: dir, output: "text"}
	path := filepath.Join(folder, "report.tar.gz")
	if err := o.gather(ctx, dir, path); err != nil {
		t.Fatal(err)
	}
	all := unpack(t, path)
	for _, name := range []string{"about.txt", "site.yaml", "engine.log", "journal.jsonl", "facts.json", "overview.json"} {
		if _, ok := all["metalrise-report/"+name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	if !strings.Contains(all["metalrise-report/journal.jsonl"], "the BMC said") {
		t.Error("the journal is not in it")
	}
	for what, secret := range map[string]string{"password": password, "its JSON form": `hunter2\"of`, "its end": "of\\u003cosaka", "second password": other, "token secret": string(tokens),
		"token secret in hex": hex.EncodeToString(tokens), "token secret in base64": base64.StdEncoding.EncodeToString(tokens),
		"authority's key": "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg", "media key": "AbCdEf0123456789", "join token": "0123456789abcdef"} {
		for name, text := range all {
			if strings.Contains(text, secret) {
				t.Errorf("the %s is in %s", what, name)
			}
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := o.gather(ctx, dir, path); err == nil {
		t.Error("a report was overwritten")
	}
}

// TestReportHasTheNewestEvents: a helper wants to know how it ended.
func TestReportHasTheNewestEvents(t *testing.T) {
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, most := range []int64{4, 100} {
		if b, err := journalLines(t.Context(), st, most); err != nil || len(b) != 0 {
			t.Errorf("an empty journal: %q, %v", b, err)
		}
	}
	if _, err := st.Append(t.Context(), make([]fleet.Event, 10)...); err != nil {
		t.Fatal(err)
	}
	for most, first := range map[int64]string{4: `{"seq":7,`, 10: `{"seq":1,`, 100: `{"seq":1,`} {
		b, err := journalLines(t.Context(), st, most)
		lines := strings.Split(strings.TrimSpace(string(b)), "\n")
		if err != nil || len(lines) != int(min(most, 10)) || !strings.HasPrefix(lines[0], first) || !strings.HasPrefix(lines[len(lines)-1], `{"seq":10,`) {
			t.Errorf("at most %d: %d lines, the first is %.40s, %v", most, len(lines), lines[0], err)
		}
	}
}

func unpack(t *testing.T, path string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for archive := tar.NewReader(packed); ; {
		h, err := archive.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = string(text)
	}
}
