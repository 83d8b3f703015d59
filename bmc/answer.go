package bmc

import (
	"fmt"
	"net/http"
	"strings"

	"metalrise.dev/fleet"
)

// message is one entry of a BMC's @Message.ExtendedInfo.
type message struct {
	id   string // "Base.1.8.PropertyMissing"
	text string
	args []string
}

// key is the last part of the message id, which registries keep stable over
// their versions: "PropertyMissing", "SYS518".
func (m message) key() string { return m.id[strings.LastIndexByte(m.id, '.')+1:] }

// refusal is an answer that is not a success.
type refusal struct {
	method, path string
	status       int
	messages     []message
}

func (r *refusal) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s answered %d %s", r.method, r.path, r.status, http.StatusText(r.status))
	for i, m := range r.messages {
		if i == 4 {
			b.WriteString("; …")
			break
		}
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		b.WriteString(sep)
		if m.id != "" {
			b.WriteString(m.id + " ")
		}
		text := m.text
		if len(text) > 300 {
			text = text[:300] + "…"
		}
		b.WriteString(text)
	}
	return b.String()
}

// says tells whether one of the message keys is among the messages.
func (r *refusal) says(keys ...string) bool {
	for _, m := range r.messages {
		for _, k := range keys {
			if strings.EqualFold(m.key(), k) {
				return true
			}
		}
	}
	return false
}

// readMessages reads a BMC's error answer, which should hold
// error.@Message.ExtendedInfo as a list, but may hold one object, a text, the
// same without "error", or no JSON at all.
func readMessages(body []byte) []message {
	m, err := decode(body)
	if err != nil {
		text := clean(string(body[:min(len(body), 300)]))
		if text == "" || strings.HasPrefix(text, "<") {
			return nil // empty, or a page of HTML that says nothing more than the status
		}
		return []message{{text: text}}
	}
	top := node{m: m}
	at := top
	if e := top.object("error"); e.exists() {
		at = e
	}
	var out []message
	for _, v := range at.list("@Message.ExtendedInfo") {
		switch v := v.(type) {
		case map[string]any:
			n := node{m: v}
			out = append(out, message{id: n.str("MessageId"), text: n.str("Message"), args: n.texts("MessageArgs")})
		case string:
			out = append(out, message{text: clean(v)})
		}
		if len(out) == 16 {
			return out
		}
	}
	if s, ok := at.m["@Message.ExtendedInfo"].(string); ok {
		out = append(out, message{text: clean(s)})
	}
	if len(out) == 0 {
		if code, text := at.str("code"), at.str("message"); code != "" || text != "" {
			out = append(out, message{id: code, text: text})
		}
	}
	if s, ok := top.m["error"].(string); ok && len(out) == 0 {
		out = append(out, message{text: clean(s)})
	}
	return out
}

// notReady are the documented message keys of a BMC that starts, is busy or out
// of sessions: Redfish base registry; Dell SYS518, SWC0700, RAC0508, RAC0218.
var notReady = [...]string{
	"ServiceTemporarilyUnavailable", "ServiceInUnknownState", "ServiceShuttingDown",
	"ResourceInStandby", "ResourceCreationConflict", "SYS518", "SWC0700", "RAC0508", "UnableToModifyDuringSystemPOST",
}

func (r *refusal) isNotReady() bool {
	return r.status == http.StatusServiceUnavailable || r.status == http.StatusTooManyRequests || r.says(notReady[:]...) || r.says(sessionLimit[:]...)
}

// isChange tells whether the method changes something.
func isChange(method string) bool { return method != http.MethodGet && method != http.MethodHead }

// fault says what a refusal means.
func (r *refusal) fault() error {
	f := func(code fleet.Code, kind fleet.Kind, text string) error {
		return fleet.NewFault(code, kind, r, "%s", text)
	}
	switch {
	case r.isLicence():
		return f(fleet.CodeBMCLicence, fleet.Denied, "the BMC lacks a licence for this")
	case r.says(passwordChange):
		return f(fleet.CodeBMCPasswordChange, fleet.Denied, "the BMC wants the password of "+r.account()+" changed first")
	case r.says(sessionLimit[:]...):
		return f(fleet.CodeBMCSessionLimit, fleet.Transient, "the BMC has no session free")
	case r.says(driveTaken[:]...):
		return f(fleet.CodeBMCRejected, fleet.Transient, "the virtual drive is taken or detached")
	case r.isNotReady():
		return f(fleet.CodeBMCBusy, fleet.Transient, "the BMC is not ready")
	case r.status == http.StatusUnauthorized:
		return f(fleet.CodeBMCLoginRefused, fleet.Denied, "the BMC refused the login")
	case r.status == http.StatusForbidden:
		return f(fleet.CodeBMCRejected, fleet.Denied, "the account may not do this")
	case r.status == http.StatusNotFound, r.status == http.StatusMethodNotAllowed, r.status == http.StatusNotImplemented, r.status == http.StatusGone,
		r.says("ActionNotSupported", "OperationNotAllowed", "QueryNotSupported"):
		return f(fleet.CodeBMCUnsupported, fleet.Unsupported, "the BMC does not offer this")
	case r.status == http.StatusConflict, r.status == http.StatusPreconditionFailed, r.status == http.StatusPreconditionRequired:
		return f(fleet.CodeBMCRejected, fleet.Transient, "the BMC cannot do this now")
	case r.status >= 500 && isChange(r.method):
		return f(fleet.CodeBMCRejected, fleet.UnsureKind, "the BMC failed at this, perhaps half-way")
	case r.status >= 500:
		return f(fleet.CodeBMCRejected, fleet.Transient, "the BMC failed at this")
	}
	return f(fleet.CodeBMCRejected, fleet.Invalid, "the BMC rejected the request")
}
