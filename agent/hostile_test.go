package agent

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// hostile starts a server the agent trusts, and the agent's line to it.
func hostile(t *testing.T, h http.HandlerFunc) *line {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	seat, err := takeSeat(NewHost(t.TempDir()), callhome.Live)
	if err != nil {
		t.Fatal(err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	l, err := newLine(callhome.Ticket{URL: srv.URL, CA: string(ca), Token: "secret-token"}, seat)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

func TestHostileAnswers(t *testing.T) {
	tests := map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"not JSON":     {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "decode answer"},
		"unknown verb": {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"verb":"format"}`) }, `unknown order "format"`},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{`)
		}, "unexpected EOF"},
		"without end": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, zeros{}) }, "longer than"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://192.0.2.1/", http.StatusTemporaryRedirect)
		}, "status 307"},
		"refusal": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(403)
			fmt.Fprint(w, `{"code":"RUN-006","text":"no"}`)
		}, "refused: no"},
		"huge header": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, "header"},
		"hangs up":    {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"control chars?": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(400)
			fmt.Fprint(w, "{\"text\":\"a\\u001b[2J\"}")
		}, "not understood"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := hostile(t, test.handler).post(t.Context(), callhome.PathHello, callhome.Hello{})
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret-token") {
				t.Errorf("%v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestRetryAfterIsBounded(t *testing.T) {
	l := hostile(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(503)
	})
	_, err := l.post(t.Context(), callhome.PathHello, callhome.Hello{})
	var a *again
	if !errors.As(err, &a) || a.after > retryMax {
		t.Errorf("%v", err)
	}
}

func TestNoTLSAtAll(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	heard := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"verb\":\"done\"}")
		b := make([]byte, 4096)
		n, _ := c.Read(b)
		heard <- string(b[:n])
	}()
	l := hostile(t, nil)
	l.base.Host = ln.Addr().String()
	if _, err := l.post(t.Context(), callhome.PathHello, callhome.Hello{}); err == nil {
		t.Error("an answer without TLS was believed")
	}
	if h := <-heard; strings.Contains(h, "secret-token") {
		t.Error("the token was sent without TLS")
	}
}

// image serves bytes with a fault at the first request, then as told.
func TestHostileImages(t *testing.T) {
	content := strings.Repeat("0123456789", 10_000)
	first := func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Header().Set("ETag", `"one"`)
		_, _ = io.WriteString(w, content[:len(content)/2])
	}
	tests := map[string]struct {
		second func(w http.ResponseWriter, r *http.Request)
		code   fleet.Code // "" when it must succeed
	}{
		"honest": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"one"`)
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		}, ""},
		"changed": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"two"`)
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(content))
		}, fleet.CodeWriteFailed},
		"ignores range": {func(w http.ResponseWriter, _ *http.Request) { first(w) }, fleet.CodeWriteFailed},
		"wrong range": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-99999/100000")
			w.WriteHeader(206)
		}, fleet.CodeWriteFailed},
		"grows": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 50000-999999/1000000")
			w.WriteHeader(206)
		}, fleet.CodeWriteFailed},
		"gone": {func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, fleet.CodeWriteFailed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			calls := 0
			l := hostile(t, func(w http.ResponseWriter, r *http.Request) {
				if calls++; calls == 1 {
					first(w)
					return
				}
				test.second(w, r)
			})
			f, err := l.fetch(t.Context(), "/m/key/disk", 1<<20, func(string, ...any) {})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			got, err := io.ReadAll(f)
			if test.code == "" {
				if err != nil || string(got) != content {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				return
			}
			if fleet.CodeOf(err) != test.code || strings.Contains(err.Error(), "/m/key") {
				t.Errorf("%v, want %s and no address", err, test.code)
			}
		})
	}
}

func TestImageWithoutEnd(t *testing.T) {
	l := hostile(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.Copy(w, zeros{}) })
	f, err := l.fetch(t.Context(), "/m/key/disk", 1<<20, func(string, ...any) {})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := io.Copy(io.Discard, f); fleet.CodeOf(err) != fleet.CodeImageMismatch || n > 2<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestImageOnlyFromHome(t *testing.T) {
	l := hostile(t, nil)
	for _, path := range []string{"https://192.0.2.1/x", "//192.0.2.1/x", "m/key", "/m?x=1", ""} {
		if _, err := l.fetch(t.Context(), path, 1, nil); err == nil {
			t.Errorf("%q was accepted", path)
		}
	}
}

func TestXZDictionaryIsBounded(t *testing.T) {
	// A stream whose block header asks for a dictionary of 4 GiB.
	head := []byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4\x46\x02\x00\x21\x01\x28\x00\x00\x00")
	if _, err := unpack("raw.xz", strings.NewReader(string(head))); fleet.CodeOf(err) != fleet.CodeImageMismatch {
		t.Errorf("%v", err)
	}
}

func TestTicketErrorsShowNoToken(t *testing.T) {
	seat, err := takeSeat(NewHost(t.TempDir()), callhome.Live)
	if err != nil {
		t.Fatal(err)
	}
	for name, ticket := range map[string]callhome.Ticket{
		"http":    {URL: "http://10.0.0.1", CA: "x", Token: "secret-token"},
		"path":    {URL: "https://10.0.0.1/x", CA: "x", Token: "secret-token"},
		"no CA":   {URL: "https://10.0.0.1", Token: "secret-token"},
		"no host": {URL: "https://", Token: "secret-token"},
	} {
		if _, err := newLine(ticket, seat); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := RunWith(context.Background(), callhome.Ticket{Protocol: 9}, NewHost(t.TempDir()), nil); err == nil {
		t.Error("a ticket of another protocol was accepted")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
