package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"metalrise.dev/fleet"
)

// ErrNoEngine says that no engine listens for this state folder.
var ErrNoEngine = errors.New("no engine is running for this site")

// Client talks to the engine of one state folder.
type Client struct{ http *http.Client }

// NewClient makes a client; nothing is sent yet.
func NewClient(stateDir string) *Client {
	path := SocketPath(stateDir)
	return &Client{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}}
}

// Overview asks where every server is.
func (c *Client) Overview(ctx context.Context) (fleet.Overview, error) {
	var o fleet.Overview
	return o, c.call(ctx, http.MethodGet, "/v1/overview", nil, &o)
}

// Apply starts a plan.
func (c *Client) Apply(ctx context.Context, consent fleet.Consent) error {
	return c.call(ctx, http.MethodPost, "/v1/apply", consent, nil)
}

// Retry gives a held server another attempt.
func (c *Client) Retry(ctx context.Context, server fleet.ServerID, by string) error {
	return c.call(ctx, http.MethodPost, "/v1/retry", RetryRequest{Server: server, By: by}, nil)
}

// RetryBy gives a held server another attempt that begins with a way to boot.
func (c *Client) RetryBy(ctx context.Context, server fleet.ServerID, by string, route fleet.BootRoute) error {
	return c.call(ctx, http.MethodPost, "/v1/retry", RetryRequest{Server: server, By: by, Route: route}, nil)
}

// Reinstall gives a held server another attempt in which its disk is written anew.
func (c *Client) Reinstall(ctx context.Context, server fleet.ServerID, by string) error {
	return c.call(ctx, http.MethodPost, "/v1/reinstall", RetryRequest{Server: server, By: by}, nil)
}

// RetryPlatform has failed steps of the VM platform tried again, or what else the
// person says.
func (c *Client) RetryPlatform(ctx context.Context, q fleet.PlatformRetry) error {
	return c.call(ctx, http.MethodPost, "/v1/platform", q, nil)
}

// Remove takes a server away from the cluster.
func (c *Client) Remove(ctx context.Context, server fleet.ServerID, r fleet.Removal) error {
	return c.call(ctx, http.MethodPost, "/v1/remove", RemoveRequest{server, r}, nil)
}

// Withdraw takes the consent of the running plan back.
func (c *Client) Withdraw(ctx context.Context, by string) error {
	return c.call(ctx, http.MethodPost, "/v1/withdraw", WithdrawRequest{by}, nil)
}

// Stop ends the engine.
func (c *Client) Stop(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/stop", nil, nil)
}

// Medium reads the live medium of a server that waits for it. The caller closes it.
func (c *Client) Medium(ctx context.Context, server fleet.ServerID) (io.ReadCloser, error) {
	res, err := c.send(ctx, http.MethodGet, "/v1/medium?server="+url.QueryEscape(string(server)), nil)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

// Events calls each for every event after the given one; with follow it goes on
// until ctx ends or the engine does. An error of each ends it.
func (c *Client) Events(ctx context.Context, after int64, follow bool, each func(fleet.Event) error) error {
	path := fmt.Sprintf("/v1/events?after=%d", after)
	if follow {
		path += "&follow=1"
	}
	res, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxBody)
	for lines.Scan() {
		var e fleet.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("decode event: %w", err)
		}
		if err := each(e); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	res, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if out == nil {
		return nil
	}
	return json.NewDecoder(io.LimitReader(res.Body, 64<<20)).Decode(out)
}

func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil { // nobody listens, or the engine was killed before it answered
		if ctx.Err() == nil {
			err = errors.Join(ErrNoEngine, err)
		}
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	var refusal Refusal
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(&refusal); err != nil {
		return nil, fmt.Errorf("engine answered %s", res.Status)
	}
	return nil, fleet.NewFault(refusal.Cause.Code, refusal.Cause.Kind, nil, "%s", strings.Join(refusal.Cause.Chain, ": "))
}
