package kube

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The pure half does no input and output and reads no clock.
func TestPureHalf(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	forbidden := []string{"os", "os/exec", "net/http", "context", "crypto/rand", "math/rand", "math/rand/v2", "syscall", "log"}
	seen := 0
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "api") {
			continue
		}
		seen++
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			name := strings.Trim(i.Path.Value, `"`)
			if slices.Contains(forbidden, name) || strings.HasPrefix(name, "k8s.io/client-go") {
				t.Errorf("%s imports %s", path, name)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := s.X.(*ast.Ident)
			if ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "NewTimer", "NewTicker"}, s.Sel.Name) {
				t.Errorf("%s calls time.%s", path, s.Sel.Name)
			}
			if ok && x.Name == "net" && (strings.HasPrefix(s.Sel.Name, "Dial") || strings.HasPrefix(s.Sel.Name, "Listen") || strings.HasPrefix(s.Sel.Name, "Lookup")) {
				t.Errorf("%s calls net.%s", path, s.Sel.Name)
			}
			return true
		})
	}
	if seen < 10 {
		t.Errorf("only %d files", seen)
	}
}
