package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrDown says that no lab runs in the folder.
var ErrDown = errors.New("the lab is not running")

// Client talks to the lab in one folder.
type Client struct {
	cfg  Config
	http *http.Client
}

// NewClient makes a client; nothing is sent yet.
func NewClient(cfg Config) *Client {
	path := filepath.Join(cfg.Dir, socketFile)
	return &Client{cfg, &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, "unix", path)
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
				err = ErrDown
			}
			return c, err
		},
	}}}
}

// View asks what every server does.
func (c *Client) View(ctx context.Context) (View, error) {
	var v View
	return v, c.call(ctx, http.MethodGet, "/v1/view", nil, &v)
}

// Fault arms a fault at one server or "all"; an empty text clears them.
func (c *Client) Fault(ctx context.Context, server, text string) error {
	return c.call(ctx, http.MethodPost, "/v1/fault", Request{Server: server, Fault: text}, nil)
}

// Power uses the power button of one server or "all".
func (c *Client) Power(ctx context.Context, server string, b Button) error {
	return c.call(ctx, http.MethodPost, "/v1/power", Request{Server: server, Button: b}, nil)
}

// SwapDisk puts a new, empty disk in place of the install disk of one server. It
// answers ErrPoweredOn while the server is on.
func (c *Client) SwapDisk(ctx context.Context, server string) error {
	return c.call(ctx, http.MethodPost, "/v1/swap-disk", Request{Server: server}, nil)
}

// Console copies what is kept of a server's console; with follow it goes on
// until ctx ends or the lab does.
func (c *Client) Console(ctx context.Context, server string, follow bool, w io.Writer) error {
	q := url.Values{"server": {server}}
	if follow {
		q.Set("follow", "1")
	}
	res, err := c.send(ctx, http.MethodGet, "/v1/console?"+q.Encode(), nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(w, res.Body)
	return err
}

// Stop ends the lab and waits until it is gone. It answers ErrDown where none runs.
func (c *Client) Stop(ctx context.Context) error {
	if err := c.call(ctx, http.MethodPost, "/v1/stop", nil, nil); err != nil {
		return err
	}
	for {
		lock, err := c.cfg.takeLock()
		if err == nil {
			return lock.Close()
		}
		if !errors.Is(err, ErrRunning) {
			return err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("lab %s: it was told to stop and has not ended: %w", c.cfg.Name, ctx.Err())
		}
	}
}

// refused is an answer of the lab whose kind a caller may ask for.
type refused struct {
	text string
	kind error
}

func (r *refused) Error() string { return r.text }
func (r *refused) Unwrap() error { return r.kind }

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	res, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(res.Body, 16<<20)).Decode(out)
}

func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if errors.Is(err, ErrDown) {
		return nil, fmt.Errorf("lab %s: %w", c.cfg.Name, ErrDown)
	}
	if err != nil {
		return nil, fmt.Errorf("lab %s: %w", c.cfg.Name, err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	var r refusal
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(&r); err != nil || r.Error == "" {
		return nil, fmt.Errorf("lab %s: answered %s", c.cfg.Name, res.Status)
	}
	if r.PoweredOn {
		return nil, &refused{r.Error, ErrPoweredOn}
	}
	return nil, errors.New(r.Error)
}
