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

// TestShownText: nothing that a machine says rewrites its own line.
func TestShownText(t *testing.T) {
	for in, want := range map[string]string{
		"serial 大阪 é\t1\n":            "serial 大阪 é\t1\n",
		"FAILED\rfine":                `FAILED\u000dfine`,
		"of DOS\r\n":                  "of DOS\n",
		"\x1b[2Jcleared \u009b31mred": `\u001b[2Jcleared \u009b31mred`,
		"a\x00\x08\x7fb":              `a\u0000\u0008\u007fb`,
		"user\u202ecod\u2066.exe":     `user\u202ecod\u2066.exe`,
		"not \xff UTF-8":              "not \xff UTF-8",
	} {
		var out bytes.Buffer
		p := &plainText{w: &out, visible: true}
		if n, err := p.Write([]byte(in)); err != nil || n != len(in) || out.String() != want {
			t.Errorf("%q became %q (%d, %v), want %q", in, out.String(), n, err, want)
		}
		out.Reset()
		if rewind(p); out.String() != "\r" {
			t.Errorf("our own progress: %q", out.String())
		}
	}
}
