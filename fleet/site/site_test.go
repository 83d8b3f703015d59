package site_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/site"
)

var update = flag.Bool("update", false, "write golden files and docs/site.md")

func read(t *testing.T, text string) *site.File {
	t.Helper()
	f, findings := site.Read(strings.NewReader(text), "site.yaml")
	if f == nil || len(findings) > 0 {
		t.Fatalf("findings %+v in:\n%s", findings, text)
	}
	return f
}

func template(t *testing.T) string {
	t.Helper()
	b, err := site.New("oslo")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(inputs) < 3 {
		t.Fatalf("%d inputs, %v", len(inputs), err)
	}
	for _, in := range inputs {
		t.Run(filepath.Base(in), func(t *testing.T) {
			f, findings := site.Load(in)
			var w strings.Builder
			for _, x := range findings {
				if x.Code != fleet.CodeSiteInvalid || x.Remedy == "" {
					t.Errorf("finding without help: %+v", x)
				}
				w.WriteString(x.Path + "\n    " + x.Text + "\n    -> " + x.Remedy + "\n")
			}
			if strings.Contains(w.String(), "hunter2") {
				t.Error("a secret is shown")
			}
			if f != nil {
				b, err := yaml.Marshal(f.Site())
				if err != nil {
					t.Fatal(err)
				}
				w.WriteString("\n" + string(b))
			}
			golden(t, strings.TrimSuffix(in, ".yaml")+".golden", w.String())
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (run with -update if this is meant) -want +got:\n%s", path, diff)
	}
}

func TestDocumentation(t *testing.T) { golden(t, "../../docs/site.md", site.Markdown()) }

// TestEveryFieldIsKnown holds the table of fields against the Go types.
func TestEveryFieldIsKnown(t *testing.T) {
	known := site.KnownPaths()
	var walk func(reflect.Type, string)
	walk = func(ty reflect.Type, path string) {
		switch ty.Kind() {
		case reflect.Slice:
			if ty.Elem().Kind() == reflect.Struct {
				walk(ty.Elem(), path+"[]")
			}
		case reflect.Struct:
			for i := range ty.NumField() {
				name, _, _ := strings.Cut(ty.Field(i).Tag.Get("json"), ",")
				if name == "-" {
					continue // not of the file
				}
				p := strings.TrimPrefix(path+"."+name, ".")
				if !known[p] {
					t.Errorf("fleet.Site has %s, but nothing is said about it", p)
				}
				delete(known, p)
				walk(ty.Field(i).Type, p)
			}
		}
	}
	walk(reflect.TypeFor[fleet.Site](), "")
	for p := range known {
		t.Errorf("%s is described, but fleet.Site does not have it", p)
	}
}

func TestSchema(t *testing.T) {
	b, err := site.Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("site.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("site.json")
	if err != nil {
		t.Fatal(err)
	}
	full, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"template": template(t), "full": string(full)} {
		if err := validate(t, schema, text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	without := withoutKey(t, template(t), "bmcs")
	if err := validate(t, schema, without+"rules:\n  - {name: a, role: worker, match: {model: R650}}\n"); err != nil {
		t.Errorf("rules and no bmcs: %v", err)
	}
	for _, bad := range []string{without, without + "rules: []\n"} {
		if validate(t, schema, bad) == nil {
			t.Errorf("the schema accepts neither bmcs nor rules:\n%s", bad)
		}
	}
	for _, bad := range []string{"bmcs:\n  addresses: []", "kind: Rack", "network: {}", "unknown: 1", "cluster: {controlPlanes: 2}", "cluster: {cni: calico}", "cluster: {vrrp: 256}",
		"platform: {components: [kubevrit]}", "platform: {without: [velero]}", "platform: {skipProofs: [teleport]}", "platform: {networks: [{name: a}]}", "platform: {memoryOvercommit: 9}"} {
		key, _, _ := strings.Cut(bad, ":")
		text := withoutKey(t, template(t), key) + bad + "\n"
		if validate(t, schema, text) == nil {
			t.Errorf("the schema accepts %q", bad)
		}
	}
	for _, bad := range []string{"password: hunter2", "password: {file: a, env: B}"} {
		text := strings.Replace(template(t), "password:\n    file: bmc-password", bad, 1)
		if text == template(t) || validate(t, schema, text) == nil {
			t.Errorf("the schema accepts %q", bad)
		}
	}
}

func validate(t *testing.T, schema *jsonschema.Schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return schema.Validate(v)
}

func withoutKey(t *testing.T, text, key string) string {
	t.Helper()
	var m map[string]any
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	delete(m, key)
	b, err := yaml.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTemplateIsValid(t *testing.T) {
	f := read(t, template(t))
	s := f.Site()
	if s.Name != "oslo" || s.BMCs.Port != 443 || s.Virtualization.Profile != fleet.ProfileGeneral {
		t.Errorf("defaults: %+v", s)
	}
	if typed := f.Typed(); typed.BMCs.Port != 0 {
		t.Error("a default counts as typed")
	}
	for _, bad := range []string{"", "Oslo", "a b", "x:\n y", strings.Repeat("a", 41)} {
		if _, err := site.New(bad); err == nil {
			t.Errorf("New(%q) gave no error", bad)
		}
	}
}

func TestPathsStartAtTheFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "site.yaml")
	if err := os.WriteFile(path, []byte(template(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	f, findings := site.Load(path)
	if len(findings) > 0 {
		t.Fatal(findings)
	}
	if s := f.Site(); s.Image != filepath.Join(dir, "image") || s.BMCs.Password.File != filepath.Join(dir, "bmc-password") {
		t.Errorf("image %q, password %q", s.Image, s.BMCs.Password.File)
	}
	a, _ := f.Digest()
	b, _ := read(t, "# another comment\n"+template(t)).Digest()
	if a == "" || a != b {
		t.Error("comments or the folder change the digest")
	}
}

func TestRefused(t *testing.T) {
	deep := strings.Repeat("[", 20000)
	for name, text := range map[string]string{
		"empty": "", "comment": "# nothing\n", "list": "- a\n", "syntax": "a: [b\n", "two documents": "apiVersion: a\n---\nkind: b\n",
		"large": strings.Repeat("#", 1<<20+1), "deep": deep, "no version": "kind: Site\n", "other version": "apiVersion: metalrise.dev/v9\n",
		"alias": "a: &x [1,2]\nb: [*x,*x]\n", "anchor": "a: &x 1\n", "merge": "a: {<<: {b: 1}}\n", "binary": "\x00\x01\x02",
		"number": "7\n", "null": "~\n",
	} {
		f, findings := site.Read(strings.NewReader(text), "s")
		if f != nil || len(findings) != 1 {
			t.Errorf("%s: file %v, findings %v", name, f != nil, findings)
		}
	}
	if f, findings := site.Load(filepath.Join(t.TempDir(), "none")); f != nil || len(findings) != 1 {
		t.Errorf("missing file: %v", findings)
	}
}

func FuzzRead(f *testing.F) {
	b, _ := site.New("a")
	f.Add(string(b))
	full, _ := os.ReadFile("testdata/full.yaml")
	f.Add(string(full))
	faults, _ := os.ReadFile("testdata/faults.yaml")
	f.Add(string(faults))
	for _, name := range []string{"platform-faults", "platform-contradictions"} {
		text, err := os.ReadFile("testdata/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, findings := site.Read(strings.NewReader(text), "s")
		if file == nil {
			if len(findings) == 0 {
				t.Error("no file and no finding")
			}
			return
		}
		before, err := file.Digest()
		if err != nil || len(findings) > 0 {
			return
		}
		out, err := file.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		again, findings := site.Read(bytes.NewReader(out), "s")
		if again == nil || len(findings) > 0 {
			t.Fatalf("written back it has faults %v:\n%s", findings, out)
		}
		if after, _ := again.Digest(); after != before {
			t.Errorf("written back it means something else:\n%s", out)
		}
	})
}

func TestExamplesAreValid(t *testing.T) {
	for path, err := range site.CheckExamples() {
		t.Errorf("the example of %s: %v", path, err)
	}
}

// TestWholeClusterAtOnce: fields that need each other can be set together, as
// the wizard does, because one by one each would be refused.
func TestWholeClusterAtOnce(t *testing.T) {
	f := read(t, template(t))
	if err := f.Set("cluster.cni", "own"); err == nil {
		t.Error("own was taken without manifests")
	}
	want := fleet.Cluster{Software: "software", CNI: fleet.OwnCNI, CNIManifests: "cni.yaml", VIP: "198.51.100.20", VRRP: 7}
	if err := f.Set("cluster", want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, f.Typed().Cluster); diff != "" {
		t.Error(diff)
	}
	if err := f.Set("cluster.vip", nil); err == nil {
		t.Error("vip was taken away from under vrrp")
	}
}

// TestVolumePaths holds which folders may hold disks of VMs.
func TestVolumePaths(t *testing.T) {
	for path, good := range map[string]bool{
		"/var/lib/vms": true, "/srv/vms": true, "/mnt/disk1/vms": true, "/var/mnt": true,
		"/": false, "/srv": false, "/var/lib": false, "/var/log": false, "/etc/vms": false, "/usr/local/vms": false, "/run/vms": false, "/tmp/vms": false, "/boot/vms": false,
		"var/lib/vms": false, "/var/lib/../etc": false, "/srv//vms": false, "/srv/vms/": false, "/srv/vm s": false, "/srv/v\nms": false,
	} {
		f := read(t, template(t))
		if err := f.Set("platform.storage.path", path); (err == nil) != good {
			t.Errorf("%q: %v", path, err)
		}
	}
}

// TestPlatformIsWrittenBack sets a whole platform and parts of it, as the
// wizard and other programs do.
func TestPlatformIsWrittenBack(t *testing.T) {
	f := read(t, template(t)+"platform: # ours\n  # nobody needs it\n  without: [cdi] # yet\n")
	want := fleet.Platform{Without: []fleet.Component{fleet.ComponentCDI}, MemoryOvercommit: 150,
		Networks: []fleet.VMNetwork{{Name: "tenants", Bridge: "br-vm", Port: "eno2", VLAN: 20}}, MigrationNetwork: "tenants"}
	for _, c := range []struct {
		path  string
		value any
	}{{"platform.memoryOvercommit", 150}, {"platform.networks[0]", want.Networks[0]}, {"platform.migrationNetwork", "tenants"}} {
		if err := f.Set(c.path, c.value); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Set("platform.networks", nil); err == nil {
		t.Error("the network of migrations was taken away")
	}
	text, err := f.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for _, comment := range []string{"# ours", "# nobody needs it", "# yet"} {
		if !strings.Contains(string(text), comment) {
			t.Errorf("%q is gone:\n%s", comment, text)
		}
	}
	if diff := cmp.Diff(want, read(t, string(text)).Typed().Platform); diff != "" {
		t.Error(diff)
	}
}
