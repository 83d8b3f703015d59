package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"metalrise.dev/fleet"
)

const (
	// maxIdleTries bounds the connections in a row that brought nothing. At half
	// to all of retryMax each that is some half hour: time enough to restart
	// metalrise or a switch, while the disk stays safely unbootable.
	maxIdleTries  = 80
	maxReconnects = 1000 // in all, so that a byte per connection does not last for ever
	// slack is what a compressed image may be larger than its content.
	slack = 64 << 20
)

// fetchKind is what is read, in words and codes.
type fetchKind struct {
	noun    string
	broken  fleet.Code // it could not be read
	corrupt fleet.Code // something else is served
}

var (
	imageFetch   = fetchKind{"the image", fleet.CodeWriteFailed, fleet.CodeImageMismatch}
	payloadFetch = fetchKind{"the nodes' software", fleet.CodeNodePrepare, fleet.CodePayloadCorrupt}
)

// fetch reads a content over broken connections: it goes on where it stopped, as
// long as the server says that the bytes are still the same.
type fetch struct {
	ctx   context.Context //nolint:containedctx // a reader has no other way to be stopped
	line  *line
	kind  fetchKind
	path  string
	limit int64 // of compressed bytes
	say   func(format string, args ...any)

	body     io.ReadCloser
	etag     string
	off      int64
	total    int64 // -1: not told
	opened   bool
	idle     int
	connects int
}

func (l *line) fetch(ctx context.Context, path string, limit int64, say func(string, ...any)) (*fetch, error) {
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || u.RawQuery != "" || !strings.HasPrefix(path, "/") {
		return nil, fleet.NewFault(fleet.CodeWriteFailed, fleet.Invalid, nil, "the ordered path is not one below the ticket's address")
	}
	return &fetch{ctx: ctx, line: l, kind: imageFetch, path: u.Path, limit: limit, say: say, total: -1}, nil
}

// Close ends the connection.
func (f *fetch) Close() error {
	if f.body == nil {
		return nil
	}
	err := f.body.Close()
	f.body = nil
	return err
}

// Read implements io.Reader.
func (f *fetch) Read(p []byte) (int, error) {
	for {
		if f.off > f.limit {
			return 0, fleet.NewFault(f.kind.corrupt, fleet.Invalid, nil, "%s is longer than %d bytes, which cannot be needed", f.kind.noun, f.limit)
		}
		if f.opened && f.off == f.total {
			return 0, io.EOF
		}
		if f.body == nil {
			if err := f.open(); err != nil {
				return 0, err
			}
		}
		n, err := f.body.Read(p)
		f.off += int64(n)
		if n > 0 {
			f.idle = 0
			return n, nil
		}
		if errors.Is(err, io.EOF) && (f.total < 0 || f.off == f.total) {
			f.total = f.off
			return 0, io.EOF
		}
		if err == nil {
			continue
		}
		_ = f.Close()
		if err := f.again(bare(err)); err != nil {
			return 0, err
		}
	}
}

// again decides whether a broken connection is worth another one, and waits.
func (f *fetch) again(why error) error {
	if f.ctx.Err() != nil {
		return context.Cause(f.ctx)
	}
	f.idle++
	f.connects++
	if f.idle > maxIdleTries || f.connects > maxReconnects {
		return fleet.NewFault(f.kind.broken, fleet.Transient, why, "read %s: stopped at byte %d after %d broken connections", f.kind.noun, f.off, f.connects)
	}
	wait := backoff(f.idle - 1)
	if f.idle == 1 {
		wait = jitter(waitFloor) // it just worked
	}
	f.say("reading %s broke at byte %d: %v; going on from there", f.kind.noun, f.off, why)
	return sleep(f.ctx, wait)
}

// open connects until an answer comes. It keeps trying what may pass.
func (f *fetch) open() error {
	for {
		resp, err := f.request()
		if err == nil {
			retry, bad := f.accept(resp)
			if bad == nil {
				return nil
			}
			_ = resp.Body.Close()
			if !retry {
				return bad
			}
			err = bad
		}
		if err := f.again(err); err != nil {
			return err
		}
	}
}

func (f *fetch) request() (*http.Response, error) {
	req, err := http.NewRequestWithContext(f.ctx, http.MethodGet, f.line.base.JoinPath(f.path).String(), nil)
	if err != nil {
		return nil, errors.New("the address is not valid")
	}
	if f.off > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", f.off))
		if f.etag != "" && !strings.HasPrefix(f.etag, "W/") {
			req.Header.Set("If-Range", f.etag)
		}
	}
	resp, err := f.line.media.Do(req)
	if err != nil {
		return nil, bare(err)
	}
	return resp, nil
}

// accept checks an answer, and tells whether a bad one may become better.
func (f *fetch) accept(resp *http.Response) (retry bool, err error) {
	switch {
	case resp.StatusCode == http.StatusOK && f.off == 0:
		if f.opened && f.total >= 0 && resp.ContentLength != f.total {
			return false, f.changed()
		}
		if resp.ContentLength > f.limit {
			return false, fleet.NewFault(f.kind.corrupt, fleet.Invalid, nil, "%s is %d bytes long, more than the %d that can be needed", f.kind.noun, resp.ContentLength, f.limit)
		}
		f.total, f.etag = resp.ContentLength, resp.Header.Get("ETag")
	case resp.StatusCode == http.StatusPartialContent && f.off > 0:
		var first, last, total int64
		text := resp.Header.Get("Content-Range")
		if _, err := fmt.Sscanf(text, "bytes %d-%d/%d", &first, &last, &total); err != nil || first != f.off || (f.total >= 0 && total != f.total) {
			return false, fleet.NewFault(f.kind.broken, fleet.Invalid, nil, "read %s: asked to go on at byte %d of %d, answered range %.60q", f.kind.noun, f.off, f.total, text)
		}
		f.total = total
	case resp.StatusCode == http.StatusOK:
		return false, f.changed()
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return true, fmt.Errorf("status %d", resp.StatusCode)
	default:
		return false, fleet.NewFault(f.kind.broken, fleet.Transient, nil, "read %s: status %d, so it is not served any more", f.kind.noun, resp.StatusCode)
	}
	f.body, f.opened = resp.Body, true
	return false, nil
}

func (f *fetch) changed() error {
	return fleet.NewFault(f.kind.broken, fleet.Transient, nil, "read %s: it changed, or cannot be read from byte %d on", f.kind.noun, f.off)
}
