package main

import (
	"bytes"
	"testing"
)

func TestPlainText(t *testing.T) {
	for in, want := range map[string]string{
		"serial 大阪 é\t1\n":                  "serial 大阪 é\t1\n",
		"\x1b[2Jcleared":                    "cleared",
		"\x1b]0;title\x07text":              "text",
		"\x1b]52;c;hidden for ever\nnext\n": "\nnext\n",
		"c1 \u009b31mred":                   "c1 31mred",
		"a\x00\x08b":                        "ab",
	} {
		var out bytes.Buffer
		if n, err := (&plainText{w: &out}).Write([]byte(in)); err != nil || n != len(in) || out.String() != want {
			t.Errorf("%q became %q (%d, %v), want %q", in, out.String(), n, err, want)
		}
	}
}
