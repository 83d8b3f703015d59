package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind says what may be done about a fault. It is decided where the fault is
// made, from what is known there, never from the text of an error.
type Kind string

const (
	Transient   Kind = "transient"   // the same call may work later
	Denied      Kind = "denied"      // credentials, rights or licence refuse it
	Unsupported Kind = "unsupported" // this machine cannot do it this way
	Conflict    Kind = "conflict"    // the world is not as planned
	Invalid     Kind = "invalid"     // input or answer that makes no sense
	UnsureKind  Kind = "uncertain"   // it may have been done: look before acting again
)

// Fault is an error with a stable code. Wrap it with the operation and the
// server as with any error; Faulty finds it again.
type Fault struct {
	Code Code
	Kind Kind
	Text string // lower case, names value and place
	Err  error  // the cause below, or nil
}

// NewFault makes a fault with a formatted text. A %w verb is not looked for:
// give the cause as err.
func NewFault(code Code, kind Kind, err error, format string, args ...any) *Fault {
	return &Fault{Code: code, Kind: kind, Err: err, Text: fmt.Sprintf(format, args...)}
}

func (f *Fault) Error() string {
	if f.Err != nil {
		return f.Text + ": " + f.Err.Error()
	}
	return f.Text
}

func (f *Fault) Unwrap() error { return f.Err }

// KindOf finds the kind of an error. An error without a fault whose context
// ended is uncertain; any other unknown error is transient, because it came
// from the world outside and nothing says it must come again.
func KindOf(err error) Kind {
	var f *Fault
	switch {
	case errors.As(err, &f):
		return f.Kind
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return UnsureKind
	}
	return Transient
}

// CodeOf finds the code of an error, CodeUnexpected when it has none.
func CodeOf(err error) Code {
	var f *Fault
	if errors.As(err, &f) {
		return f.Code
	}
	return CodeUnexpected
}

// CauseOf turns an error into what the journal keeps: code, kind and the whole
// chain, outermost first, each part without the text of the parts below it.
func CauseOf(err error) *Cause {
	if err == nil {
		return nil
	}
	c := &Cause{Code: CodeOf(err), Kind: KindOf(err)}
	for e := err; e != nil && len(c.Chain) < 20; e = errors.Unwrap(e) {
		text := e.Error()
		if below := errors.Unwrap(e); below != nil {
			if short, ok := cutSuffix(text, ": "+below.Error()); ok {
				text = short
			}
		}
		if len(text) > 1000 {
			text = strings.ToValidUTF8(text[:1000], "") + " …" // a letter cut in half is left out
		}
		c.Chain = append(c.Chain, text)
	}
	return c
}

func cutSuffix(s, suffix string) (string, bool) {
	if len(s) > len(suffix) && s[len(s)-len(suffix):] == suffix {
		return s[:len(s)-len(suffix)], true
	}
	return s, false
}
