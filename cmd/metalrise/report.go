package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
	"metalrise.dev/provision/store"
)

func reportCommand(o *options) *cobra.Command {
	c := &cobra.Command{
		Use:   "report [FILE]",
		Short: "Write journal, plan and facts into one file for a helper, without secrets",
		Long: `report gathers what somebody needs who helps from afar: the journal, where every
server is, the plan, what was seen of the servers, the site file and the end of
the engine's log. Passwords, keys and tokens are not read into it; values of
secrets that stand in a text all the same are replaced. Serial numbers, addresses
and host names are in it: look through it before you send it to strangers.

report as-built writes another one: what the site was built as, to be signed.
` + exitHelp,
		Example: "  metalrise report -f osaka.yaml\n  metalrise report /tmp/osaka.tar.gz",
		Args:    usage(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			dir, err := o.siteDir()
			if err != nil {
				return err
			}
			path := "metalrise-report-" + time.Now().Format("20060102-150405") + ".tar.gz"
			if len(args) == 1 {
				path = args[0]
			}
			if err := o.gather(c.Context(), dir, path); err != nil {
				return err
			}
			o.printf("wrote %s\n", path)
			return nil
		},
	}
	c.AddCommand(asBuiltCommand(o), reportVerifyCommand(o))
	return c
}

// gather writes the report about the state in dir.
func (o *options) gather(ctx context.Context, dir, path string) error {
	members, err := o.members(ctx, dir)
	if err != nil {
		return fmt.Errorf("gather: %w", err)
	}
	hide := o.hider(dir)
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	packed := gzip.NewWriter(out)
	archive := tar.NewWriter(packed)
	for _, m := range members {
		text := hide.hide(m.text)
		err = errors.Join(err, archive.WriteHeader(&tar.Header{Name: "metalrise-report/" + m.name, Mode: 0o600, Size: int64(len(text)), ModTime: time.Now()}))
		if err == nil {
			_, err = archive.Write(text)
		}
	}
	if err = errors.Join(err, archive.Close(), packed.Close(), out.Close()); err != nil {
		return fmt.Errorf("write report %s: %w", path, err)
	}
	return nil
}

// member is one file of a report.
type member struct {
	name string
	text []byte
}

// maxJournal bounds how many events are gathered, the newest: those of a
// thousand servers that were installed ten times.
const maxJournal = 200_000

// members are the files of a report. They are named here one by one: what is
// not named, such as the folder of secrets, does not get in.
func (o *options) members(ctx context.Context, dir string) ([]member, error) {
	var out []member
	add := func(name string, v any) error {
		b, err := json.MarshalIndent(v, "", "  ")
		out = append(out, member{name, append(b, '\n')})
		return err
	}
	out = append(out, member{"about.txt", fmt.Appendf(nil, "metalrise %s, %s/%s, gathered %s\nsite file %s, state %s\n",
		version(), runtime.GOOS, runtime.GOARCH, time.Now().UTC().Format(time.RFC3339), o.file, dir)})
	if b, err := endOf(o.file, 1<<20); err == nil && b != nil {
		out = append(out, member{"site.yaml", b})
	}
	if b, err := endOf(filepath.Join(dir, "engine.log"), 4<<20); err == nil && b != nil {
		out = append(out, member{"engine.log", b})
	}
	st, err := store.OpenReader(dir)
	if errors.Is(err, os.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	defer st.Close()
	view, err := overview(ctx, dir)
	if err != nil { // a report is wanted most when something is broken
		out = append(out, member{"overview-missing.txt", []byte(err.Error() + "\n")})
	} else if err := add("overview.json", view); err != nil {
		return nil, err
	}
	for _, id := range []string{view.Plan} {
		if p, ok, err := st.Plan(ctx, id); err == nil && ok {
			if err := add("plan.json", p); err != nil {
				return nil, err
			}
		}
	}
	facts, err := st.Facts(ctx)
	if err != nil {
		return nil, err
	}
	inBand, err := st.InBand(ctx)
	if err != nil {
		return nil, err
	}
	found, err := st.Found(ctx)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(add("facts.json", facts), add("facts-in-band.json", inBand), add("found.json", found)); err != nil {
		return nil, err
	}
	journal, err := journalLines(ctx, st, maxJournal)
	return append(out, member{"journal.jsonl", journal}), err
}

// journalLines gives the newest events, at most so many: what a report is asked
// for happened last.
func journalLines(ctx context.Context, st *store.Store, most int64) ([]byte, error) {
	var b bytes.Buffer
	lines := json.NewEncoder(&b)
	last, err := st.LastEvent(ctx)
	if err != nil {
		return nil, err
	}
	for after := max(0, last-most); ; {
		events, err := st.Events(ctx, after, 10_000)
		if err != nil || len(events) == 0 {
			return b.Bytes(), err
		}
		for _, e := range events {
			if err := lines.Encode(e); err != nil {
				return nil, err
			}
		}
		after = events[len(events)-1].Seq
	}
}

// hider replaces secrets in texts.
type hider struct{ values []string }

const hidden = "[hidden]"

// shapes match what is a secret by its form: private keys, keys of media and
// tokens with which nodes join a cluster.
var shapes = []*regexp.Regexp{
	regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----`),
	regexp.MustCompile(`/m/[A-Za-z0-9_=-]{8,}`),
	regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`),
	regexp.MustCompile(`AGE-SECRET-KEY-1[A-Z0-9]+`),
	regexp.MustCompile(`(?i)(authorization|x-auth-token|bearer)["']?[:= ]+["']?[A-Za-z0-9+/._=-]{8,}`),
}

// hider knows the values of all secrets that can be read without asking a
// person.
func (o *options) hider(dir string) hider {
	var h hider
	add := func(s string) {
		for _, v := range []string{s, strings.TrimSpace(s)} {
			if len(v) < 3 { // nobody's secret, and it would leave nothing readable
				continue
			}
			quoted, _ := json.Marshal(v)
			h.values = append(h.values, v, strings.Trim(string(quoted), `"`), base64.StdEncoding.EncodeToString([]byte(v)), hex.EncodeToString([]byte(v)))
		}
	}
	if f, _ := site.Load(o.file); f != nil {
		secrets := &site.Secrets{Ask: func(string) (string, error) { return "", errors.New("nobody is asked for a report") }}
		b := f.Site().BMCs
		refs := []fleet.SecretRef{b.Password}
		for _, c := range b.Credentials {
			refs = append(refs, c.Password)
		}
		for _, l := range b.Listed {
			if l.Login != nil {
				refs = append(refs, l.Login.Password)
			}
		}
		for _, ref := range refs {
			if s, err := secrets.Resolve(ref); err == nil {
				add(s)
			}
		}
	}
	kept, _ := filepath.Glob(filepath.Join(dir, "secrets", "*"))
	for _, path := range kept {
		if b, err := os.ReadFile(path); err == nil {
			add(string(b))
			for line := range strings.Lines(string(b)) {
				if len(line) >= 32 { // the body of a key
					add(line)
				}
			}
		}
	}
	return h
}

func (h hider) hide(text []byte) []byte {
	for _, v := range h.values {
		text = bytes.ReplaceAll(text, []byte(v), []byte(hidden))
	}
	for _, s := range shapes {
		text = s.ReplaceAll(text, []byte(hidden))
	}
	return text
}
