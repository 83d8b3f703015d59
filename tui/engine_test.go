package tui

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// japaneseLetters tells whether a text has any letter of Japanese.
func japaneseLetters(s string) bool {
	for _, r := range s {
		if r >= 0x3040 && r <= 0x30ff || r >= 0x4e00 && r <= 0x9fff {
			return true
		}
	}
	return false
}

func TestEveryCodePageIsTranslated(t *testing.T) {
	pages := japanesePages()
	for _, p := range fleet.CodePages() {
		j := pages[p.Code]
		if j.Code != p.Code || !japaneseLetters(j.Title) || !japaneseLetters(j.Why) || !japaneseLetters(j.Remedy) {
			t.Errorf("%s %q has no whole page in Japanese", p.Code, p.Title)
		}
		delete(pages, p.Code)
	}
	for c := range pages {
		t.Errorf("%s is translated, but is no code", c)
	}
}

// shape is a sentence with a mark in place of each value.
func shape(s string) string {
	return strings.TrimSpace(verb.ReplaceAllString(strings.ReplaceAll(s, "%%", "%"), "\x00"))
}

// inner are texts of the engine that no screen shows: what is hashed or
// encoded, faults of its own making that end it.
func inner() []string {
	return []string{
		"metalrise token v1", "metalrise bootstrap token v1", "2006-01-02 15:04 UTC", "encode consent", "encode removal", "encode retry",
		"engine: a part is missing", "and %d more", "times", "failed",
		"%.1f GiB", "%.1f Mbit/s", "%.0f kbit/s",
		// package kube/vmstack/ring: what guests are given
		"console=ttyS0 quiet panic=-1 ", "#cloud-config\n# ",
		// package fleet/site: what is looked for in texts
		"PRIVATE KEY", "yaml: ",
	}
}

// writesLog reports a call such as e.Log.Warn(...): the engine's own log stays
// English, and no screen shows it.
func writesLog(call *ast.CallExpr) bool {
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	on, ok := method.X.(*ast.SelectorExpr)
	return ok && on.Sel.Name == "Log"
}

// literals lists the texts with a space in them of all Go files that match,
// but for lines of the log.
func literals(t *testing.T, pattern string, skip ...string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", pattern, len(files), err)
	}
	out := map[string]string{}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") || slices.Contains(skip, filepath.Base(path)) {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if field, ok := n.(*ast.Field); ok {
				field.Tag = nil
			}
			if call, ok := n.(*ast.CallExpr); ok && writesLog(call) {
				return false
			}
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				s, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(s, " ") {
					out[s] = path
				}
			}
			return true
		})
	}
	return out
}

// TestEngineSentencesAreTranslated reads the sentences out of the engine's own
// code: each must be in the table, whole or as a part of one that is put
// together.
func TestEngineSentencesAreTranslated(t *testing.T) {
	var known []string
	for english := range japaneseSentences() {
		known = append(known, shape(english))
	}
	for word := range japanese() {
		known = append(known, shape(word))
	}
	for _, s := range inner() {
		known = append(known, shape(s))
	}
	wordy := regexp.MustCompile(`[a-zA-Z]{3,}`)
	for _, from := range []map[string]string{
		literals(t, "../plan/*.go", "diff.go", "cpu_models.go"), literals(t, "../provision/*.go", "states.go", "states_stack.go"),
		literals(t, "../kube/api_checks.go"), literals(t, "../kube/services.go"), literals(t, "../kube/vmstack/*.go"), literals(t, "../kube/vmstack/ring/*.go"), literals(t, "../fleet/proofs.go"), literals(t, "../fleet/site/check.go"), literals(t, "../fleet/site/platform.go"), literals(t, "../fleet/site/decode.go"), literals(t, "../fleet/site/read.go"), literals(t, "../fleet/site/secret.go"),
	} {
		for s, path := range from {
			want := shape(s)
			if len(want) < 4 || !wordy.MatchString(strings.ReplaceAll(want, "\x00", "")) {
				continue
			}
			if !slices.ContainsFunc(known, func(k string) bool { return strings.Contains(k, want) }) && !slices.ContainsFunc(inner(), func(k string) bool { return strings.HasPrefix(s, k) }) {
				t.Errorf("%s: no Japanese for %q", path, s)
			}
		}
	}
}

// TestPlansReadInJapanese shows all that the golden plans say: texts with their
// values in place, and put together from several sentences.
func TestPlansReadInJapanese(t *testing.T) {
	files, err := filepath.Glob("../plan/testdata/*/plan.golden")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d golden plans, %v", len(files), err)
	}
	w := newWords(Japanese)
	check := func(path, text string) {
		if got := w.engineText(text); !japaneseLetters(got) || strings.Contains(got, "%!") {
			t.Errorf("%s: %q is shown as %q", path, text, got)
		}
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var p fleet.Plan
		if err := json.Unmarshal(b, &p); err != nil {
			t.Fatal(err)
		}
		for _, f := range p.Findings {
			check(path, f.Text)
			check(path, f.Remedy)
		}
		for _, a := range p.Assignments {
			for _, r := range a.Reasons {
				check(path, r)
			}
		}
	}
}

func TestEngineSentencesKeepTheirValues(t *testing.T) {
	w := newWords(Japanese)
	for english, want := range map[string]string{
		"wait for the live system to call home":                 "起動したシステムの連絡待ち",
		"wait for the next try of insert":                       "挿入 の次の試行 を待機",
		"look whether eject was done":                           "取り出し が済んだか確認",
		"ssd before hdd among the smallest of 4 disks that fit": "合う 4 台の最小のうち hdd より ssd を優先",
		"install disk serial D1-A: the only disk that fits":     "導入先ディスク serial D1-A: 合うのはこの 1 台だけ",
		"site.yaml:12: the field is missing":                    "site.yaml:12: 項目がありません",
		"no enrolled server has serial \"X \\\"1\"":             "シリアル \"X \\\"1\" の登録済みサーバーはありません",
		"the BMC's own words":                                   "the BMC's own words",
		"VM a is Running on w1 since 26s, and its guest says nothing: the last line of its console is \"panic\"": "VM a は 26s 前から w1 で Running ですが、ゲストは何も言いません: コンソールの最後の行は \"panic\" です",
		"wait until VM a has left w1: not within 3m0s":                                                           "VM a が w1 を離れるのを待つ: 3m0s 以内に終わりませんでした",
		"the guest of VM a on w1 reported life 20s after the VM was asked for":                                   "w1 の VM a のゲストは、VM を求めてから 20s 後に応答しました",
		"the proof passed, and not all that it made is gone; still there: the namespace metalrise-proof":         "実証は通りましたが、作ったものがすべてはなくなっていません。まだあるもの: 名前空間 metalrise-proof",
	} {
		if got := w.engineText(english); got != want {
			t.Errorf("%q is shown as %q, want %q", english, got, want)
		}
	}
	if got := newWords(English).engineText("wait for x"); got != "wait for x" {
		t.Errorf("English became %q", got)
	}
}
