package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

const (
	maxAnswer   = 16 << 20 // an Ignition config of some MiB, in base64
	maxRefusal  = 64 << 10
	callTimeout = 60 * time.Second
	// stall is how long a connection may carry nothing before it is given up.
	stall     = 60 * time.Second
	retryMin  = time.Second
	retryMax  = 30 * time.Second
	waitFloor = 200 * time.Millisecond
	waitCeil  = 5 * time.Minute
	waitUsual = 5 * time.Second
)

// line is the connection home.
type line struct {
	base  *url.URL
	token string
	calls *http.Client
	media *http.Client
}

func newLine(t callhome.Ticket, s *seat) (*line, error) {
	base, err := url.Parse(t.URL)
	if err != nil || base.Scheme != "https" || base.Host == "" || strings.Trim(base.Path, "/") != "" {
		return nil, fmt.Errorf("ticket: url %q: want https://host:port", t.URL)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(t.CA)) {
		return nil, errors.New("ticket: ca holds no PEM certificate")
	}
	if t.Token == "" {
		return nil, errors.New("ticket: token is empty")
	}
	transport := &http.Transport{
		DialContext:            dial,
		TLSHandshakeTimeout:    20 * time.Second,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		TLSClientConfig: &tls.Config{
			MinVersion:   tls.VersionTLS12,
			RootCAs:      pool,
			Certificates: []tls.Certificate{s.cert},
			// The authority is pinned, so its time says nothing; the machine's
			// clock may be anywhere. One fixed moment within the validity of all
			// certificates takes the clock out of the question.
			Time: func() time.Time { return time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) },
		},
	}
	straight := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &line{
		base:  base,
		token: t.Token,
		calls: &http.Client{Transport: transport, CheckRedirect: straight, Timeout: callTimeout},
		media: &http.Client{Transport: transport, CheckRedirect: straight},
	}, nil
}

func (l *line) close() { l.calls.CloseIdleConnections() }

// dial gives connections that fail when they stand still.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &moving{Conn: c}, nil
}

type moving struct{ net.Conn }

func (c *moving) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(stall)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *moving) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(stall)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// again is an error with the time the other side asked us to wait.
type again struct {
	after time.Duration
	err   error
}

func (e *again) Error() string { return e.err.Error() }
func (e *again) Unwrap() error { return e.err }

// post makes one call. A refusal of the other side is a fleet.Fault of kind
// Denied or Invalid.
func (l *line) post(ctx context.Context, path string, message any) (callhome.Orders, error) {
	var orders callhome.Orders
	body, err := json.Marshal(message)
	if err != nil {
		return orders, fmt.Errorf("encode %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return orders, fmt.Errorf("call %s: %w", path, err)
	}
	req.Header.Set("Authorization", "Bearer "+l.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := l.calls.Do(req)
	if err != nil {
		return orders, fmt.Errorf("call %s: %w", path, bare(err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return orders, fmt.Errorf("call %s: %w", path, refusal(resp))
	}
	answer, err := readBounded(resp.Body, maxAnswer)
	if err != nil {
		return orders, fmt.Errorf("call %s: read answer: %w", path, err)
	}
	if err := json.Unmarshal(answer, &orders); err != nil {
		return orders, fmt.Errorf("call %s: decode answer: %w", path, err)
	}
	switch orders.Verb {
	case callhome.Go, callhome.Erase, callhome.Work, callhome.Wait, callhome.Hold, callhome.Restart, callhome.Done:
		return orders, nil
	}
	return orders, fmt.Errorf("call %s: unknown order %.20q", path, orders.Verb)
}

func refusal(resp *http.Response) error {
	var r struct {
		Code fleet.Code `json:"code"`
		Text string     `json:"text"`
	}
	body, err := readBounded(resp.Body, maxRefusal)
	if err == nil {
		_ = json.Unmarshal(body, &r) // the status alone is enough
	}
	if r.Text == "" || len(r.Text) > 2000 {
		r.Text = "status " + strconv.Itoa(resp.StatusCode)
	}
	if r.Code == "" || len(r.Code) > 20 {
		r.Code = fleet.CodeUnexpected
	}
	switch resp.StatusCode {
	case http.StatusForbidden:
		return fleet.NewFault(r.Code, fleet.Denied, nil, "refused: %s", r.Text)
	case http.StatusBadRequest:
		return fleet.NewFault(r.Code, fleet.Invalid, nil, "not understood: %s", r.Text)
	}
	f := fleet.NewFault(r.Code, fleet.Transient, nil, "answered %s", r.Text)
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		return &again{after: min(time.Duration(s)*time.Second, retryMax), err: f}
	}
	return f
}

// ask repeats a call until it is answered or the context ends.
func (s *session) ask(ctx context.Context, path string, message any) (callhome.Orders, error) {
	return s.askUntil(ctx, path, message, func(error) bool { return false })
}

// askUntil is ask that gives up at an error for which enough says so. The orders
// are then to wait.
func (s *session) askUntil(ctx context.Context, path string, message any, enough func(error) bool) (callhome.Orders, error) {
	for try := 0; ; try++ {
		orders, err := s.line.post(ctx, path, message)
		if err == nil {
			s.clock(orders.Now)
			return orders, nil
		}
		if ctx.Err() != nil {
			return orders, context.Cause(ctx)
		}
		if enough(err) {
			s.say("%v", err)
			return callhome.Orders{Verb: callhome.Wait}, sleep(ctx, backoff(try))
		}
		wait := backoff(try)
		var a *again
		if errors.As(err, &a) {
			wait = jitter(a.after)
		}
		s.say("%v; next try in %s", err, wait.Round(100*time.Millisecond))
		if err := sleep(ctx, wait); err != nil {
			return orders, err
		}
	}
}

// backoff doubles from retryMin to retryMax and spreads each wait over half to
// all of it, so that a rack that lost its switch does not come back at once.
func backoff(try int) time.Duration {
	return jitter(min(retryMin<<min(try, 10), retryMax))
}

func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d/2 + rand.N(d/2+1)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// bare takes the address out of an error of net/http, because it may hold the
// key of a medium.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func readBounded(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("longer than %d bytes", limit)
	}
	return b, nil
}
