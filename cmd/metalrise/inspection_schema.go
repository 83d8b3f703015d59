package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"time"
)

// inspectionSchema is the JSON Schema of what inspect prints, made from its
// types (JSON Schema 2020-12). Properties that may be left out are not required.
func inspectionSchema() string {
	s := schemaOf(reflect.TypeFor[inspectionReport](), "")
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "metalrise inspect --output json"
	s["description"] = "Unknown is null. Sizes are in the units that the names tell."
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return "" // maps of strings and lists can always be written
	}
	return string(b) + "\n"
}

// schemaOf describes a type as encoding/json writes it.
func schemaOf(t reflect.Type, about string) map[string]any {
	out := map[string]any{}
	if about != "" {
		out["description"] = about
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		out["type"], out["format"] = "string", "date-time"
	case isMaybe(t):
		get, _ := t.MethodByName("Get")
		return orNullSchema(schemaOf(get.Type.Out(0), about))
	case t.Kind() == reflect.Pointer:
		return orNullSchema(schemaOf(t.Elem(), about))
	case t.Kind() == reflect.Struct:
		properties, required := fieldSchemas(t)
		out["type"], out["properties"], out["required"] = "object", properties, required
	case t.Kind() == reflect.Slice:
		out["type"], out["items"] = "array", schemaOf(t.Elem(), "")
	case t.Kind() == reflect.Map:
		out["type"], out["additionalProperties"] = "object", schemaOf(t.Elem(), "")
	case t.Kind() == reflect.String:
		out["type"] = "string"
	case t.Kind() == reflect.Bool:
		out["type"] = "boolean"
	case t.Kind() == reflect.Float64:
		out["type"] = "number"
	default:
		out["type"] = "integer"
	}
	return out
}

func fieldSchemas(t reflect.Type) (properties map[string]any, required []string) {
	properties, required = map[string]any{}, []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		s := schemaOf(f.Type, f.Tag.Get("about"))
		if f.Tag.Get("null") != "" || f.Type.Kind() == reflect.Slice && options == "" && t != reflect.TypeFor[inspectionReport]() && name != "problems" {
			s = orNullSchema(s)
		}
		properties[name] = s
		if options == "" {
			required = append(required, name)
		}
	}
	return properties, required
}

func isMaybe(t reflect.Type) bool {
	return t.PkgPath() == "metalrise.dev/fleet" && strings.HasPrefix(t.Name(), "Maybe[")
}

func orNullSchema(s map[string]any) map[string]any {
	if kind, ok := s["type"].(string); ok {
		s["type"] = []string{kind, "null"}
	}
	return s
}
