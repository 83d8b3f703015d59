package redfish

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
)

const gzipMark = "-gzip" // what web servers put behind the ETag of an answer they packed

// encode makes the bytes of an answer, with what this BMC does to them.
func (b *BMC) encode(h http.Header, status int, text []byte) []byte {
	etag, _, _ := strings.Cut(strings.TrimPrefix(h.Get("ETag"), `"`), `"`)
	if status >= 400 && b.is(PlainErrors) {
		h.Set("Content-Type", "text/plain")
		text = []byte("The request could not be done.")
	}
	if r := b.cfg.Personality.Registry; r != "" {
		text = bytes.ReplaceAll(text, []byte(registry), []byte(r))
	}
	if etag != "" && b.is(BrokenETagQuotes) {
		text = bytes.ReplaceAll(text, []byte(`"\"`+etag+`\""`), []byte(`""`+etag+`""`))
	}
	if b.is(EscapedSlashes) {
		text = bytes.ReplaceAll(text, []byte("/"), []byte(`\/`))
	}
	if b.is(ByteOrderMark) {
		text = append([]byte("\xef\xbb\xbf"), text...)
	}
	if b.is(GzipUnasked) {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, _ = z.Write(text) // into memory
		_ = z.Close()
		text = packed.Bytes()
		h.Set("Content-Encoding", "gzip")
		if etag != "" {
			h.Set("ETag", `"`+etag+gzipMark+`"`)
		}
	}
	return text
}

// shownETag is the version as this BMC writes it.
func (b *BMC) shownETag(tag string) string {
	if b.is(ETagWeak) {
		return "W/" + tag
	}
	return tag
}

// isMatch judges If-Match as this BMC does.
func (b *BMC) isMatch(headers []string, tag string) bool {
	switch {
	case b.is(ETagRefused):
		return false
	case b.is(ETagUnquoted):
		tag = strings.Trim(tag, `"`)
	}
	return matches(headers, tag)
}

// oddError gives the forms of error bodies that clients meet.
func (b *BMC) oddError(body object) object {
	e, isError := body["error"].(object)
	if !isError || !b.is(MessageWithoutList) {
		return body
	}
	if list, isList := e["@Message.ExtendedInfo"].([]object); isList && len(list) > 0 {
		e["@Message.ExtendedInfo"] = list[0]
	}
	return body
}

// writeFault sends the made-up answer of an Answer fault.
func (b *BMC) writeFault(w http.ResponseWriter, r *http.Request, f Fault) {
	p := &problem{status: f.Status, id: "GeneralError", retryAfter: f.RetryAfter, text: "A general error has occurred.", remedy: "None."}
	a := fail(p)
	if f.Body == "" {
		b.write(w, r, a)
		return
	}
	for k, v := range a.header {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(f.Status)
	_, _ = io.WriteString(w, f.Body)
}
