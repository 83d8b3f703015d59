package site

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"metalrise.dev/fleet"
)

// schemaNode is one JSON Schema (draft 2020-12), its fields in a readable order.
type schemaNode struct {
	Schema      string                 `json:"$schema,omitempty"`
	ID          string                 `json:"$id,omitempty"`
	Title       string                 `json:"title,omitempty"`
	Description string                 `json:"description,omitempty"`
	Type        any                    `json:"type,omitempty"` // string or list of strings
	Enum        []any                  `json:"enum,omitempty"`
	Minimum     *int                   `json:"minimum,omitempty"`
	Maximum     *int                   `json:"maximum,omitempty"`
	MinLength   int                    `json:"minLength,omitempty"`
	MinItems    int                    `json:"minItems,omitempty"`
	MaxItems    int                    `json:"maxItems,omitempty"`
	Items       *schemaNode            `json:"items,omitempty"`
	Required    []string               `json:"required,omitempty"`
	Properties  map[string]*schemaNode `json:"properties,omitempty"`
	Additional  any                    `json:"additionalProperties,omitempty"` // false or a schema
	OneOf       []schemaNode           `json:"oneOf,omitempty"`
	AnyOf       []schemaNode           `json:"anyOf,omitempty"`
}

// Schema is the JSON Schema of the site file, for editors and pipelines. It
// tells the form; Read checks more, such as whether addresses can be read.
func Schema() ([]byte, error) {
	s := schemaOf(reflect.TypeFor[fleet.Site](), "", fieldTable())
	s.Schema = "https://json-schema.org/draft/2020-12/schema"
	s.ID = "https://" + fleet.APIVersion + "/site.schema.json"
	s.Title = "metalrise site"
	s.Description = "What people want: one cluster in one place."
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("schema of the site file: %w", err)
	}
	return append(b, '\n'), nil
}

func schemaOf(t reflect.Type, path string, table map[string]field) *schemaNode {
	f := table[path]
	s := &schemaNode{Description: f.text}
	if f.byDef != "" {
		s.Description += " Default: " + f.byDef + "."
	}
	switch t.Kind() {
	case reflect.Struct:
		s.object(t, path, table)
	case reflect.Slice:
		inner := path
		if t.Elem().Kind() == reflect.Struct {
			inner += "[]"
		}
		s.Type, s.MinItems, s.MaxItems = "array", f.min, f.max
		s.Items = schemaOf(t.Elem(), inner, table)
		s.Items.Description = ""
	case reflect.Map:
		s.Type, s.Additional = "object", &schemaNode{Type: "string", MinLength: 1}
	case reflect.Int:
		s.Type = "integer"
		if f.max > 0 {
			s.Minimum, s.Maximum = &f.min, &f.max
		}
		for _, e := range f.enum {
			n, _ := strconv.Atoi(e) // the table's own words
			s.Enum = append(s.Enum, n)
		}
	case reflect.Bool:
		s.Type = "boolean"
	default:
		s.Type, s.MinLength = "string", 1
		if takesNumbers(path) {
			s.Type = []string{"string", "number"} // a serial of digits needs no quotes
		}
		for _, e := range f.enum {
			s.Enum = append(s.Enum, e)
		}
	}
	return s
}

func (s *schemaNode) object(t reflect.Type, path string, table map[string]field) {
	s.Type, s.Additional, s.Properties = "object", false, map[string]*schemaNode{}
	for i := range t.NumField() {
		name := jsonName(t.Field(i))
		f, ok := table[join(path, name)]
		if !ok {
			continue
		}
		s.Properties[name] = schemaOf(t.Field(i).Type, join(path, name), table)
		if f.required {
			s.Required = append(s.Required, name)
		}
	}
	switch t {
	case reflect.TypeFor[fleet.SecretRef]():
		for _, place := range []string{"file", "env", "vault", "prompt"} {
			s.OneOf = append(s.OneOf, schemaNode{Required: []string{place}})
		}
	case reflect.TypeFor[fleet.Site](): // where rules say who is a server, all of them may be started by somebody
		s.Required = slices.DeleteFunc(s.Required, func(name string) bool { return name == "bmcs" })
		s.AnyOf = []schemaNode{{Required: []string{"bmcs"}}, {Required: []string{"rules"}, Properties: map[string]*schemaNode{"rules": {MinItems: 1}}}}
	case reflect.TypeFor[fleet.BMCs]():
		s.AnyOf = []schemaNode{{Required: []string{"import"}}, {Required: []string{"addresses", "username", "password"}}, {Required: []string{"addresses", "credentials"}}}
	case reflect.TypeFor[fleet.Override]():
		s.AnyOf = []schemaNode{{Required: []string{"serial"}}, {Required: []string{"uuid"}}}
	case reflect.TypeFor[fleet.DiskRef]():
		s.AnyOf = []schemaNode{{Required: []string{"wwn"}}, {Required: []string{"serial"}}}
	}
}

// takesNumbers tells whether a text may look like a number in YAML.
func takesNumbers(path string) bool {
	switch lastOf(path) {
	case "serial", "wwn", "eraseForeign", "model":
		return true
	}
	return false
}

// Markdown is docs/site.md: every field with its meaning, made from the same
// table as the schema.
func Markdown() string {
	var w strings.Builder
	w.WriteString(`# The site file

<!-- Made from fleet/site by its tests (go test ./fleet/site -update). Do not edit. -->

A site file says what you want of one cluster in one place. It names no server
unless you insist, and holds no secret: it says where secrets are. It is YAML;
all faults are reported at once, with line, path and remedy. Anchors and aliases
are not allowed.

A first file:

` + "```yaml\n")
	text, err := New("oslo")
	if err != nil {
		text = []byte(err.Error() + "\n") // the name is our own; the test of this page would show it
	}
	w.Write(text)
	w.WriteString("```\n\n## Fields\n\n| field | meaning | if left out | example |\n|---|---|---|---|\n")
	for _, f := range fields() {
		byDef := f.byDef
		if f.required {
			byDef = "**required**"
		}
		meaning := f.text
		if len(f.enum) > 0 && len(f.enum) < 6 {
			meaning += " One of: `" + strings.Join(f.enum, "`, `") + "`."
		}
		example := ""
		if f.example != "" {
			example = "`" + f.example + "`"
		}
		fmt.Fprintf(&w, "| `%s` | %s | %s | %s |\n", f.path, cell(meaning), cell(byDef), cell(example))
	}
	return w.String()
}

// cell keeps text from breaking a table.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;", "\n", " ").Replace(s)
}
