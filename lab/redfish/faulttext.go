package redfish

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ParseFault reads the text form of a fault: its kind, then key=value words.
//
//	answer method=POST path=*/Actions/* status=503 retry-after=5s nth=2 times=1
//	unreachable for=30s
//
// Every kind takes nth (first occasion at which it acts), times (how often) and
// for (how long from now). A value with blanks stands in double quotes.
func ParseFault(line string) (Fault, error) {
	words, err := split(line)
	if err != nil {
		return Fault{}, fmt.Errorf("fault %q: %w", line, err)
	}
	if len(words) == 0 {
		return Fault{}, fmt.Errorf("fault: empty; want one of %s", kindNames())
	}
	f := Fault{Kind: FaultKind(words[0])}
	seen := map[string]bool{}
	for _, w := range words[1:] {
		key, value, ok := strings.Cut(w, "=")
		if !ok || value == "" {
			return Fault{}, fmt.Errorf("fault %q: %q is not key=value", line, w)
		}
		if seen[key] {
			return Fault{}, fmt.Errorf("fault %q: %s is given twice", line, key)
		}
		seen[key] = true
		if err := f.set(key, value); err != nil {
			return Fault{}, fmt.Errorf("fault %q: %w", line, err)
		}
	}
	if err := f.check(); err != nil {
		return Fault{}, err
	}
	return f, nil
}

// String is the text form, which ParseFault reads back.
func (f Fault) String() string {
	out := []string{string(f.Kind)}
	for _, key := range []string{"method", "path", "status", "body", "delay", "limit", "name", "retry-after", "nth", "times", "for"} {
		if v := f.get(key); v != "" && v != "0" && v != "0s" {
			if strings.ContainsAny(v, " \t\"\\") {
				v = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) + `"`
			}
			out = append(out, key+"="+v)
		}
	}
	return strings.Join(out, " ")
}

func (f Fault) get(key string) string {
	switch key {
	case "method":
		return f.Method
	case "path":
		return f.Path
	case "status":
		return strconv.Itoa(f.Status)
	case "body":
		return f.Body
	case "delay":
		return f.Delay.String()
	case "limit":
		return strconv.Itoa(f.Limit)
	case "name":
		return string(f.Quirk)
	case "retry-after":
		return f.RetryAfter.String()
	case "nth":
		return strconv.Itoa(f.Nth)
	case "times":
		return strconv.Itoa(f.Times)
	default:
		return f.For.String()
	}
}

func (f *Fault) set(key, value string) (err error) {
	switch key {
	case "method":
		f.Method = strings.ToUpper(value)
	case "path":
		f.Path = value
	case "body":
		f.Body = value
	case "name":
		f.Quirk = Quirk(value)
	case "status":
		f.Status, err = strconv.Atoi(value)
	case "limit":
		f.Limit, err = strconv.Atoi(value)
	case "nth":
		f.Nth, err = strconv.Atoi(value)
	case "times":
		f.Times, err = strconv.Atoi(value)
	case "delay":
		f.Delay, err = time.ParseDuration(value)
	case "retry-after":
		f.RetryAfter, err = time.ParseDuration(value)
	case "for":
		f.For, err = time.ParseDuration(value)
	default:
		return fmt.Errorf("no key %q; there are method, path, status, body, delay, limit, name, retry-after, nth, times and for", key)
	}
	if err != nil {
		return fmt.Errorf("%s=%s: %w", key, value, err)
	}
	return nil
}

// takes lists the keys beside nth, times and for that a kind reads.
func (k FaultKind) takes() []string {
	switch k {
	case Answer:
		return []string{"method", "path", "status", "body", "retry-after"}
	case LoseReply:
		return []string{"method", "path"}
	case Slow:
		return []string{"delay"}
	case Busy:
		return []string{"retry-after"}
	case SessionLimit, MediaSlow:
		return []string{"limit"}
	case Behave:
		return []string{"name"}
	default:
		return nil
	}
}

// check reports what makes a fault meaningless: an unknown kind, a key that its
// kind does not read, a value out of range.
func (f Fault) check() error {
	if !slices.ContainsFunc(FaultKinds(), func(h FaultHelp) bool { return h.Kind == f.Kind }) {
		return fmt.Errorf("fault %q: unknown; want one of %s", f.Kind, kindNames())
	}
	for _, key := range []string{"method", "path", "status", "body", "delay", "limit", "name", "retry-after"} {
		if v := f.get(key); v != "" && v != "0" && v != "0s" && !slices.Contains(f.Kind.takes(), key) {
			return fmt.Errorf("fault %s: it does not take %s", f.Kind, key)
		}
	}
	_, badGlob := path.Match(f.Path, "")
	switch {
	case f.Nth < 0 || f.Times < 0 || f.For < 0 || f.Delay < 0 || f.RetryAfter < 0 || f.Limit < 0:
		return fmt.Errorf("fault %s: numbers and times must not be negative", f.Kind)
	case f.Kind == Answer && (f.Status < 200 || f.Status > 599 || http.StatusText(f.Status) == ""):
		return fmt.Errorf("fault answer: status=%d; want an HTTP status of 200 to 599", f.Status)
	case f.Kind == Slow && f.Delay == 0:
		return fmt.Errorf("fault slow: delay is missing (delay=20s)")
	case f.Kind == MediaSlow && f.Limit == 0:
		return fmt.Errorf("fault media-slow: limit is missing (limit=50000)")
	case f.Kind == Behave && !f.Quirk.known():
		return fmt.Errorf("fault quirk: name=%s: unknown, or only to be had from the start with a personality", f.Quirk)
	case badGlob != nil:
		return fmt.Errorf("fault %s: path=%s: %w", f.Kind, f.Path, badGlob)
	}
	return nil
}

func kindNames() string {
	var out []string
	for _, h := range FaultKinds() {
		out = append(out, string(h.Kind))
	}
	return strings.Join(out, ", ")
}

// split cuts a line into words; double quotes hold blanks, a backslash inside
// them takes the next character as it is.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quoted, escaped := false, false, false
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case quoted && r == '\\':
			escaped = true
		case r == '"':
			quoted, inWord = !quoted, true
		case !quoted && (r == ' ' || r == '\t'):
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
