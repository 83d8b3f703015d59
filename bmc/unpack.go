package bmc

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
)

// unpacked reads a body, unpacking it where the BMC packed it though it was
// asked not to. The caller bounds what it reads, which is the unpacked size.
type unpacked struct {
	res  *http.Response
	from io.Reader
}

func (u *unpacked) Read(p []byte) (int, error) {
	if u.from == nil {
		u.from = u.res.Body
		if strings.EqualFold(u.res.Header.Get("Content-Encoding"), "gzip") {
			z, err := gzip.NewReader(u.res.Body)
			if err != nil {
				return 0, err
			}
			u.from = z
		}
	}
	return u.from.Read(p)
}
