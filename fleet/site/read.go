package site

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"metalrise.dev/fleet"
)

// maxBytes bounds a site file. A thousand servers with an entry each are some
// 200 KiB; 64 certificates another 200.
const maxBytes = 1 << 20

// File is a site file in memory: its text with comments, and its content.
type File struct {
	name   string          // for findings: path or what Read was told
	path   string          // where Load read it; "" otherwise
	folder string          // that relative paths start from
	doc    *yaml.Node      // the document
	sum    [32]byte        // of the text as read or last written, to notice that somebody else changed it
	blanks map[string]bool // see blankBefore
	listed []fleet.Listed  // rows of the imported list, as of Load

	unlisted []fleet.Finding // faults of that list
}

// Load reads the site file at path, and the list of BMCs that it imports. See
// Read.
func Load(path string) (*File, []fleet.Finding) {
	in, err := os.Open(path)
	if err != nil {
		return nil, []fleet.Finding{fault(path, 0, "", "the site file cannot be opened: "+reason(err), "Give the right path with -f, or write a first one with `metalrise site init`.")}
	}
	defer in.Close()
	f, findings := Read(in, path)
	if f != nil {
		f.path, f.folder = path, filepath.Dir(path)
		if s := f.Site(); s.BMCs.Import != "" {
			f.listed, f.unlisted = LoadCSV(s.BMCs.Import, s.BMCs.Port)
			findings = append(findings, f.unlisted...)
		}
	}
	return f, findings
}

// Read reads a site file of at most 1 MiB. It gives every fault at once as
// findings with code SITE-001. The file is nil when its text is not YAML or of
// no known version; otherwise it holds all that could be understood. Relative
// paths start from the working folder. name is used in findings.
func Read(r io.Reader, name string) (*File, []fleet.Finding) {
	text, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, []fleet.Finding{fault(name, 0, "", "the site file cannot be read: "+reason(err), "Read the cause.")}
	}
	if len(text) > maxBytes {
		return nil, []fleet.Finding{fault(name, 0, "", fmt.Sprintf("the site file is larger than %d bytes", maxBytes), "A site file is a few hundred lines; check what this file is.")}
	}
	return parse(text, name)
}

func parse(text []byte, name string) (*File, []fleet.Finding) {
	one := func(line int, path, text, remedy string) (*File, []fleet.Finding) {
		return nil, []fleet.Finding{fault(name, line, path, text, remedy)}
	}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	var doc, second yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return one(1, "", "the site file is empty", "Write a first one with `metalrise site init`.")
	case err != nil:
		return one(0, "", "this is not YAML: "+syntaxText(err), "Look at the line named, and the one before it: indentation, colons, quotes.")
	}
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		return one(second.Line, "", "the site file holds more than one document", "Keep one site per file; remove everything from the second --- on.")
	}
	if n := firstAlias(&doc); n != nil {
		return one(n.Line, "", "anchors, aliases, merge keys and tags are not allowed", "Write the value out where it is needed; put text that begins with &, * or ! in quotes.")
	}
	if len(doc.Content) == 0 {
		return one(1, "", "the site file is empty", "Write a first one with `metalrise site init`.")
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return one(root.Line, "", "the site file is not a list of fields", "Begin with apiVersion, kind and name.")
	}
	if finding := migrate(root, name); finding != nil {
		return nil, []fleet.Finding{*finding}
	}
	f := &File{name: name, folder: ".", doc: &doc, sum: sha256.Sum256(text), blanks: blankBefore(text)}
	_, findings := f.decode()
	return f, findings
}

// syntaxText is what the parser says. It quotes the file in one case only, an
// alias without an anchor, and that might be a password that begins with *.
func syntaxText(err error) string {
	if strings.Contains(err.Error(), "anchor") {
		return "text that begins with * must stand in quotes"
	}
	return strings.TrimPrefix(err.Error(), "yaml: ")
}

// firstAlias finds what could make a small file unfold into a large one, or
// hide where a value comes from.
func firstAlias(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode || n.Anchor != "" || n.Tag == "!!merge" || n.Style&yaml.TaggedStyle != 0 {
		return n
	}
	for _, c := range n.Content {
		if found := firstAlias(c); found != nil {
			return found
		}
	}
	return nil
}

// migration takes a document from one version of the format to the next one.
// It changes the nodes in place and keeps comments.
type migration struct {
	from, to string
	apply    func(root *yaml.Node) error
}

// migrations lists the steps from old versions, oldest first. A version that
// was published is never changed again; a new one adds a step here.
func migrations() []migration { return nil }

// migrate brings a document to the present version, or says why it cannot.
func migrate(root *yaml.Node, name string) *fleet.Finding {
	version := lookup(root, "apiVersion")
	known := []string{fleet.APIVersion}
	for _, m := range migrations() {
		known = append(known, m.from)
		if version == nil || version.Value != m.from {
			continue
		}
		if err := m.apply(root); err != nil {
			f := fault(name, version.Line, "apiVersion", fmt.Sprintf("the file cannot be brought from %s to %s: %v", m.from, m.to, err), "Correct what the cause names.")
			return &f
		}
		version.Value = m.to
	}
	if version == nil {
		f := fault(name, root.Line, "apiVersion", "the field is missing", "Add the line `apiVersion: "+fleet.APIVersion+"`.")
		return &f
	}
	if version.Value != fleet.APIVersion {
		f := fault(name, version.Line, "apiVersion", fmt.Sprintf("version %q is not known; this metalrise knows %s", version.Value, strings.Join(known, ", ")),
			"Use the metalrise that the file was written for, or a newer one.")
		return &f
	}
	return nil
}

// lookup finds the value of a key in a mapping.
func lookup(mapping *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == key {
			return mapping.Content[i+1]
		}
	}
	return nil
}

// fault makes a finding; line 0 means the file as a whole.
func fault(name string, line int, path, text, remedy string) fleet.Finding {
	where := name
	if line > 0 {
		where = fmt.Sprintf("%s:%d", name, line)
	}
	return fleet.Finding{Code: fleet.CodeSiteInvalid, Severity: fleet.Blocker, Path: path, Text: where + ": " + text, Remedy: remedy}
}

// reason takes the path out of a file error; it is said already.
func reason(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return err.Error()
}
