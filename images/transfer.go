package images

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	gohash "hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// sums are computed while a content goes by.
type sums struct {
	short, long gohash.Hash // SHA-256; SHA-512, nil if none is promised
	sig         *signed     // nil: no signature is checked
	n           int64
}

func newSums(want demand) *sums {
	s := &sums{short: sha256.New()}
	if want.sha512 != "" {
		s.long = sha512.New()
	}
	if want.begin != nil {
		s.sig = want.begin()
	}
	return s
}

func (s *sums) Write(b []byte) (int, error) {
	s.short.Write(b)
	if s.long != nil {
		s.long.Write(b)
	}
	if s.sig != nil {
		if _, err := s.sig.Write(b); err != nil {
			return 0, err
		}
	}
	s.n += int64(len(b))
	return len(b), nil
}

func (s *sums) abort() {
	if s.sig != nil {
		s.sig.abort()
		s.sig = nil
	}
}

// validator is what tells one state of a URL from another (RFC 9110, 8.8).
type validator struct {
	URL      string `json:"url"`
	ETag     string `json:"etag,omitempty"`
	Modified string `json:"lastModified,omitempty"`
	Total    int64  `json:"total,omitempty"`
}

func validatorOf(at string, h http.Header, total int64) validator {
	return validator{URL: at, ETag: h.Get("ETag"), Modified: h.Get("Last-Modified"), Total: total}
}

// condition is the value of If-Range: a strong entity tag, else a date. Weak
// tags may not be used there (RFC 9110, 13.1.5).
func (v validator) condition() string {
	if v.ETag != "" && !strings.HasPrefix(v.ETag, "W/") {
		return v.ETag
	}
	return v.Modified
}

func loadValidator(part string) validator {
	var v validator
	if b, err := readFile(part+".json", 16<<10); err == nil {
		_ = json.Unmarshal(b, &v) // a damaged note is none
	}
	return v
}

func (v validator) keep(part string) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(part+".json", b, 0o600)
}

// fetched is a content that arrived whole and as promised, still under its
// partial name.
type fetched struct {
	sha256 string
	bytes  int64
	signer string // fingerprint, "" if no signature was asked for
}

// demand is what a content must be.
type demand struct {
	url            string
	sha256, sha512 string // "": not promised
	begin          func() *signed
	progress       func(done, total int64)
}

// fetch brings the content of a URL into the file part, going on where an earlier call
// stopped. What is there is read once more, so that the checksums are of all
// bytes. If the result of a continued download is not as promised, it is fetched once
// from the beginning.
func (d Downloader) fetch(ctx context.Context, want demand, part string) (fetched, error) {
	d = d.filled()
	if err := os.MkdirAll(filepath.Dir(part), 0o700); err != nil {
		return fetched{}, err
	}
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fetched{}, err
	}
	defer f.Close()
	for round := 0; ; round++ {
		t := &transfer{d: d, want: want, f: f, part: part}
		got, err := t.run(ctx)
		t.sums.abort()
		var corrupt *CorruptError
		var unsigned *SignatureError
		wrong := errors.As(err, &corrupt) || errors.As(err, &unsigned)
		if wrong {
			// Nothing that failed is left to be continued or taken for good.
			err = errors.Join(err, f.Truncate(0), os.RemoveAll(part+".json"))
		}
		if wrong && t.resumed && round == 0 {
			continue
		}
		return got, err
	}
}

// transfer is one content on its way.
type transfer struct {
	d       Downloader
	want    demand
	f       *os.File
	part    string
	sums    *sums
	known   validator
	resumed bool // some bytes are from an earlier answer
	total   int64
}

func (t *transfer) run(ctx context.Context) (fetched, error) {
	t.sums = newSums(t.want)
	if t.known = loadValidator(t.part); t.known.URL != t.want.url {
		t.known = validator{}
		if err := t.f.Truncate(0); err != nil {
			return fetched{}, err
		}
	}
	if _, err := t.f.Seek(0, io.SeekStart); err != nil {
		return fetched{}, err
	}
	if _, err := copyContext(ctx, t.sums, t.f, nil); err != nil {
		return fetched{}, err
	}
	t.total = t.known.Total
	t.resumed = t.sums.n > 0
	err := t.d.again(ctx, func() (bool, error) {
		before := t.sums.n
		err := t.attempt(ctx)
		return t.sums.n > before, err
	})
	if err != nil {
		return fetched{}, err
	}
	return t.finish()
}

// attempt asks for the rest, or for all of it.
func (t *transfer) attempt(ctx context.Context) error {
	if t.total > 0 && t.sums.n == t.total {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stall := time.AfterFunc(t.d.Stall, cancel)
	defer stall.Stop()
	header := http.Header{}
	if t.sums.n > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", t.sums.n))
		if c := t.known.condition(); c != "" {
			header.Set("If-Range", c)
		}
	}
	resp, err := t.d.get(ctx, t.want.url, header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := t.accept(resp); err != nil {
		return err
	}
	report := func(n int64) {
		stall.Reset(t.d.Stall)
		if t.want.progress != nil {
			t.want.progress(n, max(t.total, n))
		}
	}
	room := int64(maxBlob) - t.sums.n
	n, err := copyContext(ctx, io.MultiWriter(t.f, t.sums), io.LimitReader(resp.Body, room+1), func(int64) { report(t.sums.n) })
	switch {
	case err != nil:
		return err
	case n > room:
		return fmt.Errorf("%s: %w (%d bytes)", t.want.url, errTooLarge, int64(maxBlob))
	case t.total > 0 && t.sums.n != t.total:
		return fmt.Errorf("%s ended after %d of %d bytes", t.want.url, t.sums.n, t.total)
	}
	return nil
}

// accept judges the head of an answer and makes the file ready for its body.
func (t *transfer) accept(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusPartialContent:
		first, total, ok := contentRange(resp.Header.Get("Content-Range"))
		if ok && first == t.sums.n && (t.total == 0 || total == 0 || total == t.total) {
			t.resumed = true
			t.total = max(t.total, total)
			return nil
		}
		// An answer to another question: ask for everything.
		return errors.Join(t.restart(), fmt.Errorf("%s answered with range %.80q, asked for %d", t.want.url, resp.Header.Get("Content-Range"), t.sums.n))
	case http.StatusRequestedRangeNotSatisfiable:
		return errors.Join(t.restart(), fmt.Errorf("%s has another length than before", t.want.url))
	case http.StatusOK:
		if t.sums.n > 0 {
			if err := t.restart(); err != nil {
				return err
			}
		}
		t.total = max(resp.ContentLength, 0)
		t.known = validatorOf(t.want.url, resp.Header, t.total)
		return t.known.keep(t.part)
	}
	return &httpError{t.d.Mirrors.rewrite(t.want.url), resp.StatusCode}
}

func (t *transfer) restart() error {
	t.sums.abort()
	t.sums, t.known, t.total, t.resumed = newSums(t.want), validator{}, 0, false
	_, err := t.f.Seek(0, io.SeekStart)
	return errors.Join(err, t.f.Truncate(0))
}

// finish compares what arrived with what was promised.
func (t *transfer) finish() (fetched, error) {
	if t.sums.n == 0 {
		return fetched{}, fmt.Errorf("%s is empty", t.want.url)
	}
	got := fetched{sha256: hex.EncodeToString(t.sums.short.Sum(nil)), bytes: t.sums.n}
	corrupt := func(want, have string) error {
		return &CorruptError{Path: t.want.url, Want: want, Got: have, Size: t.sums.n}
	}
	if t.want.sha256 != "" && t.want.sha256 != got.sha256 {
		return fetched{}, corrupt(t.want.sha256, got.sha256)
	}
	if t.sums.long != nil {
		if long := hex.EncodeToString(t.sums.long.Sum(nil)); t.want.sha512 != long {
			return fetched{}, corrupt(t.want.sha512, long)
		}
	}
	if s := t.sums.sig; s != nil {
		t.sums.sig = nil
		by, err := s.close()
		if err != nil {
			return fetched{}, err
		}
		got.signer = by
	}
	return got, t.f.Sync()
}

// contentRange reads "bytes FIRST-LAST/TOTAL" (RFC 9110, 14.4); an unknown total
// is 0.
func contentRange(s string) (first, total int64, ok bool) {
	var last int64
	if n, err := fmt.Sscanf(s, "bytes %d-%d/%d", &first, &last, &total); err != nil || n != 3 {
		total = 0
		if n, err := fmt.Sscanf(s, "bytes %d-%d/", &first, &last); err != nil || n != 2 {
			return 0, 0, false
		}
	}
	return first, total, first >= 0 && last >= first && (total == 0 || last == total-1)
}
