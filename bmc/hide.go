package bmc

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"

	"metalrise.dev/fleet"
)

// veil holds the texts of one session that no error may show: its password, and
// the addresses of media, which are keys to what they name. BMCs repeat both in
// their messages.
type veil struct {
	mu    sync.Mutex
	texts []string // longest first is not needed: each is replaced wherever it stands
}

// mediaKey is the part of our own media paths that is a key, wherever it comes
// from: a drive may still show the medium of an earlier run.
var mediaKey = regexp.MustCompile(`/m/[0-9A-Za-z_-]{16,}`)

const (
	mask        = "***"
	leastSecret = 4 // shorter ones would blot out ordinary words
)

func (h *veil) add(s string) {
	if len(s) < leastSecret {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.texts {
		if t == s {
			return
		}
	}
	h.texts = append(h.texts, s)
}

// learn remembers the addresses in the body of a request: of media, of images
// to boot from. Their path is hidden too, which is what BMCs repeat most.
func (h *veil) learn(body any) {
	switch v := body.(type) {
	case map[string]any:
		for _, inner := range v {
			h.learn(inner)
		}
	case []any:
		for _, inner := range v {
			h.learn(inner)
		}
	case string:
		u, err := url.Parse(v)
		if err != nil || u.Host == "" || u.Path == "" {
			return
		}
		if len(u.EscapedPath()) >= 16 {
			h.add(u.EscapedPath())
			h.add(u.Path)
		}
		if u.RawQuery != "" {
			h.add(u.RawQuery)
		}
	}
}

// in takes the hidden texts out of s.
func (h *veil) in(s string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.texts {
		s = strings.ReplaceAll(s, t, mask)
	}
	return mediaKey.ReplaceAllString(s, "/m/"+mask)
}

// messages reads a BMC's error answer without what is hidden.
func (h *veil) messages(body []byte) []message {
	list := readMessages(body)
	for i := range list {
		list[i].text, list[i].id = h.in(list[i].text), h.in(list[i].id)
		for k := range list[i].args {
			list[i].args[k] = h.in(list[i].args[k])
		}
	}
	return list
}

// errors gives err without what is hidden, in every part of its chain; the
// journal keeps each of them. Codes, kinds and the ends of contexts stay.
func (h *veil) errors(err error) error {
	if err == nil || h.in(err.Error()) == err.Error() {
		return err
	}
	if f, ok := err.(*fleet.Fault); ok {
		return &fleet.Fault{Code: f.Code, Kind: f.Kind, Text: h.in(f.Text), Err: h.errors(f.Err)}
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range many.Unwrap() {
			out = append(out, h.errors(e))
		}
		return errors.Join(out...)
	}
	below := errors.Unwrap(err)
	if below == nil {
		return errors.New(h.in(err.Error()))
	}
	text, ok := strings.CutSuffix(err.Error(), below.Error())
	if !ok {
		return fmt.Errorf("%s%w", h.in(err.Error())+": ", h.errors(below))
	}
	return fmt.Errorf("%s%w", h.in(text), h.errors(below))
}
