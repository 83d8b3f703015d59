package boot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Caller is who calls home, as far as the connection shows. Whether it may is
// for the Desk to say.
type Caller struct {
	Token string // as sent; never log it
	// KeyHash is the SHA-256 over the public key (DER SubjectPublicKeyInfo) of
	// the client certificate, lower-case hexadecimal. TLS made sure that the
	// caller holds the private key.
	KeyHash string
	Addr    netip.AddrPort
}

// Desk answers machines. Messages arrive checked for form, not for truth. The
// same message may come again and must get the same answer. An error that is a
// fleet.Fault of kind Denied becomes status 403, of kind Invalid 400, any other
// 503 with the request to come again. The text of a fault is sent to the
// machine; the chain below it is not.
type Desk interface {
	// Admit tells whether a caller may speak at all. It is asked before a
	// message is read, so that strangers cost no memory.
	Admit(who Caller) error
	// Who hears a machine that does not know whose live system it is.
	Who(ctx context.Context, who Caller, m callhome.Who) (callhome.Orders, error)
	Hello(ctx context.Context, who Caller, m callhome.Hello) (callhome.Orders, error)
	Progress(ctx context.Context, who Caller, m callhome.Progress) (callhome.Orders, error)
	Written(ctx context.Context, who Caller, m callhome.Written) (callhome.Orders, error)
	Failed(ctx context.Context, who Caller, m callhome.Failed) (callhome.Orders, error)
	Erased(ctx context.Context, who Caller, m callhome.Erased) (callhome.Orders, error)
	// Task may take some 20 seconds to answer a task that ended.
	Task(ctx context.Context, who Caller, m callhome.TaskReport) (callhome.Orders, error)
}

// Refusal is the JSON body of every answer that is not status 200.
type Refusal struct {
	Code fleet.Code `json:"code"`
	Text string     `json:"text"`
}

const retryAfter = "2" // seconds, with status 503

// call makes the handler of one kind of message.
func call[M any](s *Server, check func(M) error, answer func(context.Context, Caller, M) (callhome.Orders, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout))
		who, err := callerOf(r)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		if err := s.cfg.Desk.Admit(who); err != nil {
			s.refuse(w, r, err)
			return
		}
		m, err := decode[M](http.MaxBytesReader(w, r.Body, callhome.MaxBody))
		if err == nil {
			err = check(m)
		}
		if err != nil {
			s.refuse(w, r, fleet.NewFault(fleet.CodeUnexpected, fleet.Invalid, err, "message not understood"))
			return
		}
		_ = rc.SetReadDeadline(time.Time{}) // else a slow answer would be taken for a lost caller
		orders, err := answer(r.Context(), who, m)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		s.reply(w, http.StatusOK, orders)
	}
}

// callerOf reads token and key of a caller; both must be there.
func callerOf(r *http.Request) (Caller, error) {
	addr, _ := netip.ParseAddrPort(r.RemoteAddr)
	who := Caller{Addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())}
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "bearer") || token == "" || len(token) > 512 {
		return who, fleet.NewFault(fleet.CodeTokenRefused, fleet.Denied, nil, "no token was shown")
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return who, fleet.NewFault(fleet.CodeTokenRefused, fleet.Denied, nil, "no client certificate was shown")
	}
	sum := sha256.Sum256(r.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
	who.Token, who.KeyHash = token, hex.EncodeToString(sum[:])
	return who, nil
}

// decode reads exactly one JSON value with no unknown field. A message of
// another protocol version is told apart from a malformed one.
func decode[M any](r io.Reader) (M, error) {
	var m M
	body, err := io.ReadAll(r)
	if err != nil {
		return m, fmt.Errorf("read body: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err = d.Decode(&m)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			err = errors.New("data after the message")
		}
	}
	if err != nil {
		var version struct {
			Protocol int `json:"protocol"`
		}
		if json.Unmarshal(body, &version) == nil && version.Protocol > callhome.Protocol {
			return m, fmt.Errorf("protocol %d, this metalrise speaks %d: boot a medium made by this metalrise", version.Protocol, callhome.Protocol)
		}
		return m, fmt.Errorf("decode body: %w", err)
	}
	return m, nil
}

// refuse answers an error.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusServiceUnavailable
	switch fleet.KindOf(err) {
	case fleet.Denied:
		status = http.StatusForbidden
	case fleet.Invalid:
		status = http.StatusBadRequest
	default:
		w.Header().Set("Retry-After", retryAfter)
	}
	s.cfg.Log.Warn("call of a machine refused", "path", r.URL.Path, "from", r.RemoteAddr, "status", status, "err", err)
	body := Refusal{Code: fleet.CodeOf(err), Text: "not possible now"}
	var f *fleet.Fault
	if errors.As(err, &f) {
		body.Text = f.Text
		if f.Kind == fleet.Invalid {
			body.Text = f.Error() // about the caller's own message
		}
	}
	s.reply(w, status, body)
}

func (s *Server) reply(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		s.cfg.Log.Error("answer to a machine", "err", err)
		http.Error(w, "answer could not be made", http.StatusInternalServerError)
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(bodyTimeout))
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a lost caller asks again
}
