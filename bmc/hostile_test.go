package bmc

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metalrise.dev/fleet"
)

// hostile serves the fake, with one path answered by the test.
func hostile(t *testing.T, path string, answer func(w http.ResponseWriter, r *http.Request)) (*fakeBMC, *Session) {
	t.Helper()
	f := newFake()
	f.hook = func(w http.ResponseWriter, r *http.Request, _ object) bool {
		if strings.TrimSuffix(r.URL.Path, "/") != path {
			return false
		}
		answer(w, r)
		return true
	}
	l := serve(t, f)
	l.Options.RequestTimeout = 20 * time.Second
	return f, dial(t, l)
}

// peak runs fn and gives how much the heap grew above what it was, at most, as
// seen every few milliseconds.
func peak(fn func()) uint64 {
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var most atomic.Uint64
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause(ctx, 5*time.Millisecond) == nil {
			runtime.ReadMemStats(&now)
			if now.HeapAlloc > most.Load() {
				most.Store(now.HeapAlloc)
			}
		}
	}()
	fn()
	cancel()
	<-done
	return most.Load() - min(most.Load(), before.HeapAlloc)
}

// One resource that is a weapon costs that resource: the rest is read, what
// happened is told, and memory stays in bounds.
func TestHostileResources(t *testing.T) {
	const storage = sysPath + "/Storage"
	text := func(s string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) }
	}
	endless := func(w http.ResponseWriter, _ *http.Request) {
		block := []byte(strings.Repeat(" ", 1<<16))
		for {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	million := func(w http.ResponseWriter, _ *http.Request) {
		var b strings.Builder
		b.WriteString(`{"Members":[`)
		for i := range 200_000 {
			fmt.Fprintf(&b, `{"@odata.id":"/redfish/v1/x/%d"},`, i)
		}
		_, _ = w.Write([]byte(b.String() + `{}]}`))
	}
	for name, c := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		told   string
	}{
		"endless body":     {endless, "larger than"},
		"deep nesting":     {text(strings.Repeat("[", 1<<20)), "nested deeper"},
		"deep objects":     {text(`{"Members":` + strings.Repeat(`{"a":`, 1<<18)), "nested deeper"},
		"too many members": {million, "members"},
		"huge string":      {text(`{"Members":[{"@odata.id":"/` + strings.Repeat("a", 4<<20) + `"}]}`), "link of"},
		"other host":       {text(`{"Members":[{"@odata.id":"https://evil.example/redfish/v1/x"}]}`), "leaves the BMC"},
		"network path":     {text(`{"Members":[{"@odata.id":"//evil.example/x"}]}`), "leaves the BMC"},
		"no object":        {text(`[1,2,3]`), "want a JSON object"},
		"two objects":      {text(`{"Members":1}{"Members":[]}`), "want a list"},
		"cut short":        {text(`{"Members":[`), "not a JSON object"},
		"invalid UTF-8":    {text("{\"Members\":[{\"@odata.id\":\"/\xff\xfe\"}]}"), ""},
		"duplicate keys":   {text(`{"Members":"x","Members":"y"}`), "want a list"},
		"html":             {text("<html><body>login</body></html>"), "not a JSON object"},
		"redirect away": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/", http.StatusFound)
		}, "not followed"},
		"redirect for ever": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"/", http.StatusTemporaryRedirect)
		}, "redirects more than"},
	} {
		t.Run(name, func(t *testing.T) {
			f, s := hostile(t, storage, c.answer)
			f.with(func() { f.resources[sysPath]["Storage"] = ref(storage) })
			var facts fleet.Facts
			var err error
			grown := peak(func() { facts, err = s.Inspect(t.Context(), sysPath) })
			noError(t, err)
			if facts.Identity.Serial != "SN1" || facts.BMCFirmware.Or("") != "1" {
				t.Errorf("the rest was lost: %+v", facts)
			}
			said := ""
			for _, p := range facts.Problems {
				said += p.Path + ": " + p.Text + "\n"
				if len(p.Text)+len(p.Path) > 4096 {
					t.Errorf("a problem of %d bytes", len(p.Text)+len(p.Path))
				}
			}
			if !strings.Contains(said, c.told) || len(facts.Problems) > maxProblems {
				t.Errorf("%d problems, none says %q: %.2000s", len(facts.Problems), c.told, said)
			}
			// The largest body, its decoded form with a word for every byte or two,
			// and the server's own part, which runs in this process.
			if grown > 200<<20 {
				t.Errorf("%d MiB were in use", grown>>20)
			}
		})
	}
}

// Collections that never end, or lead in circles, are read as far as is sane.
func TestHostilePaging(t *testing.T) {
	const storage = sysPath + "/Storage"
	var asked atomic.Int64
	for name, next := range map[string]func(n int64) string{
		"itself":   func(int64) string { return storage },
		"two":      func(n int64) string { return fmt.Sprintf("%s?page=%d", storage, n%2) },
		"for ever": func(n int64) string { return fmt.Sprintf("%s?page=%d", storage, n) },
	} {
		asked.Store(0)
		f, s := hostile(t, storage, func(w http.ResponseWriter, _ *http.Request) {
			n := asked.Add(1)
			fmt.Fprintf(w, `{"Members":[{"@odata.id":"%s/%d"}],"Members@odata.nextLink":"%s"}`, storage, n, next(n))
		})
		f.with(func() { f.resources[sysPath]["Storage"] = ref(storage) })
		facts, err := s.Inspect(t.Context(), sysPath)
		noError(t, err)
		if asked.Load() > maxPages+5 {
			t.Errorf("%s: %d pages were read", name, asked.Load())
		}
		said := fmt.Sprint(facts.Problems)
		if !strings.Contains(said, "does not end") {
			t.Errorf("%s: %s", name, said)
		}
	}
}

// A tree in which everything links to everything ends, too.
func TestHostileCircles(t *testing.T) {
	var asked atomic.Int64
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		if r.Method == http.MethodPost {
			w.Header().Set("X-Auth-Token", "t")
			w.Header().Set("Location", "/redfish/v1/SessionService/Sessions/1")
			w.WriteHeader(http.StatusCreated)
			return
		}
		var all []string
		for i := range 40 {
			all = append(all, fmt.Sprintf(`{"@odata.id":"/redfish/v1/c/%d/%d"}`, n%50, i))
		}
		list := strings.Join(all, ",")
		fmt.Fprintf(w, `{"@odata.id":%q,"Id":"1","SerialNumber":"SN1","Members":[%s],"Drives":[%s],"Links":{"Chassis":[%s],"ManagedBy":[%s],"Volumes":[%s]},`+
			`"Systems":{"@odata.id":"/redfish/v1/c/s"},"Storage":{"@odata.id":"/redfish/v1/c/a"},"EthernetInterfaces":{"@odata.id":"/redfish/v1/c/b"},`+
			`"NetworkInterfaces":{"@odata.id":"/redfish/v1/c/n"},"NetworkAdapters":{"@odata.id":"/redfish/v1/c/d"},"Ports":{"@odata.id":"/redfish/v1/c/e"},`+
			`"NetworkDeviceFunctions":{"@odata.id":"/redfish/v1/c/f"},"Volumes":{"@odata.id":"/redfish/v1/c/g"},"VirtualMedia":{"@odata.id":"/redfish/v1/c/h"},`+
			`"Memory":{"@odata.id":"/redfish/v1/c/i"},"Processors":{"@odata.id":"/redfish/v1/c/j"},"Actions":{"#ComputerSystem.Reset":{"target":"/x"}},`+
			`"SessionService":{"@odata.id":"/redfish/v1/c/k"},"RedfishVersion":"1.6.0"}`, r.URL.Path, list, list, list, list, list)
	})
	s := dial(t, serve(t, h))
	_, err := s.Inspect(t.Context(), "/redfish/v1/Systems/1")
	noError(t, err)
	if asked.Load() > maxWork+1000 {
		t.Errorf("%d requests", asked.Load())
	}
}

// What was learnt at the BMC goes to the BMC only: neither token nor password
// follows a redirect or a link to another host.
func TestCredentialsStayWithTheBMC(t *testing.T) {
	var met atomic.Int64
	thief := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { met.Add(1) }))
	defer thief.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		_, s := hostile(t, sysPath, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief.URL+"/redfish/v1", status) })
		if _, err := s.Inspect(t.Context(), sysPath); err == nil {
			t.Errorf("%d was followed", status)
		}
	}
	if met.Load() > 0 {
		t.Errorf("the other host was asked %d times", met.Load())
	}
}
