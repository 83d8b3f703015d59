package kube

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// MergeOption says what to do when a user's kubeconfig has another cluster
// under the name.
type MergeOption int

const (
	RefuseOther  MergeOption = iota // ErrOtherCluster
	ReplaceOther                    // because a person asked for it
)

// ErrOtherCluster means that the name is taken by a cluster with another
// authority, or by entries that are no cluster of ours.
var ErrOtherCluster = errors.New("the kubeconfig has another cluster under this name")

const authorityField = "certificate-authority-data"

// MergeKubeconfig puts our cluster, user and context, all called name, into a
// user's kubeconfig. All else in it stays, comments and unknown fields too. The
// current context is set only where there is none. existing may be empty.
// changed is false when nothing was to be done; out is then existing.
//
// Of ours only server, authority, certificate and key are taken, see Connect.
func MergeKubeconfig(existing, ours []byte, name string, o MergeOption) (out []byte, changed bool, err error) {
	if name == "" {
		return nil, false, errors.New("merge kubeconfig: the cluster's name is empty")
	}
	server, login, err := readKubeconfig(ours)
	if err != nil {
		return nil, false, fmt.Errorf("merge kubeconfig: the cluster's own: %w", err)
	}
	doc, err := readOne(existing)
	if err != nil {
		return nil, false, err
	}
	if doc.Kind == 0 || doc.Content[0].Tag == "!!null" {
		doc = yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{mapping("apiVersion", "v1", "kind", "Config")}}
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, false, errors.New("merge kubeconfig: the existing one is no kubeconfig")
	}
	before, err := encode(&doc)
	if err != nil {
		return nil, false, err
	}
	m := merge{root: root, name: name}
	if err := m.allowed(b64(login.ca), o); err != nil {
		return nil, false, err
	}
	err = errors.Join(
		m.put("clusters", "cluster", mapping("server", server.String(), authorityField, b64(login.ca))),
		m.put("users", "user", mapping("client-certificate-data", b64(login.cert), "client-key-data", b64(login.key))),
		m.put("contexts", "context", mapping("cluster", name, "user", name)),
	)
	if err != nil {
		return nil, false, err
	}
	if c := child(root, "current-context"); c == nil || c.Value == "" {
		set(root, "current-context", scalar(name))
	}
	after, err := encode(&doc)
	if err != nil {
		return nil, false, err
	}
	if bytes.Equal(before, after) && len(existing) > 0 {
		return existing, false, nil
	}
	return after, true, nil
}

// readOne reads the one document of a file. The parser's words are not passed
// on, because they may quote a key.
func readOne(b []byte) (doc yaml.Node, err error) {
	d := yaml.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return doc, errors.New("merge kubeconfig: the existing one is no YAML")
	}
	var more yaml.Node
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return doc, errors.New("merge kubeconfig: the existing one has several documents")
	}
	return doc, nil
}

// merge is one call of MergeKubeconfig.
type merge struct {
	root *yaml.Node
	name string
}

// allowed refuses to take over a name that belongs to another cluster.
func (m merge) allowed(ca string, o MergeOption) error {
	if o == ReplaceOther {
		return nil
	}
	cluster, err := m.entry("clusters")
	if err != nil {
		return err
	}
	if cluster != nil {
		if have := child(child(cluster, "cluster"), authorityField); have == nil || have.Value != ca {
			return fmt.Errorf("merge kubeconfig: cluster %q: %w", m.name, ErrOtherCluster)
		}
		return nil
	}
	for _, list := range []string{"users", "contexts"} { // of the same name, and no cluster that would be ours
		e, err := m.entry(list)
		if err != nil {
			return err
		}
		if e != nil {
			return fmt.Errorf("merge kubeconfig: %s has an entry %q: %w", list, m.name, ErrOtherCluster)
		}
	}
	return nil
}

// entry finds the entry of our name in a list; nil when there is none.
func (m merge) entry(list string) (*yaml.Node, error) {
	l := child(m.root, list)
	if l == nil || l.Tag == "!!null" {
		return nil, nil
	}
	if l.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("merge kubeconfig: %s of the existing one is no list", list)
	}
	for _, e := range l.Content {
		if n := child(e, "name"); n != nil && n.Value == m.name {
			return e, nil
		}
	}
	return nil, nil
}

// put adds our entry to a list, or sets its body. Fields that a person added to
// a context (its namespace) or to this cluster stay.
func (m merge) put(list, body string, value *yaml.Node) error {
	e, err := m.entry(list)
	if err != nil {
		return err
	}
	if e == nil {
		l := child(m.root, list)
		if l == nil || l.Kind != yaml.SequenceNode {
			l = &yaml.Node{Kind: yaml.SequenceNode}
			set(m.root, list, l)
		}
		l.Style = 0 // "[]" cannot be read by people once it is filled
		entry := mapping("name", m.name)
		set(entry, body, value)
		l.Content = append(l.Content, entry)
		return nil
	}
	have := child(e, body)
	ca := child(value, authorityField)
	same := list == "contexts" || ca != nil && child(have, authorityField) != nil && child(have, authorityField).Value == ca.Value
	if have == nil || have.Kind != yaml.MappingNode || !same {
		if !sameFields(have, value) {
			set(e, body, value)
		}
		return nil
	}
	for i := 0; i < len(value.Content); i += 2 {
		if old := child(have, value.Content[i].Value); old == nil || old.Value != value.Content[i+1].Value {
			set(have, value.Content[i].Value, value.Content[i+1])
		}
	}
	return nil
}

// sameFields compares two mappings of text, whatever their order and style.
func sameFields(a, b *yaml.Node) bool {
	if a == nil || a.Kind != yaml.MappingNode || len(a.Content) != len(b.Content) {
		return false
	}
	for i := 0; i < len(b.Content); i += 2 {
		if v := child(a, b.Content[i].Value); v == nil || v.Value != b.Content[i+1].Value {
			return false
		}
	}
	return true
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func set(n *yaml.Node, key string, value *yaml.Node) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			n.Content[i+1] = value
			return
		}
	}
	n.Content = append(n.Content, scalar(key), value)
}

func scalar(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

func mapping(pairs ...string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i < len(pairs); i += 2 {
		set(n, pairs[i], scalar(pairs[i+1]))
	}
	return n
}

func encode(doc *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(doc); err != nil {
		return nil, fmt.Errorf("merge kubeconfig: %w", err)
	}
	return b.Bytes(), e.Close()
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
