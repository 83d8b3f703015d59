package plan_test

import (
	"go/ast"
	"go/token"
	"testing"
)

// checkClock finds uses of package time that read a clock or wait.
func checkClock(t *testing.T, set *token.FileSet, tree *ast.File, file string) {
	ast.Inspect(tree, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" {
			switch sel.Sel.Name {
			case "Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker":
				t.Errorf("%s: time.%s", set.Position(sel.Pos()), sel.Sel.Name)
			}
		}
		return true
	})
}
