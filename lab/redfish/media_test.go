package redfish

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metalrise.dev/lab/machine"
)

// image is what the test servers serve.
var image = bytes.Repeat([]byte("not quite an iso "), 9999)

// imageServer serves the image over TLS and misbehaves below other paths.
func imageServer(t *testing.T) *httptest.Server {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok.iso":
			_, _ = w.Write(image)
		case "/secret.iso":
			if u, p, _ := r.BasicAuth(); u != "u" || p != "p" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			_, _ = w.Write(image)
		case "/short.iso":
			w.Header().Set("Content-Length", fmt.Sprint(len(image)+1))
			_, _ = w.Write(image)
		case "/large.iso":
			w.Header().Set("Content-Length", fmt.Sprint(10<<20))
		case "/endless.iso":
			for range 100 {
				_, _ = w.Write(image)
			}
		case "/empty.iso":
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	s.Config.ErrorLog = nil
	return s
}

func downloadRig(t *testing.T, dir string) *rig {
	return newRig(t, func(c *Config) {
		c.Media, c.Dir = Download, dir
		c.Limits.MediaBytes = 2 << 20
	})
}

const (
	insertURL = slotPath + "/Actions/VirtualMedia.InsertMedia"
	ejectURL  = slotPath + "/Actions/VirtualMedia.EjectMedia"
)

func images(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, mediaPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestInsertDownloadsAndEjectRemoves(t *testing.T) {
	s, dir := imageServer(t), t.TempDir()
	r := downloadRig(t, dir)
	r.insertISO(s.URL + "/ok.iso")
	files := images(t, dir)
	if len(files) != 1 {
		t.Fatalf("files %v", files)
	}
	if got, err := os.ReadFile(files[0]); err != nil || !bytes.Equal(got, image) {
		t.Errorf("the file differs from what was served (%v)", err)
	}
	for _, at := range []string{slotPath, system + "/VirtualMedia/CD1"} {
		a := r.want(200, "GET", at, nil)
		if a.path("Inserted") != true || a.path("Image") != s.URL+"/ok.iso" || a.path("ImageName") != "ok.iso" || a.path("ConnectedVia") != "URI" {
			t.Errorf("%s: %s", at, a.raw)
		}
	}
	if a := r.want(409, "POST", insertURL, object{"Image": s.URL + "/ok.iso"}); a.id() != "ResourceInUse" {
		t.Errorf("second insert: %s", a.id())
	}
	r.override(Once, TargetCd)
	opened := make(chan *os.File, 1)
	r.board.steps = []step{{runs: true, do: func(from machine.BootSource) {
		f, err := os.Open(from.ISO)
		if err != nil {
			t.Error(err)
		}
		opened <- f
	}}}
	r.reset(ResetOn)
	f := <-opened
	defer f.Close()
	r.want(204, "POST", ejectURL, object{})
	if left := images(t, dir); len(left) != 0 {
		t.Errorf("after eject there is %v", left)
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, image) {
		t.Errorf("the running machine lost its medium (%v, %d bytes)", err, len(got))
	}
	r.want(204, "POST", ejectURL, nil) // nothing in it: nothing to do
	if a := r.want(200, "GET", slotPath, nil); a.path("Inserted") != false || a.path("Image") != nil {
		t.Errorf("after eject: %s", a.raw)
	}
}

func TestInsertThatCannotBeDone(t *testing.T) {
	s, dir := imageServer(t), t.TempDir()
	r := downloadRig(t, dir)
	for _, c := range []struct {
		body object
		id   string
		text string
	}{
		{object{"Image": s.URL + "/gone.iso"}, "ResourceMissingAtURI", "404"},
		{object{"Image": s.URL + "/secret.iso"}, "AccessDenied", "401"},
		{object{"Image": s.URL + "/short.iso"}, "GeneralError", "unexpected EOF"},
		{object{"Image": s.URL + "/large.iso"}, "ResourceAtUriInUnknownFormat", "10485760"},
		{object{"Image": s.URL + "/endless.iso"}, "GeneralError", "larger than"},
		{object{"Image": s.URL + "/empty.iso"}, "GeneralError", "empty"},
		{object{"Image": "https://127.0.0.1:1/x.iso"}, "CouldNotEstablishConnection", "refused"},
		{object{}, "ActionParameterMissing", ""},
		{object{"Image": 5}, "ActionParameterValueTypeError", ""},
		{object{"Image": "nfs://host/x.iso"}, "ActionParameterValueFormatError", "http"},
		{object{"Image": "x.iso"}, "ActionParameterValueFormatError", ""},
		{object{"Image": "https://u:sesame@host/x.iso"}, "ActionParameterValueFormatError", ""},
		{object{"Image": s.URL + "/ok.iso", "TransferProtocolType": "NFS"}, "ActionParameterValueNotInList", ""},
		{object{"Image": s.URL + "/ok.iso", "TransferMethod": "Pigeon"}, "ActionParameterValueNotInList", ""},
		{object{"Image": s.URL + "/ok.iso", "WriteProtected": false}, "ActionParameterValueNotInList", ""},
		{object{"Image": s.URL + "/ok.iso", "Eject": true}, "ActionParameterUnknown", ""},
	} {
		a := r.want(400, "POST", insertURL, c.body)
		if a.id() != c.id || !strings.Contains(a.raw, c.text) {
			t.Errorf("%v: %s %s", c.body, a.id(), a.raw)
		}
		if strings.Contains(a.raw, "sesame") {
			t.Errorf("the answer repeats a password: %s", a.raw)
		}
		if left := images(t, dir); len(left) > 0 || r.bmc.Status().Media != nil {
			t.Fatalf("%v left %v, %v", c.body, left, r.bmc.Status().Media)
		}
	}
	r.want(204, "POST", insertURL, object{"Image": s.URL + "/secret.iso", "UserName": "u", "Password": "p",
		"TransferProtocolType": "HTTPS", "TransferMethod": "Stream", "Inserted": true, "WriteProtected": true})
	if a := r.want(200, "GET", slotPath, nil); a.path("Password") != nil || a.path("UserName") != nil {
		t.Errorf("the slot shows the login: %s", a.raw)
	}
	r.want(404, "POST", strings.Replace(insertURL, "CD1", "USB1", 1), object{"Image": s.URL + "/ok.iso"})
}

func TestVerifyCertificate(t *testing.T) {
	s := imageServer(t)
	r := downloadRig(t, t.TempDir())
	r.want(200, "PATCH", slotPath, object{"VerifyCertificate": true})
	a := r.want(400, "POST", insertURL, object{"Image": s.URL + "/ok.iso"})
	if !strings.Contains(a.raw, "certificate") {
		t.Errorf("answer %s", a.raw)
	}
	r.want(200, "PATCH", slotPath, object{"VerifyCertificate": false})
	r.insertISO(s.URL + "/ok.iso")
	r.want(400, "PATCH", slotPath, object{"Image": "x"})
	r.want(400, "PATCH", slotPath, object{"VerifyCertificate": "yes"})
}

func TestMediaOutliveTheLabPowerDoesNot(t *testing.T) {
	s, dir := imageServer(t), t.TempDir()
	start := func() *BMC {
		b, err := Start(t.Context(), Config{Listen: "127.0.0.1:0", Username: testUser, Password: testPass, Spec: testSpec(), Hardware: &board{}, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := start()
	r := &rig{t: t, bmc: b}
	r.insertISO(s.URL + "/ok.iso")
	r.override(Continuous, TargetCd)
	r.reset(ResetOn)
	until(t, "power on", func() bool { return b.Status().Power == PowerOn })
	pin := b.Fingerprint()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(dir, mediaPrefix+"123.part")
	if err := os.WriteFile(stray, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}

	b = start()
	st := b.Status()
	if st.Power != PowerOff || !st.WishedOn || st.Override != "Continuous Cd" || len(st.Media) != 1 || st.Media[0].URL != s.URL+"/ok.iso" {
		t.Errorf("after the restart: %+v", st)
	}
	if b.Fingerprint() != pin {
		t.Error("the certificate changed")
	}
	if _, err := os.Stat(stray); err == nil {
		t.Error("a broken download is still there")
	}
	if err := os.Truncate(st.Media[0].File, 5); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = start()
	if got := b.Status().Media; got != nil {
		t.Errorf("an image of another size is still inserted: %v", got)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(`{"version":9}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), b.cfg); err == nil || !strings.Contains(err.Error(), "version 9") {
		t.Errorf("state of another version: %v", err)
	}
}

func TestInsertAsATask(t *testing.T) {
	s, dir := imageServer(t), t.TempDir()
	r := newRig(t, func(c *Config) {
		c.Media, c.Dir = Download, dir
		c.Personality = Standard()
		c.Personality.Insert = InsertTask
	})
	insert := func(url string) (monitor, task string) {
		a := r.want(202, "POST", insertURL, object{"Image": url})
		task, _ = a.path("@odata.id").(string)
		return a.header.Get("Location"), task
	}
	monitor, task := insert(s.URL + "/gone.iso")
	until(t, "end of the task", func() bool { return r.ask("GET", monitor, nil).status != 202 })
	if a := r.want(400, "GET", monitor, nil); a.id() != "ResourceMissingAtURI" {
		t.Errorf("monitor: %s", a.raw)
	}
	if a := r.want(200, "GET", task, nil); a.path("TaskState") != "Exception" {
		t.Errorf("task: %s", a.raw)
	}
	monitor, task = insert(s.URL + "/ok.iso")
	until(t, "end of the task", func() bool { return r.ask("GET", monitor, nil).status == 204 })
	if a := r.want(200, "GET", task, nil); a.path("TaskState") != "Completed" || r.bmc.Status().Media == nil {
		t.Errorf("task: %s", a.raw)
	}
}
