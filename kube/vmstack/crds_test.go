package vmstack

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
	"metalrise.dev/lab/kubernetes"
	"metalrise.dev/lab/kubernetes/platform"
)

// module is the folder of a published module, from Go's own cache or fetched
// into it.
func module(t *testing.T, name, version string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", name+"@"+version)
	command.Dir = t.TempDir() // no module of ours decides
	out, err := command.Output()
	var answer struct{ Dir, Error string }
	if json.Unmarshal(out, &answer) != nil || answer.Dir == "" {
		t.Fatalf("fetch %s %s: %v %s", name, version, err, answer.Error)
	}
	return answer.Dir
}

// generated reads the texts of a generated map of Go source, by key.
func generated(t *testing.T, path string) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		pair, ok := n.(*ast.KeyValueExpr)
		if !ok {
			return true
		}
		name, isText := textOf(pair.Key)
		if value, isText2 := textOf(pair.Value); isText && isText2 {
			out[name] = value
			return false
		}
		return true
	})
	return out
}

// textOf is the value of a string, in pieces or in one.
func textOf(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		a, ok := textOf(e.X)
		b, ok2 := textOf(e.Y)
		return a + b, ok && ok2 && e.Op == token.ADD
	}
	return "", false
}

// kubevirtSchemas reads the schemas of KubeVirt's kinds as its makers generate
// them, out of their source.
func kubevirtSchemas(t *testing.T) map[string]map[string]any {
	t.Helper()
	path := filepath.Join(module(t, "kubevirt.io/kubevirt", "v1.6.0"), "pkg/virt-operator/resource/generate/components/validations_generated.go")
	out := map[string]map[string]any{}
	for name, text := range generated(t, path) {
		var schema map[string]any
		if err := yaml.Unmarshal([]byte(text), &schema); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = schema
	}
	if len(out) < 15 {
		t.Fatalf("only %d schemas in %s", len(out), path)
	}
	return out
}

// kubevirtDefinitions are the definitions that virt-operator makes of the
// schemas, as far as ours need them.
func kubevirtDefinitions(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	schemas := kubevirtSchemas(t)
	var out []*unstructured.Unstructured
	for _, d := range []struct {
		group, version, kind string
		cluster              bool
	}{
		{"kubevirt.io", "v1", "KubeVirt", false},
		{"kubevirt.io", "v1", "VirtualMachine", false},
		{"kubevirt.io", "v1", "VirtualMachineInstance", false},
		{"kubevirt.io", "v1", "VirtualMachineInstanceMigration", false},
		{"snapshot.kubevirt.io", "v1beta1", "VirtualMachineSnapshot", false},
		{"snapshot.kubevirt.io", "v1beta1", "VirtualMachineRestore", false},
		{"instancetype.kubevirt.io", "v1beta1", "VirtualMachineClusterInstancetype", true},
		{"instancetype.kubevirt.io", "v1beta1", "VirtualMachineClusterPreference", true},
	} {
		singular := strings.ToLower(d.kind)
		schema := schemas[singular]
		if schema == nil {
			t.Fatalf("no schema of %s", d.kind)
		}
		version := map[string]any{"name": d.version, "served": true, "storage": true, "schema": schema}
		if d.group == "kubevirt.io" {
			version["subresources"] = map[string]any{"status": map[string]any{}}
		}
		scope := "Namespaced"
		if d.cluster {
			scope = "Cluster"
		}
		out = append(out, object("apiextensions.k8s.io/v1", kindDefinition, "", singular+"s."+d.group, map[string]any{"spec": map[string]any{
			"group": d.group, "scope": scope, "versions": []any{version},
			"names": map[string]any{"plural": singular + "s", "singular": singular, "kind": d.kind},
		}}))
	}
	return out
}

// cdiDefinitions are those that CDI brings, as far as ours need them: as its
// makers generate them, out of their source.
func cdiDefinitions(t *testing.T) []*unstructured.Unstructured {
	t.Helper()
	all := generated(t, filepath.Join(module(t, "kubevirt.io/containerized-data-importer", platform.CDIVersion), "pkg/operator/resources/crds_generated.go"))
	var out []*unstructured.Unstructured
	for _, name := range []string{"cdi", "datavolume", "storageprofile"} {
		objects, err := kube.ReadObjects([]byte(all[name]))
		if err != nil || len(objects) != 1 {
			t.Fatalf("%d definitions of %s: %v", len(objects), name, err)
		}
		out = append(out, objects...)
	}
	return out
}

// realAPI is a real API without nodes.
func realAPI(t *testing.T, p fleet.Plan) (*kube.Cluster, string) {
	t.Helper()
	if os.Getenv("METALRISE_REAL") == "" {
		t.Skip("skipped: real parts run with METALRISE_REAL=1")
	}
	dir := newestPayload(t)
	control, err := kubernetes.StartControlPlane(t.Context(), dir, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(control.Stop)
	c, err := kube.Connect(control.Kubeconfig, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, dir
}

func cacheDir(t *testing.T) string {
	t.Helper()
	if cache := os.Getenv("METALRISE_CACHE"); cache != "" {
		return cache
	}
	base, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(base, "metalrise")
}

// newestPayload is the newest software in the cache, one with manifests of the
// VM platform if there is one.
func newestPayload(t *testing.T) string {
	t.Helper()
	cache := cacheDir(t)
	for _, pattern := range []string{"platform-*", "payload-*"} {
		found, err := filepath.Glob(filepath.Join(cache, pattern, "payload.json"))
		if err != nil {
			t.Fatal(err)
		}
		newest := ""
		for _, f := range found {
			if newest == "" || newer(t, f, newest) {
				newest = f
			}
		}
		if newest != "" {
			return filepath.Dir(newest)
		}
	}
	t.Skipf("skipped: no payload in %s; the lab's tests make one", cache)
	return ""
}

func newer(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.Stat(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := os.Stat(b)
	if err != nil {
		t.Fatal(err)
	}
	return x.ModTime().After(y.ModTime())
}
