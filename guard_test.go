// Package metalrise holds no code: its tests guard the shape of the house.
package metalrise

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const module = "metalrise.dev"

// edges lists every import between our packages that is allowed, and why. A
// package that is missing here may import nothing of ours.
var edges = map[string]map[string]string{
	"fleet/callhome": {"fleet": "messages carry facts, causes and disks"},
	"fleet/site":     {"fleet": "reads and writes fleet.Site"},
	"plan":           {"fleet": "site and facts in, plan out"},
	"ignition": {
		"fleet":          "assignment in",
		"fleet/callhome": "puts the ticket on the machine",
	},
	"bmc": {"fleet": "facts and faults out"},
	"bmc/bmctest": {
		"bmc":   "what its sessions promise",
		"fleet": "the facts a session tells",
	},
	"images": {"fleet": "faults and image references out"},
	"iso":    {"fleet": "faults out"},
	"boot": {
		"fleet":          "faults decide the status of an answer",
		"fleet/callhome": "the conversation it carries",
	},
	"agent": {
		"fleet":          "facts and faults out",
		"fleet/callhome": "the conversation it leads",
		"agent/node":     "carries out the tasks of a node",
	},
	"agent/node": {
		"fleet":          "faults out",
		"fleet/callhome": "the tasks it carries out",
	},
	"kube": {
		"fleet":          "plans in, checks and faults out",
		"fleet/callhome": "renders the tasks of nodes",
	},
	"kube/vmstack": {
		"fleet": "the catalogue and the plan of the VM platform in, checks and faults out",
		"kube":  "the API of the cluster",
	},
	"kube/vmstack/ring": {
		"fleet": "plans in, what was seen out",
		"guest": "the orders and words of the VMs' guests",
		"kube":  "the API that the VMs run on",
	},
	"cmd/metalrise-guest": {"guest": "it is nothing else"},
	"agent/agenttest": {
		"agent/node":               "what its machine does with a task",
		"fleet/callhome":           "the steps of that task",
		"agent":                    "a machine without hardware for the agent to work on",
		"agent/internal/diskimage": "small disk images",
		"fleet":                    "the facts that machine shows",
	},
	"provision": {
		"fleet":          "the nouns",
		"fleet/callhome": "judges machines and gives orders",
	},
	"provision/store": {"fleet": "what it keeps"},
	"provision/api":   {"fleet": "what it carries"},
	"tui":             {"fleet": "the nouns it shows"},
	"lab": {
		"lab/redfish":           "one emulated BMC for each server",
		"lab/machine":           "the hardware behind it",
		"lab/machine/container": "one kind of it",
		"lab/machine/qemu":      "the other kind",
		"lab/machine/fake":      "a kind without substance, for tests of the lab itself",
	},
	"lab/redfish":             {"lab/machine": "drives the hardware"},
	"lab/machine/container":   {"lab/machine": "is hardware"},
	"lab/machine/qemu":        {"lab/machine": "is hardware"},
	"lab/machine/fake":        {"lab/machine": "is hardware"},
	"lab/machine/machinetest": {"lab/machine": "holds hardware to its contract"},
	"lab/nodeimage":           {"lab/recipe": "keeps what takes long to make"},
	"lab/kubernetes/platform": {
		"lab/kubernetes": "a payload of nodes to put a VM platform into",
		"lab/recipe":     "keeps what takes long to make",
		"fleet":          "the list of what a payload holds",
		"guest":          "the program and the file system of the proofs' guest",
	},
	"lab/kubernetes": {
		"lab/recipe": "keeps what takes long to make",
		"fleet":      "the list of what a payload holds",
	},
}

// free packages may import anything of ours: they wire or try out the whole.
var free = map[string]string{
	"cmd/metalrise": "the only place where adapters meet drivers",
	"bench":         "measures the whole",
}

// doors lists third parties that may enter through one package only.
var doors = map[string]string{
	"modernc.org/sqlite":                     "provision/store",
	"github.com/coreos/ignition/":            "ignition",
	"github.com/coreos/stream-metadata-go/":  "images",
	"charm.land/":                            "tui",
	"k8s.io/":                                "kube", // and kube/vmstack
	"github.com/insomniacslk/dhcp":           "boot/netboot",
	"github.com/pin/tftp/":                   "boot/netboot",
	"github.com/ProtonMail/go-crypto":        "images",
	"github.com/google/go-containerregistry": "images",
	"github.com/bmc-toolbox/":                "bmc",
	"github.com/stmcginnis/gofish":           "bmc",
	"github.com/spf13/":                      "cmd/metalrise",
}

type listed struct {
	ImportPath, Name string
	Imports          []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Name,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p listed
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 15 {
		t.Fatalf("only %d packages found", len(all))
	}
	return all
}

func TestImports(t *testing.T) {
	used := map[string]bool{}
	for _, p := range packages(t) {
		from := strings.TrimPrefix(p.ImportPath, module+"/")
		for _, imp := range p.Imports {
			if to, ours := strings.CutPrefix(imp, module+"/"); ours {
				used[from+" → "+to] = true
				if free[from] == "" && edges[from][to] == "" {
					t.Errorf("%s must not import %s (if it should, give the edge a reason in guard_test.go)", from, to)
				}
				continue
			}
			for third, door := range doors {
				if strings.HasPrefix(imp, third) && from != door && !strings.HasPrefix(from, door+"/") && !strings.HasPrefix(from, "lab/") {
					t.Errorf("%s imports %s, whose only door is %s", from, imp, door)
				}
			}
			if (from == "fleet" || from == "fleet/callhome") && strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") {
				t.Errorf("%s imports %s, but knows only the standard library", from, imp)
			}
		}
	}
	for from, tos := range edges {
		for to := range tos {
			if !used[from+" → "+to] && !strings.Contains(to, "internal") {
				t.Errorf("guard_test.go allows %s → %s, which nothing uses", from, to)
			}
		}
	}
}

// source calls each with every Go file of ours.
func source(t *testing.T, each func(path string, f *ast.File, set *token.FileSet)) {
	t.Helper()
	set := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		each(path, f, set)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments := map[string]int{}
	source(t, func(path string, f *ast.File, _ *token.FileSet) {
		dir := filepath.Dir(path)
		if strings.HasSuffix(path, "_test.go") && dir != "." {
			return
		}
		comments[dir] += 0
		if f.Doc == nil {
			return
		}
		comments[dir]++
		text := f.Doc.Text()
		if !strings.HasPrefix(text, "Package "+f.Name.Name+" ") && !strings.HasPrefix(text, "Command ") {
			t.Errorf("%s: the package comment begins with %q", path, strings.SplitN(text, "\n", 2)[0])
		}
	})
	for dir, n := range comments {
		if n != 1 {
			t.Errorf("%s has %d package comments, want one", dir, n)
		}
	}
}

// pure lists code that takes values and gives values.
var pure = regexp.MustCompile(`^(fleet/[^/]*|fleet/callhome/.*|plan/.*|ignition/.*|provision/(next|fold|fit|states)\.go)$`)

var impure = regexp.MustCompile(`^(time\.(Now|Since|Until|Sleep|After|AfterFunc|NewTimer|NewTicker)|net\.(Dial|Listen|Lookup|Interface).*)$`)

func TestPureCodeReadsNoClockDiskOrNetwork(t *testing.T) {
	source(t, func(path string, f *ast.File, set *token.FileSet) {
		if strings.HasSuffix(path, "_test.go") || !pure.MatchString(path) {
			return
		}
		for _, imp := range f.Imports {
			switch name := strings.Trim(imp.Path.Value, `"`); name {
			case "os", "net/http", "os/exec", "syscall", "math/rand", "math/rand/v2", "crypto/rand":
				t.Errorf("%s imports %s", path, name)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && impure.MatchString(x.Name+"."+s.Sel.Name) {
				t.Errorf("%s: %s.%s in pure code", set.Position(s.Pos()), x.Name, s.Sel.Name)
			}
			return true
		})
	})
}

func TestFilesAndFunctionsStayReadable(t *testing.T) {
	source(t, func(path string, f *ast.File, set *token.FileSet) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		if lines := set.Position(f.End()).Line; lines > 450 {
			t.Errorf("%s has %d lines, more than read in one sitting (450)", path, lines)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Name.Name == "CodePages" { // a table
				continue
			}
			if lines := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line; lines > 75 {
				t.Errorf("%s: %s has %d lines, more than a screen (75)", set.Position(fn.Pos()), fn.Name.Name, lines)
			}
		}
	})
}

func TestNoPackageRegistersItself(t *testing.T) {
	source(t, func(path string, f *ast.File, set *token.FileSet) {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init()", set.Position(fn.Pos()))
			}
		}
	})
}

func TestNothingUnfinished(t *testing.T) {
	words := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b|not implemen` + `ted`)
	source(t, func(path string, f *ast.File, set *token.FileSet) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(b), "\n") {
			if words.MatchString(line) {
				t.Errorf("%s:%d: %s", path, i+1, strings.TrimSpace(line))
			}
		}
	})
}
