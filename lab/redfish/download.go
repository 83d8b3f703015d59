package redfish

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// stall is how long an image server may send nothing before the BMC gives up.
const stall = 60 * time.Second

// download fetches the whole image into a file of its own in Config.Dir, so that
// a machine still reading the image of an earlier insert is not disturbed.
func (b *BMC) download(m *medium, o order) *problem {
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	transport := &http.Transport{ // no proxy: a BMC has none
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{InsecureSkipVerify: !o.verify, RootCAs: b.cfg.MediaRoots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: stall,
		DisableKeepAlives:     true,
		DisableCompression:    true,
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.Image, nil)
	if err != nil {
		return imageUnreachable("ActionParameterValueFormatError", m.Image, err.Error())
	}
	if o.user != "" {
		req.SetBasicAuth(o.user, o.pass)
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return imageUnreachable("CouldNotEstablishConnection", m.Image, err.Error())
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return imageUnreachable("AccessDenied", m.Image, "the server answered "+res.Status)
	case res.StatusCode != http.StatusOK:
		return imageUnreachable("ResourceMissingAtURI", m.Image, "the server answered "+res.Status)
	case res.ContentLength > b.cfg.Limits.MediaBytes:
		return imageUnreachable("ResourceAtUriInUnknownFormat", m.Image,
			fmt.Sprintf("it has %d bytes, the BMC takes at most %d", res.ContentLength, b.cfg.Limits.MediaBytes))
	}
	if err := b.receive(m, res, cancel); err != nil {
		return imageUnreachable("GeneralError", m.Image, err.Error())
	}
	return nil
}

// receive streams the body into a new file, which exists only if all of it came:
// net/http ends a body shorter than its Content-Length with an error.
func (b *BMC) receive(m *medium, res *http.Response, cancel context.CancelFunc) (err error) {
	f, err := os.CreateTemp(b.cfg.Dir, mediaPrefix+"*.part")
	if err != nil {
		return fmt.Errorf("make room for the image: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // what stays is swept at the next start
		}
	}()
	watchdog := time.AfterFunc(stall, cancel)
	defer watchdog.Stop()
	body := io.LimitReader(res.Body, b.cfg.Limits.MediaBytes+1)
	if f, ok := b.faults.strike(MediaSlow, "", ""); ok {
		body = &throttled{body, f.Limit}
	}
	n, err := io.Copy(f, &watched{body, watchdog})
	switch {
	case err != nil:
		err = fmt.Errorf("it broke off after %d bytes (announced: %d, -1 is unknown): %w", n, res.ContentLength, err)
	case n > b.cfg.Limits.MediaBytes:
		err = fmt.Errorf("it is larger than %d bytes", b.cfg.Limits.MediaBytes)
	case n == 0:
		err = errors.New("it is empty")
	case b.faults.hits(MediaCorrupt):
		err = flip(f, n/2)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	final := strings.TrimSuffix(f.Name(), ".part") + ".iso"
	if err := os.Rename(f.Name(), final); err != nil {
		return err
	}
	m.File, m.Size = filepath.Base(final), n
	return nil
}

// watched puts the watchdog off with every piece that arrives.
type watched struct {
	io.Reader
	dog *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if n > 0 {
		w.dog.Reset(stall)
	}
	return n, err
}

func flip(f *os.File, at int64) error {
	one := make([]byte, 1)
	if _, err := f.ReadAt(one, at); err != nil {
		return err
	}
	one[0] ^= 0xff
	_, err := f.WriteAt(one, at)
	return err
}

// throttled reads no more than so many bytes in a second.
type throttled struct {
	io.Reader
	limit int
}

func (r *throttled) Read(p []byte) (int, error) {
	const each = 100 * time.Millisecond
	n, err := r.Reader.Read(p[:min(len(p), max(1, r.limit/int(time.Second/each)))])
	time.Sleep(each)
	return n, err
}
