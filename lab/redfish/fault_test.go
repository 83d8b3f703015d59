package redfish

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func (r *rig) fault(line string) {
	r.t.Helper()
	f, err := ParseFault(line)
	if err == nil {
		err = r.bmc.SetFault(f)
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestEveryFaultInTheListCanBeWritten(t *testing.T) {
	for _, h := range FaultKinds() {
		f, err := ParseFault(h.Usage + " nth=2 times=3 for=4s")
		if err != nil {
			t.Errorf("%s: %v", h.Kind, err)
			continue
		}
		again, err := ParseFault(f.String())
		if err != nil || again != f || f.Kind != h.Kind || f.Nth != 2 || f.Times != 3 || f.For != 4*time.Second || h.Text == "" {
			t.Errorf("%s: %+v reads back as %+v (%v)", h.Usage, f, again, err)
		}
	}
	quoted, err := ParseFault(`answer status=500 body="{\"a\": \"b c\\\\d\"}"`)
	if err != nil || quoted.Body != `{"a": "b c\\d"}` {
		t.Errorf("quoted body %q, %v", quoted.Body, err)
	}
	if again, err := ParseFault(quoted.String()); err != nil || again != quoted {
		t.Errorf("%q reads back as %+v, %v", quoted, again, err)
	}
}

func TestFaultsThatMakeNoSense(t *testing.T) {
	for line, want := range map[string]string{
		"": "empty", "explode": "unknown", "slow": "delay", "slow delay=soon": "delay=soon", "answer": "status=0",
		"answer status=99": "status=99", "unreachable delay=3s": "does not take delay", "busy nth": "not key=value",
		"busy nth=-1": "negative", "busy colour=red": "no key", "busy nth=1 nth=2": "twice",
		"media-slow": "limit is missing", `answer status=500 body="x`: "quote", "lose-reply path=[": "path=[",
	} {
		if _, err := ParseFault(line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", line, err, want)
		}
	}
}

func TestAnswerFaultStrikesTheNthMatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.fault(`answer method=POST path=*/Actions/ComputerSystem.* status=503 retry-after=7s nth=2 times=1`)
		r.reset(ResetOn)
		synctest.Wait()
		r.want(200, "GET", system, nil)
		a := r.want(503, "POST", reset, object{"ResetType": ResetForceOff})
		if a.header.Get("Retry-After") != "7" || r.power() != PowerOn {
			t.Errorf("Retry-After %q, power %s: the request must not act", a.header.Get("Retry-After"), r.power())
		}
		r.reset(ResetForceOff)
		if r.bmc.Faults() != nil {
			t.Errorf("used up, but still there: %v", r.bmc.Faults())
		}
		r.fault(`answer method=GET path=/redfish/v1/Systems status=200 body="{\"Members\": null}"`)
		if a := r.want(200, "GET", "/redfish/v1/Systems", nil); a.raw != `{"Members": null}` {
			t.Errorf("body %q", a.raw)
		}
		r.bmc.ClearFaults()
		r.want(200, "GET", "/redfish/v1/Systems", nil)
	})
}

func TestBusySlowAndUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.fault("busy retry-after=5s for=30s")
		if a := r.want(503, "GET", system, nil); a.header.Get("Retry-After") != "5" || a.id() != "ServiceTemporarilyUnavailable" {
			t.Errorf("busy: %v %s", a.header, a.id())
		}
		time.Sleep(30 * time.Second)
		r.want(200, "GET", system, nil)
		r.fault("slow delay=20s times=1")
		before := time.Now()
		r.want(200, "GET", system, nil)
		if took := time.Since(before); took != 20*time.Second {
			t.Errorf("slow answer took %v", took)
		}
		r.fault("unreachable times=1")
		if a := r.ask("GET", "/redfish/v1/", nil); !a.lost {
			t.Errorf("unreachable, but answered %d", a.status)
		}
		r.want(200, "GET", system, nil)
	})
}

func TestReplyLostAfterActing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.fault("lose-reply method=POST path=*ComputerSystem.Reset times=1")
		if a := r.ask("POST", reset, object{"ResetType": ResetOn}); !a.lost {
			t.Errorf("answered %d", a.status)
		}
		synctest.Wait()
		if r.power() != PowerOn {
			t.Errorf("power %s, want On", r.power())
		}
	})
}

func TestPowerAndBootFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.fault("power-on-ignored times=1")
		r.fault("boot-override-ignored times=1")
		r.insertISO("http://images/a.iso")
		r.override(Once, TargetCd)
		r.reset(ResetOn)
		r.expect(time.Minute, PowerOff, "")
		r.reset(ResetOn)
		r.expect(time.Minute, PowerOn, " disk")
		r.override(Once, TargetCd)
		r.reset(ResetForceRestart)
		r.expect(time.Minute, PowerOn, " disk media")
	})
}

func TestSessionFaults(t *testing.T) {
	r := newRig(t, nil)
	open := func() answer {
		return r.raw(request("POST", pathSessions, object{"UserName": testUser, "Password": testPass}))
	}
	token := open().header.Get("X-Auth-Token")
	r.fault("session-limit limit=1")
	if a := open(); a.status != 503 {
		t.Errorf("second session: %d", a.status)
	}
	r.fault("sessions-lost")
	req := request("GET", system, nil)
	req.Header.Set("X-Auth-Token", token)
	if a := r.raw(req); a.status != 401 {
		t.Errorf("lost session: %d", a.status)
	}
	if a := open(); a.status != 201 {
		t.Errorf("new session: %d", a.status)
	}
}

func TestMediaFaults(t *testing.T) {
	s, dir := imageServer(t), t.TempDir()
	r := downloadRig(t, dir)
	r.fault("media-download-fails times=1")
	r.fault("media-corrupt times=1")
	r.fault("eject-fails times=1")
	r.want(400, "POST", insertURL, object{"Image": s.URL + "/ok.iso"})
	r.insertISO(s.URL + "/ok.iso")
	got, err := os.ReadFile(images(t, dir)[0])
	if err != nil || len(got) != len(image) || bytes.Equal(got, image) {
		t.Errorf("image of %d bytes is not corrupt (%v)", len(got), err)
	}
	r.want(500, "POST", ejectURL, object{})
	if r.bmc.Status().Media == nil {
		t.Error("eject failed, but the slot is empty")
	}
	r.want(204, "POST", ejectURL, object{})
	r.insertISO(s.URL + "/ok.iso")
	if got, err := os.ReadFile(images(t, dir)[0]); err != nil || !bytes.Equal(got, image) {
		t.Errorf("the second download is corrupt too (%v)", err)
	}
}

func TestSlowMediaArriveWhole(t *testing.T) {
	in := &throttled{bytes.NewReader(make([]byte, 25)), 100}
	buf := make([]byte, 64)
	for _, want := range []int{10, 10, 5} {
		if n, err := in.Read(buf); n != want || err != nil {
			t.Errorf("a tenth of a second gives %d bytes, %v; want %d", n, err, want)
		}
	}
	s, dir := imageServer(t), t.TempDir()
	r := downloadRig(t, dir)
	r.fault(fmt.Sprintf("media-slow limit=%d", 4*len(image)))
	r.insertISO(s.URL + "/ok.iso")
	if got, err := os.ReadFile(images(t, dir)[0]); err != nil || !bytes.Equal(got, image) {
		t.Errorf("image of %d bytes, %v", len(got), err)
	}
}

func TestUnreachableOverTheNetwork(t *testing.T) {
	b, err := Start(t.Context(), Config{Listen: "127.0.0.1:0", Username: testUser, Password: testPass, Spec: testSpec(), Hardware: &board{}, Media: Lazy})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	get := func() (int, error) {
		res, err := insecure().Get(b.URL())
		if err != nil {
			return 0, err
		}
		return res.StatusCode, res.Body.Close()
	}
	if code, err := get(); code != http.StatusOK || err != nil {
		t.Fatalf("root: %d, %v", code, err)
	}
	(&rig{t: t, bmc: b}).fault("unreachable")
	if code, err := get(); err == nil {
		t.Errorf("unreachable, but answered %d", code)
	}
	b.ClearFaults()
	if code, err := get(); code != http.StatusOK || err != nil {
		t.Errorf("again reachable: %d, %v", code, err)
	}
}

func TestConfigThatCannotWork(t *testing.T) {
	good := Config{Username: "u", Password: "p", Spec: testSpec(), Hardware: &board{}, Media: Lazy}
	for name, spoil := range map[string]func(*Config){
		"hardware":  func(c *Config) { c.Hardware = nil },
		"password":  func(c *Config) { c.Password = "" },
		"serial":    func(c *Config) { c.Spec.Serial = "" },
		"directory": func(c *Config) { c.Media = Download },
		"optical":   func(c *Config) { c.Personality = Personality{Name: "x"} },
	} {
		c := good
		spoil(&c)
		if _, err := Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, p := range Personalities() {
		if got, err := ParsePersonality(p.Name); err != nil || got.Name != p.Name {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
	if _, err := ParsePersonality("vain"); err == nil || !strings.Contains(err.Error(), "standard") {
		t.Errorf("unknown personality: %v", err)
	}
}
