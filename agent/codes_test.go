package agent

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// TestCodesAreReportable: the engine takes no code from a machine that the closed
// list lacks, so that each one that stands in the agent's source must be there.
func TestCodesAreReportable(t *testing.T) {
	named := regexp.MustCompile(`fleet\.(Code[A-Z][A-Za-z]*)`)
	listed, err := os.ReadFile("../fleet/callhome/codes.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = fs.WalkDir(os.DirFS("."), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			if m[1] == "CodeOf" {
				continue
			}
			n++
			if !regexp.MustCompile(`fleet\.` + m[1] + `\b`).Match(listed) {
				t.Errorf("%s names %s, which the engine would not take", path, m[1])
			}
		}
		return err
	})
	if err != nil || n < 20 {
		t.Errorf("%d codes, %v", n, err)
	}
	if callhome.Reportable(fleet.CodeNodeSilent) || !callhome.Reportable(fleet.CodeWriteFailed) {
		t.Error("the list holds the wrong codes")
	}
}
