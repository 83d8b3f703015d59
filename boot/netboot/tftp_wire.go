package netboot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
)

// Operations of RFC 1350 section 5 and RFC 2347.
const (
	opRead  = 1
	opWrite = 2
	opData  = 3
	opAck   = 4
	opError = 5
	opOAck  = 6
)

// tftpCode is an error code of RFC 1350 section 5 and RFC 2347.
type tftpCode uint16

const (
	tftpUndefined tftpCode = 0
	tftpNotFound  tftpCode = 1
	tftpDenied    tftpCode = 2
	tftpIllegal   tftpCode = 4
	tftpOptions   tftpCode = 8
)

const (
	// maxRequest is RFC 2347's bound of a request.
	maxRequest = 512
	maxName    = 128
	maxOptions = 16

	blockDefault = 512
	blockMin     = 8     // RFC 2348
	blockMax     = 65464 // RFC 2348
)

// tftpRequest is a read request as it was sent.
type tftpRequest struct {
	name string
	// options that were asked for; 0 when not.
	block   int // bytes, RFC 2348
	window  int // blocks, RFC 7440
	timeout int // seconds, RFC 2349
	size    bool
}

// refusal is an error that the peer is told.
type refusal struct {
	code tftpCode
	text string
}

func (r *refusal) Error() string { return r.text }

// errIgnore marks packets that are not answered at all.
var errIgnore = errors.New("not a request")

// parseRequest reads a request. An option that makes no sense is left out of the
// acknowledgement, as RFC 2347 wants it, not refused.
func parseRequest(b []byte) (tftpRequest, error) {
	if len(b) < 4 || len(b) > maxRequest {
		return tftpRequest{}, errIgnore
	}
	switch binary.BigEndian.Uint16(b) {
	case opRead:
	case opWrite:
		return tftpRequest{}, &refusal{tftpDenied, "nothing can be written here"}
	default:
		return tftpRequest{}, errIgnore // also errors: never answer an error with one
	}
	if b[len(b)-1] != 0 {
		return tftpRequest{}, &refusal{tftpIllegal, "request does not end"}
	}
	fields := bytes.Split(b[2:len(b)-1], []byte{0})
	if len(fields) < 2 || len(fields) > 2+2*maxOptions {
		return tftpRequest{}, &refusal{tftpIllegal, "request has no mode, or too many options"}
	}
	r := tftpRequest{name: strings.TrimPrefix(string(fields[0]), "/")}
	if !fileName(r.name) {
		return tftpRequest{}, &refusal{tftpNotFound, "no such file"}
	}
	if !strings.EqualFold(string(fields[1]), "octet") {
		return tftpRequest{}, &refusal{tftpIllegal, "only mode octet is served"}
	}
	for i := 2; i+1 < len(fields); i += 2 {
		r.option(strings.ToLower(string(fields[i])), string(fields[i+1]))
	}
	return r, nil
}

func (r *tftpRequest) option(name, value string) {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return
	}
	v := int(n)
	switch name {
	case "blksize":
		if v >= blockMin && v <= blockMax {
			r.block = v
		}
	case "windowsize":
		if v >= 1 && v <= 65535 {
			r.window = v
		}
	case "timeout":
		if v >= 1 && v <= 255 {
			r.timeout = v
		}
	case "tsize":
		r.size = v == 0
	}
}

// fileName is the form of names: letters, digits, "_", "-" and ".", not first a
// dot. Names are looked up in a table, never opened; the form keeps what is
// logged readable.
func fileName(s string) bool {
	if s == "" || len(s) > maxName || s[0] == '.' {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !wordRune(r) && r != '.' })
}

func tftpError(e *refusal) []byte {
	b := binary.BigEndian.AppendUint16(nil, opError)
	b = binary.BigEndian.AppendUint16(b, uint16(e.code))
	return append(append(b, e.text...), 0)
}

// terms are what a transfer runs by.
type terms struct {
	block, window int
	timeout       int    // seconds as agreed; 0: ours
	oack          []byte // the acknowledgement of options, or nil when none was agreed
}

// agree settles the options. limit is the largest block that the link carries in
// one piece, since boot ROMs do not put fragments together.
func (r tftpRequest) agree(size int64, limit int) terms {
	t := terms{block: blockDefault, window: 1}
	var o []byte
	add := func(name string, v int64) {
		o = append(append(o, name...), 0)
		o = append(strconv.AppendInt(o, v, 10), 0)
	}
	if r.block > 0 {
		t.block = min(r.block, max(limit, blockDefault))
		add("blksize", int64(t.block))
	}
	if r.timeout > 0 {
		t.timeout = r.timeout
		add("timeout", int64(t.timeout))
	}
	if r.size {
		add("tsize", size)
	}
	if r.window > 0 {
		t.window = min(r.window, maxWindow, max(1, maxWindowBytes/t.block))
		add("windowsize", int64(t.window))
	}
	if o != nil {
		t.oack = append([]byte{0, opOAck}, o...)
	}
	return t
}
