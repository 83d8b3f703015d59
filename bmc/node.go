package bmc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"metalrise.dev/fleet"
)

const (
	maxDepth    = 64  // the deepest honest resource seen nests 9 levels
	maxProblems = 200 // of one inspection; more would be noise
)

// brokenETag is W/"1" written inside a JSON string without escapes, which some
// BMCs send (python-redfish-library #107).
var brokenETag = regexp.MustCompile(`("@odata\.etag"\s*:\s*")(W/)?"([^"\\,}]*)""`)

// decode reads one JSON object. Numbers keep their text.
func decode(body []byte) (map[string]any, error) {
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	if err := checkDepth(body); err != nil {
		return nil, err
	}
	m, err := decodeObject(body)
	if err == nil {
		return m, nil
	}
	if fixed := brokenETag.ReplaceAll(body, []byte(`$1$2\"$3\""`)); !bytes.Equal(fixed, body) {
		if m, again := decodeObject(fixed); again == nil {
			return m, nil
		}
	}
	return nil, err
}

func decodeObject(body []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("want a JSON object, got %s", kindOfValue(v))
	}
	return m, nil
}

// checkDepth bounds nesting before anything is allocated for it.
func checkDepth(body []byte) error {
	depth, quoted, escaped := 0, false, false
	for _, c := range body {
		switch {
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("nested deeper than %d levels", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// problems collects what could not be read. A nil collector drops everything.
type problems struct {
	mu   sync.Mutex
	list []fleet.Problem
	more int
}

func (p *problems) add(path, format string, args ...any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.list) >= maxProblems {
		p.more++
		return
	}
	p.list = append(p.list, fleet.Problem{Path: path, Text: fmt.Sprintf(format, args...)})
}

// node is one object of a BMC's answer, read tolerantly: a field of the wrong
// type costs that field and is noted. The zero node is an absent object.
type node struct {
	path string // URI, then "#" and the field path inside it
	m    map[string]any
	seen *problems
}

func (n node) exists() bool { return n.m != nil }

func (n node) has(key string) bool {
	v, ok := n.m[key]
	return ok && v != nil
}

func (n node) bad(key string, v any, want string) {
	n.seen.add(fieldPath(n.path, key), "want %s, got %s", want, show(v))
}

func fieldPath(path, key string) string {
	if strings.Contains(path, "#") {
		return path + "." + key
	}
	return path + "#" + key
}

// text reads a string; a number stands for its digits. "" counts as unknown,
// as do the words with which BMCs say so.
func (n node) text(key string) fleet.Maybe[string] {
	switch v := n.m[key].(type) {
	case nil:
	case string:
		if s := clean(v); s != "" && !isNoValue(s) {
			return fleet.Known(s)
		}
	case json.Number:
		return fleet.Known(v.String())
	default:
		n.bad(key, v, "a text")
	}
	return fleet.Maybe[string]{}
}

// label reads the name of a maker, model or part. What firmware puts there before
// anybody filled it in is unknown; the words may well mean something elsewhere.
func (n node) label(key string) fleet.Maybe[string] {
	t := n.text(key)
	s := strings.ToLower(t.Or(""))
	switch s {
	case "none", "empty", "o.e.m.", "oem", "system manufacturer", "system product name", "system version", "sku", "sku number", "to be filled", "not set", "undefined":
		return fleet.Maybe[string]{}
	}
	if strings.Trim(s, ".-_ *?x0") == "" {
		return fleet.Maybe[string]{}
	}
	return t
}

// str is text with "" for unknown.
func (n node) str(key string) string { return n.text(key).Or("") }

// clean trims, drops control characters and bounds a text from outside.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == '\uFFFD' {
			return ' '
		}
		return r
	}, s)
	s = strings.TrimSpace(s)
	if len(s) > 1024 {
		s = strings.ToValidUTF8(s[:1024], "")
	}
	return s
}

func isNoValue(s string) bool {
	switch strings.ToLower(s) {
	case "n/a", "na", "null", "unknown", "not available", "none available", "not applicable", "not specified",
		"to be filled by o.e.m.", "default string":
		return true
	}
	return false
}

// number reads a number, also from a text that holds nothing else.
func (n node) number(key string) (float64, bool) {
	var s string
	switch v := n.m[key].(type) {
	case nil:
		return 0, false
	case json.Number:
		s = v.String()
	case string:
		s = clean(v)
		if s == "" || isNoValue(s) {
			return 0, false
		}
	default:
		n.bad(key, v, "a number")
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		n.bad(key, s, "a number")
		return 0, false
	}
	return f, true
}

// whole reads a whole number between least and most; others are noted.
func (n node) whole(key string, least, most int64) fleet.Maybe[int64] {
	f, ok := n.number(key)
	if !ok {
		return fleet.Maybe[int64]{}
	}
	if f < float64(least) || f > float64(most) || f != math.Trunc(f) {
		n.bad(key, n.m[key], fmt.Sprintf("a whole number from %d to %d", least, most))
		return fleet.Maybe[int64]{}
	}
	return fleet.Known(int64(f))
}

// flag reads a boolean, also from its usual words.
func (n node) flag(key string) fleet.Maybe[bool] {
	switch v := n.m[key].(type) {
	case nil:
	case bool:
		return fleet.Known(v)
	case string:
		switch strings.ToLower(clean(v)) {
		case "true", "yes", "enabled":
			return fleet.Known(true)
		case "false", "no", "disabled":
			return fleet.Known(false)
		case "":
		default:
			n.bad(key, v, "true or false")
		}
	default:
		n.bad(key, v, "true or false")
	}
	return fleet.Maybe[bool]{}
}

// object reads an object; a list of one object stands for it.
func (n node) object(key string) node {
	v := n.m[key]
	if l, ok := v.([]any); ok && len(l) == 1 {
		v = l[0]
	}
	switch v := v.(type) {
	case nil:
	case map[string]any:
		return node{path: fieldPath(n.path, key), m: v, seen: n.seen}
	case []any:
		if len(v) > 0 {
			n.bad(key, v, "an object")
		}
	default:
		n.bad(key, v, "an object")
	}
	return node{path: fieldPath(n.path, key), seen: n.seen}
}

// list reads a list; a single object stands for a list of one.
func (n node) list(key string) []any {
	switch v := n.m[key].(type) {
	case nil:
	case []any:
		return v
	case map[string]any:
		return []any{v}
	default:
		n.bad(key, v, "a list")
	}
	return nil
}

// objects reads a list of objects.
func (n node) objects(key string) []node {
	var out []node
	for i, v := range n.list(key) {
		at := fmt.Sprintf("%s[%d]", fieldPath(n.path, key), i)
		m, ok := v.(map[string]any)
		if !ok {
			if v != nil {
				n.seen.add(at, "want an object, got %s", show(v))
			}
			continue
		}
		out = append(out, node{path: at, m: m, seen: n.seen})
	}
	return out
}

// texts reads a list of strings; a single string stands for a list of one.
func (n node) texts(key string) []string {
	if s, ok := n.m[key].(string); ok {
		return []string{clean(s)}
	}
	var out []string
	for i, v := range n.list(key) {
		s, ok := v.(string)
		if !ok {
			if v != nil {
				n.seen.add(fmt.Sprintf("%s[%d]", fieldPath(n.path, key), i), "want a text, got %s", show(v))
			}
			continue
		}
		if s = clean(s); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// state is Status.State in lower case, "" when not told.
func (n node) state() string {
	if v, ok := n.m["Status"].(map[string]any); ok {
		s, _ := v["State"].(string)
		return strings.ToLower(clean(s))
	}
	return ""
}

func show(v any) string {
	switch v := v.(type) {
	case string:
		if len(v) > 80 {
			v = v[:80] + "…"
		}
		return strconv.Quote(v)
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	return kindOfValue(v)
}

func kindOfValue(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case map[string]any:
		return "an object"
	case []any:
		return "a list"
	case string:
		return "a text"
	case bool:
		return "a boolean"
	}
	return "a number"
}
