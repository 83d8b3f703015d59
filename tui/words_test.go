package tui

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

// spoken collects every text that the code translates: arguments of t, f and
// say, and names of columns.
func spoken(t *testing.T) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 {
				return true
			}
			name := ""
			switch fun := call.Fun.(type) {
			case *ast.Ident:
				name = fun.Name
			case *ast.SelectorExpr:
				name = fun.Sel.Name
			}
			if lit, ok := call.Args[0].(*ast.BasicLit); ok && (name == "t" || name == "f" || name == "say") {
				s, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				if s != "" {
					out[s] = true
				}
			}
			return true
		})
	}
	if len(out) < 150 {
		t.Fatalf("only %d texts found", len(out))
	}
	return out
}

// engineWords are texts that come from the engine and are translated when shown.
func engineWords() []string {
	out := slices.Collect(maps.Keys(japaneseEngine()))
	for _, p := range fleet.Phases() {
		out = append(out, string(p))
	}
	for _, c := range []fleet.Condition{fleet.Idle, fleet.Moving, fleet.Waiting, fleet.Held, fleet.Settled} {
		out = append(out, string(c))
	}
	for _, r := range []fleet.Role{fleet.ControlPlane, fleet.Worker, fleet.SingleNode, fleet.Excluded} {
		out = append(out, string(r))
	}
	for _, s := range []fleet.Action{fleet.ActEnroll, fleet.ActInspect, fleet.ActPlan, fleet.ActConsent, fleet.ActStage, fleet.ActIdentify, fleet.ActEject,
		fleet.ActInsert, fleet.ActBootOnce, fleet.ActPowerOff, fleet.ActPowerOn, fleet.ActHello, fleet.ActWrite, fleet.ActRestart, fleet.ActArrive,
		fleet.ActHold, fleet.ActRetry, fleet.ActFinish, fleet.ActProgress, fleet.ActWithdraw, fleet.ActPrepare, fleet.ActBegin, fleet.ActBase, fleet.ActInvite,
		fleet.ActJoin, fleet.ActAdmit, fleet.ActReady, fleet.ActReset, fleet.ActDrain, fleet.ActLeave, fleet.ActErase, fleet.ActRemove, fleet.ActComponent,
		fleet.ActProve, fleet.ActHandOver} {
		out = append(out, string(s))
	}
	return append(out, fleet.CheckRegistered, fleet.CheckDressed, fleet.CheckServing, fleet.CheckNetwork, fleet.CheckKubelet, fleet.CheckPressure,
		fleet.CheckControl, fleet.CheckEtcd, fleet.CheckKVM, fleet.CheckSchedulable)
}

func TestNoTextIsMissing(t *testing.T) {
	table := japanese()
	used := spoken(t)
	for _, s := range engineWords() {
		used[s] = true
	}
	var missing []string
	for s := range used {
		if table[s] == "" {
			missing = append(missing, s)
		}
	}
	slices.Sort(missing)
	for _, s := range missing {
		t.Errorf("no Japanese for %q", s)
	}
	for s := range table {
		if !used[s] {
			t.Errorf("%q is translated but never shown", s)
		}
	}
}

var verbs = regexp.MustCompile(`%(\[\d\])?[-.\d]*[a-zA-Z%]`)

func TestTranslationsTakeTheSameValues(t *testing.T) {
	for english, other := range japanese() {
		x, y := verbs.FindAllString(english, -1), verbs.FindAllString(other, -1)
		if strings.Contains(other, "%[") {
			continue // numbered: the order differs
		}
		if !slices.Equal(x, y) {
			t.Errorf("%q has %v, its translation %v", english, x, y)
		}
	}
}
