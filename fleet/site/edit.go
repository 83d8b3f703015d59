package site

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"metalrise.dev/fleet"
)

// Set changes one field and keeps everything else, comments included. The path
// has the form that findings use; missing parents are made. A nil value removes
// the field or list entry. When the new value is not valid nothing changes and
// the fault says why. Call Write to keep the change.
func (f *File) Set(path string, value any) error {
	steps, err := splitPath(path)
	if err != nil {
		return invalid(err, "set %q", path)
	}
	node, err := toNode(value)
	if err != nil {
		return invalid(err, "set %s", path)
	}
	root := clone(f.doc)
	if err := place(root.Content[0], steps, node); err != nil {
		return invalid(err, "set %s", path)
	}
	old := map[string]bool{}
	for _, finding := range f.Check() {
		old[finding.Path] = true
	}
	next := *f
	next.doc = root
	for _, finding := range next.Check() {
		if !old[finding.Path] || strings.HasPrefix(finding.Path, path) {
			return invalid(nil, "set %s: %s", finding.Path, afterLine(finding.Text))
		}
	}
	f.doc = root
	return nil
}

func invalid(err error, format string, args ...any) error {
	return fleet.NewFault(fleet.CodeSiteInvalid, fleet.Invalid, err, format, args...)
}

// afterLine takes the line number off a finding; the line does not exist yet.
func afterLine(text string) string {
	_, rest, _ := strings.Cut(text, ": ")
	return rest
}

// step is one part of a path: a name, or an index when name is "".
type step struct {
	name  string
	index int
}

func splitPath(path string) ([]step, error) {
	var out []step
	for rest := path; rest != ""; {
		switch {
		case strings.HasPrefix(rest, `["`):
			quoted, err := strconv.QuotedPrefix(rest[1:])
			if err != nil || !strings.HasPrefix(rest[1+len(quoted):], "]") {
				return nil, errors.New("a quoted name ends with \"]")
			}
			name, err := strconv.Unquote(quoted)
			if err != nil || name == "" {
				return nil, fmt.Errorf("%s is no quoted name", quoted)
			}
			out, rest = append(out, step{name: name}), rest[len(quoted)+2:]
		case rest[0] == '[':
			text, after, ok := strings.Cut(rest[1:], "]")
			i, err := strconv.Atoi(text)
			if !ok || err != nil || i < 0 || i > 1<<16 {
				return nil, fmt.Errorf("%q is no list index", rest)
			}
			out, rest = append(out, step{index: i}), after
		default:
			if len(out) > 0 {
				if rest[0] != '.' {
					return nil, fmt.Errorf("a dot is missing before %q", rest)
				}
				rest = rest[1:]
			}
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return nil, errors.New("a name is missing")
			}
			out, rest = append(out, step{name: rest[:end]}), rest[end:]
		}
	}
	if len(out) == 0 || out[0].name == "" {
		return nil, errors.New("a path begins with a name")
	}
	return out, nil
}

// toNode turns a value into YAML by way of its JSON form, so that the names of
// the JSON tags hold. It gives nil for nil.
func toNode(value any) (*yaml.Node, error) {
	if value == nil {
		return nil, nil
	}
	b, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	n := doc.Content[0]
	plain(n)
	return n, nil
}

// plain takes JSON's flow style and quotes off, and leaves out empty parts.
func plain(n *yaml.Node) {
	n.Line, n.Column = 0, 0
	if n.Kind != yaml.ScalarNode {
		n.Style = 0
	} else if n.Style&yaml.DoubleQuotedStyle != 0 {
		n.Style, n.Tag = 0, "!!str" // the encoder quotes again where text would read as something else
		if strings.Contains(n.Value, "\n") {
			n.Style = yaml.LiteralStyle
		}
	}
	for _, c := range n.Content {
		plain(c)
	}
	if n.Kind != yaml.MappingNode {
		return
	}
	kept := n.Content[:0]
	for i := 0; i+1 < len(n.Content); i += 2 {
		v := n.Content[i+1]
		if v.Kind == yaml.ScalarNode && (v.Value == "" || v.Tag == "!!null" || v.Tag == "!!int" && v.Value == "0") {
			continue
		}
		kept = append(kept, n.Content[i], v)
	}
	n.Content = kept
}

// place walks to the parent of the last step, makes what is missing, and puts
// the value there.
func place(n *yaml.Node, steps []step, value *yaml.Node) error {
	s := steps[0]
	slot, err := child(n, s)
	if err != nil {
		return err
	}
	last := len(steps) == 1
	switch {
	case last && value == nil:
		remove(n, s, slot)
		return nil
	case slot == nil && value == nil:
		return nil
	case last && slot != nil:
		value.HeadComment, value.LineComment, value.FootComment = slot.HeadComment, slot.LineComment, slot.FootComment
		if slot.Kind == value.Kind && slot.Kind != yaml.ScalarNode {
			value.Style = slot.Style // a list on one line stays on one line
		}
		*slot = *value
		return nil
	}
	if slot == nil {
		slot = value
		if !last {
			slot = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
			if steps[1].name == "" {
				slot = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
			}
		}
		if s.name != "" {
			n.Content = append(n.Content, newKey(n, s.name))
		}
		if len(n.Content) <= 1 {
			n.Style = 0 // "{}" and "[]" would draw the whole value onto one line
		}
		n.Content = append(n.Content, slot)
	}
	if last {
		return nil
	}
	return place(slot, steps[1:], value)
}

// newKey makes the key of a field at the end of a section. A comment that ends
// the section goes on ending it.
func newKey(section *yaml.Node, name string) *yaml.Node {
	key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}
	if end := len(section.Content); end >= 2 {
		last := section.Content[end-2]
		key.FootComment, last.FootComment = last.FootComment, ""
	}
	return key
}

// child finds what a step leads to; nil when there is room for it.
func child(n *yaml.Node, s step) (*yaml.Node, error) {
	switch {
	case s.name != "" && n.Kind == yaml.MappingNode:
		return lookup(n, s.name), nil
	case s.name == "" && n.Kind == yaml.SequenceNode && s.index < len(n.Content):
		return n.Content[s.index], nil
	case s.name == "" && n.Kind == yaml.SequenceNode && s.index == len(n.Content):
		return nil, nil
	case s.name == "" && n.Kind == yaml.SequenceNode:
		return nil, fmt.Errorf("index %d lies beyond the list of %d entries", s.index, len(n.Content))
	}
	return nil, errors.New("the path does not fit the form of the file")
}

func remove(n *yaml.Node, s step, slot *yaml.Node) {
	for i, c := range n.Content {
		if c != slot || slot == nil {
			continue
		}
		from := i
		if s.name != "" {
			from--
			if from >= 2 { // a comment after the field belongs to the section, not to the field
				before := n.Content[from-2]
				before.FootComment = strings.TrimPrefix(before.FootComment+"\n"+n.Content[from].FootComment, "\n")
			}
		}
		n.Content = append(n.Content[:from:from], n.Content[i+1:]...)
		return
	}
}

func clone(n *yaml.Node) *yaml.Node {
	c := *n
	c.Content = make([]*yaml.Node, len(n.Content))
	for i, child := range n.Content {
		c.Content[i] = clone(child)
	}
	return &c
}

// Bytes is the text of the file with all changes.
func (f *File) Bytes() ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(f.doc); err != nil {
		return nil, fmt.Errorf("site file as YAML: %w", err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("site file as YAML: %w", err)
	}
	text := restoreBlanks(out.Bytes(), f.blanks)
	if again, _ := parse(text, f.name); again == nil || !reflect.DeepEqual(again.Typed(), f.Typed()) {
		return out.Bytes(), nil // empty lines inside of a long text: leave them as they are
	}
	return text, nil
}

// Write puts the file back where Load found it. See WriteTo.
func (f *File) Write() error {
	if f.path == "" {
		return invalid(nil, "the site was not read from a file; say where to write it")
	}
	return f.WriteTo(f.path)
}

// WriteTo writes the file at path, whole or not at all: to a temporary file
// beside it, flushed, then renamed. An existing file keeps its mode, a new one
// gets 0600. When path is where the file was loaded from and somebody changed it
// since, nothing is written and the fault has kind Conflict.
func (f *File) WriteTo(path string) error {
	text, err := f.Bytes()
	if err != nil {
		return err
	}
	target, mode := path, fs.FileMode(0o600)
	if real, err := filepath.EvalSymlinks(path); err == nil {
		target = real // a link stays a link
	}
	now, err := os.ReadFile(target)
	switch {
	case err == nil:
		if path == f.path && sha256.Sum256(now) != f.sum {
			return fleet.NewFault(fleet.CodeSiteInvalid, fleet.Conflict, nil, "write %s: somebody changed the file since it was read; read it again", path)
		}
		if info, err := os.Stat(target); err == nil {
			mode = info.Mode().Perm()
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("write site file: %w", err)
	}
	if err := replace(target, text, mode); err != nil {
		return fmt.Errorf("write site file: %w", err)
	}
	if f.path == "" {
		f.path, f.folder = path, filepath.Dir(path)
	}
	if path == f.path {
		f.sum = sha256.Sum256(text)
	}
	return nil
}

// replace writes a file so that a crash leaves the old or the new one.
func replace(path string, text []byte, mode fs.FileMode) (err error) {
	folder := filepath.Dir(path)
	tmp, err := os.CreateTemp(folder, "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(text)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(folder)
	if err != nil {
		return nil // the file is in place; a folder that cannot be opened cannot be flushed
	}
	defer dir.Close()
	_ = dir.Sync() // not every file system can flush a folder
	return nil
}
