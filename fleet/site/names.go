package site

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// names lists the fields of a struct that the file has, in the order of the type.
func (d *decoder) names(t reflect.Type, schema string) []string {
	var out []string
	for i := range t.NumField() {
		name := jsonName(t.Field(i))
		if _, ok := d.table[join(schema, name)]; ok {
			out = append(out, name)
		}
	}
	return out
}

func (d *decoder) fieldIndex(t reflect.Type, schema, name string) (int, bool) {
	if _, ok := d.table[join(schema, name)]; !ok {
		return 0, false
	}
	for i := range t.NumField() {
		if jsonName(t.Field(i)) == name {
			return i, true
		}
	}
	return 0, false
}

// jsonName is the name of a field in the file. The JSON names are used for YAML
// too, so that plans and site files speak the same words.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// remedy says what a field should look like.
func (d *decoder) remedy(schema string) string {
	f := d.table[schema]
	switch {
	case len(f.enum) > 0:
		return "Use " + orList(f.enum) + "."
	case f.example != "":
		return "Write it like `" + lastOf(schema) + ": " + f.example + "`."
	}
	return "See docs/site.md."
}

// suggest helps with a field that does not exist.
func (d *decoder) suggest(t reflect.Type, schema, name string) string {
	names := d.names(t, schema)
	if s := nearest(name, names); s != "" {
		return strings.TrimSpace(s) + " Otherwise remove it."
	}
	for _, f := range fields() {
		if strings.EqualFold(lastOf(f.path), name) {
			return fmt.Sprintf("Did you mean %s? Check the indentation.", f.path)
		}
	}
	return "Remove it. The fields here are " + strings.Join(names, ", ") + "."
}

// nearest proposes the name that takes the fewest edits, if they are few: one,
// and another for every three letters. Names under three letters are like anything.
func nearest(name string, names []string) string {
	best, least := "", len(name)/3+2
	if len(name) < 3 {
		return ""
	}
	for _, n := range names {
		if e := edits(strings.ToLower(name), strings.ToLower(n)); e < least {
			best, least = n, e
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" Did you mean %s?", best)
}

// edits counts the insertions, deletions and replacements between two words
// (Levenshtein distance). Words longer than 64 bytes count as far apart.
func edits(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// lastOf is the last name of a path.
func lastOf(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

func contains(list []string, s string) bool { return slices.Contains(list, s) }

func orList(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
