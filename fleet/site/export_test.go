package site

import (
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v3"
)

// KnownPaths lists the fields that the table describes or hides.
func KnownPaths() map[string]bool {
	out := map[string]bool{}
	for _, f := range fields() {
		out[f.path] = true
	}
	for p := range hidden() {
		out[p] = true
	}
	return out
}

// CheckExamples runs every example of the table through the checks of its field.
func CheckExamples() map[string]error {
	out := map[string]error{}
	for _, f := range fields() {
		if f.example == "" {
			continue
		}
		var v any
		if err := yaml.Unmarshal([]byte(f.example), &v); err != nil {
			out[f.path] = err
			continue
		}
		if f.check == nil {
			continue
		}
		values := []any{v}
		switch v := v.(type) {
		case []any:
			values = v
		case map[string]any:
			values = slices.Collect(maps.Values(v))
		}
		for _, one := range values {
			if err := f.check(fmt.Sprint(one)); err != nil {
				out[f.path] = err
			}
		}
	}
	return out
}
