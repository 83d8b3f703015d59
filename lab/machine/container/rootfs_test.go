package container

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"metalrise.dev/lab/machine"
)

// TestFetchRoot: only the root file system that the medium's own initramfs names
// is taken, and only where the medium brings a network to fetch it by.
func TestFetchRoot(t *testing.T) {
	const root = "a root file system"
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, root) }))
	defer srv.Close()
	keyfiles := map[string][]byte{"port.nmconnection": []byte("[ipv4]\nmethod=manual\naddress1=192.0.2.9/24\n")}
	sum := func(s string) string { return fmt.Sprintf("%x\n", sha256.Sum256([]byte(s))) }
	for name, c := range map[string]struct {
		args     []string
		digest   string // "" for none
		keyfiles map[string][]byte
		why      string // "" for success
	}{
		"its own":       {[]string{"a", rootfsArg + srv.URL + "/rootfs.img"}, sum(root), keyfiles, ""},
		"none is named": {[]string{"a"}, "", nil, ""},
		"another":       {[]string{rootfsArg + srv.URL}, sum("another"), keyfiles, "its initramfs wants"},
		"no digest":     {[]string{rootfsArg + srv.URL}, "", keyfiles, "does not say which root file system"},
		"nonsense":      {[]string{rootfsArg + srv.URL}, "abc\n", keyfiles, "is none"},
		"no network":    {[]string{rootfsArg + srv.URL}, sum(root), map[string][]byte{"x": []byte("[ipv4]\nmethod=disabled\n")}, "no keyfile gives its initramfs an address"},
		"no address":    {[]string{rootfsArg + "::"}, sum(root), keyfiles, "its root file system"},
	} {
		t.Run(name, func(t *testing.T) {
			initrd := bytes.Repeat([]byte{7}, 5000)
			if c.digest != "" {
				initrd = append(initrd, archive(t, map[string]string{digestName: c.digest})...)
			}
			f, err := os.Open(mediaISO(t, map[string]string{"images/pxeboot/initrd.img": string(initrd)}))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			img, err := openISO(f)
			if err != nil {
				t.Fatal(err)
			}
			r := &run{m: &Machine{spec: machine.Spec{Dir: t.TempDir()}}, out: &lineOut{w: io.Discard}}
			path, err := r.fetchRoot(t.Context(), img, c.args, embedded{Keyfiles: c.keyfiles})
			if c.why != "" {
				if err == nil || !strings.Contains(err.Error(), c.why) {
					t.Errorf("%v, want %q", err, c.why)
				}
				return
			}
			if err != nil || (path != "") != (len(c.args) > 1) {
				t.Fatalf("%q, %v", path, err)
			}
			if b, err := os.ReadFile(path); path != "" && (err != nil || string(b) != root) {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}
