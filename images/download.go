package images

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// Downloader fetches over HTTP. The zero value works.
type Downloader struct {
	Client  *http.Client  // nil: NewClient()
	Mirrors Mirrors       // rules for every URL
	Tries   int           // attempts without a new byte before it gives up; 0: 5
	Pause   time.Duration // before the second attempt, doubled for each further one; 0: one second
	Stall   time.Duration // without a byte, after which an attempt is given up; 0: one minute
}

// NewClient gives a client for publishers: proxies by the environment, no step
// down from https to http, and file URLs, which only mirrors and people name.
func NewClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.RegisterProtocol("file", http.NewFileTransport(http.Dir("/")))
	return &http.Client{Transport: t, CheckRedirect: redirect}
}

var errRedirect = errors.New("address is not followed")

func redirect(r *http.Request, via []*http.Request) error {
	switch {
	case len(via) >= 10:
		return fmt.Errorf("%w: more than 10", errRedirect)
	case r.URL.Scheme != "https" && r.URL.Scheme != "http":
		return fmt.Errorf("%w: to %q", errRedirect, r.URL.Scheme)
	case r.URL.Scheme == "http" && via[0].URL.Scheme == "https":
		return fmt.Errorf("%w: from https to http", errRedirect)
	}
	return nil
}

func (d Downloader) filled() Downloader {
	if d.Client == nil {
		d.Client = NewClient()
	}
	if d.Tries <= 0 {
		d.Tries = 5
	}
	if d.Pause <= 0 {
		d.Pause = time.Second
	}
	if d.Stall <= 0 {
		d.Stall = time.Minute
	}
	return d
}

// httpError is an answer that is not the content.
type httpError struct {
	URL    string
	Status int
}

func (e *httpError) Error() string {
	return fmt.Sprintf("%s answered %d %s", e.URL, e.Status, http.StatusText(e.Status))
}

// passing tells whether another attempt may help.
func passing(err error) bool {
	var h *httpError
	if errors.As(err, &h) {
		return h.Status >= 500 || h.Status == http.StatusRequestTimeout || h.Status == http.StatusTooManyRequests
	}
	var file *os.PathError // of this computer: a full disk
	var cert *tls.CertificateVerificationError
	return !errors.As(err, &file) && !errors.As(err, &cert) && !errors.Is(err, errTooLarge) && !errors.Is(err, errRedirect)
}

// again runs try until it succeeds, ends for good, or Tries attempts brought nothing
// new. try tells whether it brought something.
func (d Downloader) again(ctx context.Context, try func() (progress bool, err error)) error {
	pause := d.Pause
	for attempt := 1; ; attempt++ {
		progress, err := try()
		if err == nil || ctx.Err() != nil || !passing(err) {
			return errors.Join(err, ctx.Err())
		}
		if progress {
			attempt, pause = 1, d.Pause
		}
		if attempt >= d.Tries {
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return errors.Join(err, ctx.Err())
		case <-t.C:
		}
		pause = min(2*pause, 30*time.Second)
	}
}

// small fetches a document of at most limit bytes, from a URL or a file.
func (d Downloader) small(ctx context.Context, at string, limit int64) ([]byte, error) {
	if !strings.Contains(at, "://") {
		return readFile(at, limit)
	}
	d = d.filled()
	var out []byte
	err := d.again(ctx, func() (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, d.Stall)
		defer cancel()
		resp, err := d.get(ctx, at, nil)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return false, &httpError{d.Mirrors.rewrite(at), resp.StatusCode}
		}
		out, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
		if err == nil && int64(len(out)) > limit {
			err = fmt.Errorf("%s: %w (%d bytes)", at, errTooLarge, limit)
		}
		return false, err
	})
	return out, err
}

var errTooLarge = errors.New("larger than it can be")

func readFile(path string, limit int64) ([]byte, error) {
	f, _, err := openStamped(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: %w (%d bytes)", path, errTooLarge, limit)
	}
	return b, err
}

func (d Downloader) get(ctx context.Context, at string, header http.Header) (*http.Response, error) {
	to := d.Mirrors.rewrite(at)
	u, err := url.Parse(to)
	if err != nil {
		return nil, err
	}
	// Below a mirror is below a mirror.
	if slices.Contains(strings.Split(u.Path, "/"), "..") {
		return nil, fmt.Errorf("%w: %q leads upwards", errRedirect, to)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	// Ranges and checksums are of the file as published, not of a packed form.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "metalrise")
	return d.Client.Do(req)
}

// copyContext copies until the end of r; seen is told after each piece.
func copyContext(ctx context.Context, w io.Writer, r io.Reader, seen func(n int64)) (int64, error) {
	buf := make([]byte, 1<<20)
	var done int64
	for {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return done, err
			}
			done += int64(n)
			if seen != nil {
				seen(done)
			}
		}
		if errors.Is(err, io.EOF) {
			return done, nil
		}
		if err != nil {
			return done, err
		}
	}
}
