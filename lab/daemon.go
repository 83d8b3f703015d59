package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"metalrise.dev/lab/redfish"
)

const (
	socketFile = "lab.sock"
	logFile    = "lab.log"
	maxBody    = 1 << 20
)

// Request is the body of a call about one server.
type Request struct {
	Server string `json:"server"`
	Fault  string `json:"fault,omitempty"`  // text form; "" clears
	Button Button `json:"button,omitempty"` // which way to press
}

// Button is a way to use a server's power button.
type Button string

const (
	On    Button = "on"    // press it if the server is off
	Off   Button = "off"   // hold it: power is cut
	Press Button = "press" // press it: on, or a wish to the system to shut down
)

// refusal says why a call was not done. PoweredOn is set where ErrPoweredOn is
// the reason.
type refusal struct {
	Error     string `json:"error"`
	PoweredOn bool   `json:"poweredOn,omitempty"`
}

// Serve answers on the socket in the lab's folder until ctx ends or someone asks
// for the end: HTTP with JSON for the owner of the folder only.
//
//	GET  /v1/view                             View
//	GET  /v1/console?server=NAME[&follow=1]   the console's bytes
//	POST /v1/fault                            Request
//	POST /v1/power                            Request
//	POST /v1/stop
func (l *Lab) Serve(ctx context.Context) error {
	path := filepath.Join(l.cfg.Dir, socketFile)
	// The lab holds the folder's lock: a socket that is there is a dead one's.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("lab socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("lab socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, ln.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	srv := &http.Server{Handler: l.handler(stop), ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	defer context.AfterFunc(ctx, func() {
		// The answer to a stop is on its way; followers end with ctx.
		soon, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if srv.Shutdown(soon) != nil {
			_ = srv.Close()
		}
	})()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("lab socket: %w", err)
	}
	return nil
}

func (l *Lab) handler(stop func()) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/view", func(w http.ResponseWriter, _ *http.Request) { reply(w, l.View(), nil) })
	mux.HandleFunc("GET /v1/console", l.serveConsole)
	mux.HandleFunc("POST /v1/fault", func(w http.ResponseWriter, r *http.Request) {
		l.act(w, r, func(s Server, q Request) error {
			if q.Fault == "" {
				s.BMC.ClearFaults()
				return nil
			}
			f, err := redfish.ParseFault(q.Fault)
			if err != nil {
				return err
			}
			return s.BMC.SetFault(f)
		})
	})
	mux.HandleFunc("POST /v1/power", func(w http.ResponseWriter, r *http.Request) { l.act(w, r, press) })
	mux.HandleFunc("POST /v1/swap-disk", func(w http.ResponseWriter, r *http.Request) { l.act(w, r, l.swapDisk) })
	mux.HandleFunc("POST /v1/stop", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, struct{}{}, nil)
		stop()
	})
	return mux
}

// View looks at every server.
func (l *Lab) View() View {
	v := View{Name: l.cfg.Name, Dir: l.cfg.Dir, Site: l.SitePath(), Machine: l.cfg.Machine, Network: l.cfg.Network.String(), Bridge: l.cfg.bridge(), Software: l.cfg.Software, PID: os.Getpid()}
	for _, s := range l.Servers() {
		v.Servers = append(v.Servers, s.view())
	}
	return v
}

func press(s Server, q Request) error {
	if q.Button == On {
		s.goesOff()
	}
	off := s.BMC.Status().Power == redfish.PowerOff
	switch {
	case q.Button == Press, q.Button == On && off:
		return s.BMC.PressPower()
	case q.Button == Off && !off:
		return s.BMC.HoldPower()
	case q.Button == On, q.Button == Off:
		return nil
	}
	return fmt.Errorf("power %q: want %s, %s or %s", q.Button, On, Off, Press)
}

// named finds one server, or every one for "all".
func (l *Lab) named(name string) ([]Server, error) {
	all := l.Servers()
	if name == "all" {
		return all, nil
	}
	for _, s := range all {
		if s.Name == name || s.Spec.Serial == name {
			return []Server{s}, nil
		}
	}
	return nil, fmt.Errorf("lab %s has no server %q; it has n1 to n%d", l.cfg.Name, name, len(all))
}

func (l *Lab) act(w http.ResponseWriter, r *http.Request, do func(Server, Request) error) {
	var q Request
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&q); err != nil {
		reply(w, nil, fmt.Errorf("read request: %w", err))
		return
	}
	servers, err := l.named(q.Server)
	for _, s := range servers {
		err = errors.Join(err, do(s, q))
	}
	reply(w, struct{}{}, err)
}

func (l *Lab) serveConsole(w http.ResponseWriter, r *http.Request) {
	servers, err := l.named(r.URL.Query().Get("server"))
	if err == nil && len(servers) != 1 {
		err = errors.New("a console is that of one server")
	}
	if err != nil {
		reply(w, nil, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	out := http.NewResponseController(w)
	for at := int64(0); ; {
		b, next, err := servers[0].console.read(at)
		if err != nil {
			return
		}
		if _, err := w.Write(b); err != nil {
			return
		}
		at = next
		if r.URL.Query().Get("follow") == "" || out.Flush() != nil {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	}
}

func reply(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		v = refusal{err.Error(), errors.Is(err, ErrPoweredOn)}
	}
	_ = json.NewEncoder(w).Encode(v) // the caller left; nobody to tell
}
