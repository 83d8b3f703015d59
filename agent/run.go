package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// Config is what Run needs.
type Config struct {
	// TicketPath is the ticket's place on the machine; "" means callhome.TicketPath.
	TicketPath string
	// Root is where the machine's own files begin: "/" outside of tests.
	Root string
	// Log receives lines for the machine's console.
	Log io.Writer
	// Carry is what a system that is written takes along; nil: nothing.
	Carry *Carry
}

// Carry is what a system takes along from the live one that writes it.
type Carry struct {
	// Medium names the medium that the live system came from. It is put into the
	// marker of the disk.
	Medium string
	// Into puts things into the written system's root file system, which lies at
	// root. The disk cannot boot yet; if Into fails it never will.
	Into func(ctx context.Context, root string) error
}

// Run does the agent's work on this machine. In the live system it returns when
// the machine is rebooting, in the installed one when metalrise needs nothing
// more of it, after hours perhaps, and the ticket is then removed; otherwise only
// when the context ends or the ticket is unusable.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Root == "" {
		cfg.Root = "/"
	}
	if cfg.TicketPath == "" {
		cfg.TicketPath = callhome.TicketPath
	}
	ticket, err := readTicket(filepath.Join(cfg.Root, cfg.TicketPath))
	if err != nil {
		return err
	}
	if err := runWith(ctx, ticket, NewHost(cfg.Root), cfg); err != nil || ticket.Stage != callhome.Installed {
		return err
	}
	// The token is spent. Without the ticket later boots do not call again.
	if err := os.Remove(filepath.Join(cfg.Root, cfg.TicketPath)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the spent ticket: %w", err)
	}
	return nil
}

const maxTicket = 256 << 10

func readTicket(path string) (callhome.Ticket, error) {
	var t callhome.Ticket
	f, err := os.Open(path)
	if err != nil {
		return t, fmt.Errorf("read ticket: %w", err)
	}
	defer func() { _ = f.Close() }()
	b, err := readBounded(f, maxTicket)
	if err != nil {
		return t, fmt.Errorf("read ticket %s: %w", path, err)
	}
	if err := json.Unmarshal(b, &t); err != nil {
		return t, fmt.Errorf("read ticket %s: not the JSON of a ticket", path) // the error could quote the token
	}
	return t, nil
}

// session is one run of the agent.
type session struct {
	ticket callhome.Ticket
	host   Host
	line   *line
	seat   *seat
	facts  fleet.Facts
	looked time.Time
	carry  *Carry

	mu       sync.Mutex
	log      io.Writer
	clockSet bool
}

// RunWith does the agent's work with a given ticket on a given machine.
func RunWith(ctx context.Context, ticket callhome.Ticket, host Host, log io.Writer) error {
	return runWith(ctx, ticket, host, Config{Log: log})
}

func runWith(ctx context.Context, ticket callhome.Ticket, host Host, cfg Config) error {
	log := cfg.Log
	if log == nil {
		log = io.Discard
	}
	if ticket.Protocol != callhome.Protocol {
		return fmt.Errorf("ticket: protocol %d, this agent speaks %d", ticket.Protocol, callhome.Protocol)
	}
	seat, err := takeSeat(host, ticket.Stage)
	if err != nil {
		return err
	}
	line, err := newLine(ticket, seat)
	if err != nil {
		return err
	}
	defer line.close()
	s := &session{ticket: ticket, host: host, line: line, seat: seat, log: log, carry: cfg.Carry}
	if ticket.Stage == callhome.Asking {
		s.say("asking %s who this machine is", ticket.URL)
	} else {
		s.say("server %s, %s system, calling %s", ticket.Server, ticket.Stage, ticket.URL)
	}
	switch ticket.Stage {
	case callhome.Asking:
		return s.asking(ctx)
	case callhome.Live:
		return s.live(ctx)
	case callhome.Installed:
		return s.installed(ctx)
	}
	return fmt.Errorf("ticket: stage %q: want live or installed", ticket.Stage)
}

// say writes one line to the console.
func (s *session) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = io.WriteString(s.log, "metalrise: "+printable(fmt.Sprintf(format, args...))+"\n")
}

// fresh is how long a look is good for while a system waits: looking reads every
// disk, and orders to wait may be short. The disk to be written is looked at
// again in any case, and all is looked at again after a task.
const fresh = 30 * time.Second

// hello looks at the machine and calls home.
func (s *session) hello(ctx context.Context) (callhome.Orders, error) {
	if s.looked.IsZero() || time.Since(s.looked) > fresh {
		s.facts, s.looked = s.host.Look(ctx), time.Now()
		if s.ticket.Stage == callhome.Installed {
			s.host.LookNode(&s.facts)
		}
	}
	return s.ask(ctx, callhome.PathHello, callhome.Hello{
		Protocol: callhome.Protocol,
		Version:  version(),
		Stage:    s.ticket.Stage,
		Instance: s.seat.instance,
		Server:   s.ticket.Server,
		Plan:     s.ticket.Plan,
		Attempt:  s.ticket.Attempt,
		Facts:    s.facts,
	})
}

func version() string {
	if b, ok := debug.ReadBuildInfo(); ok {
		return b.Main.Version
	}
	return "unknown"
}

// live is the live system's side of the conversation.
// Transitions to: written (the disk holds the planned system), erased, or itself.
func (s *session) live(ctx context.Context) error {
	if w, ok := s.recallWritten(); ok {
		s.say("the disk was written before this agent started; going on from there")
		return s.written(ctx, w)
	}
	if e, ok := s.recallErased(); ok {
		s.say("the disk was erased before this agent started; going on from there")
		return s.erased(ctx, e)
	}
	for {
		orders, err := s.hello(ctx)
		if err != nil {
			return err
		}
		var next func(context.Context) error
		switch {
		case orders.Verb == callhome.Go && orders.Write != nil:
			s.say("told to write %s", orders.Write.Disk)
			var w callhome.Written
			w, err = s.write(ctx, *orders.Write)
			next = func(ctx context.Context) error { return s.written(ctx, w) }
		case orders.Verb == callhome.Erase && orders.Erase != nil:
			s.say("told to erase %s", orders.Erase.Disk)
			var e callhome.Erased
			e, err = s.erase(ctx, *orders.Erase)
			next = func(ctx context.Context) error { return s.erased(ctx, e) }
		default:
			if err := s.wait(ctx, orders); err != nil {
				return err
			}
			continue
		}
		switch {
		case err == nil:
			return next(ctx)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		var h *heldError
		if errors.As(err, &h) {
			orders = h.orders
		} else if orders, err = s.fail(ctx, err); err != nil {
			return err
		}
		if err := s.wait(ctx, orders); err != nil {
			return err
		}
	}
}

// fail reports why the agent cannot go on.
func (s *session) fail(ctx context.Context, why error) (callhome.Orders, error) {
	s.say("%v", why)
	return s.ask(ctx, callhome.PathFailed, callhome.Failed{Instance: s.seat.instance, Cause: *fleet.CauseOf(why)})
}

// wait says what was ordered and waits as long as ordered.
func (s *session) wait(ctx context.Context, o callhome.Orders) error {
	after := o.After
	if after <= 0 {
		after = waitUsual
	}
	after = min(max(after, waitFloor), waitCeil)
	if o.Why != "" {
		s.say("%s: %s", o.Verb, printable(o.Why))
	}
	return sleep(ctx, jitter(after))
}

const writtenName = "written.json"

// written reports the finished disk until it is allowed to reboot into it.
func (s *session) written(ctx context.Context, w callhome.Written) error {
	for {
		orders, err := s.ask(ctx, callhome.PathWritten, w)
		if err != nil {
			return err
		}
		if orders.Verb != callhome.Restart {
			if err := s.wait(ctx, orders); err != nil {
				return err
			}
			continue
		}
		s.say("rebooting into %s", w.Disk)
		if err := s.host.Reboot(ctx); err != nil {
			if orders, err = s.fail(ctx, fleet.NewFault(fleet.CodeAgentFailed, fleet.Transient, err, "reboot")); err != nil {
				return err
			}
			if err := s.wait(ctx, orders); err != nil {
				return err
			}
			continue
		}
		return nil
	}
}

// recallWritten finds out whether an agent before us, in the same boot, had
// finished: a restarted agent must not write again.
func (s *session) recallWritten() (callhome.Written, bool) {
	var w callhome.Written
	b, err := s.host.Recall(writtenName)
	if errors.Is(err, fs.ErrNotExist) {
		return w, false
	}
	if err != nil || json.Unmarshal(b, &w) != nil || w.Instance != s.seat.instance {
		return w, false
	}
	return w, true
}

// clock sets the machine's clock to ours when it is clearly wrong, so that
// journals, certificates and file times make sense from here on.
func (s *session) clock(now time.Time) {
	const wrong = 5 * time.Second
	off := time.Until(now)
	if now.Year() < 2024 || now.Year() > 2099 || off.Abs() <= wrong {
		return
	}
	s.mu.Lock()
	tried := s.clockSet
	s.clockSet = true // once: an NTP client may disagree with us, and that is not our fight
	s.mu.Unlock()
	if tried {
		return
	}
	if err := s.host.SetClock(now); err != nil {
		s.say("clock is %s off and could not be set: %v", off.Round(time.Second).Abs(), err)
		return
	}
	s.say("clock was %s off and is set", off.Round(time.Second).Abs())
}

// printable keeps control characters of others off the console.
func printable(text string) string {
	out := []rune(text)
	for i, r := range out {
		if r < 0x20 || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			out[i] = ' '
		}
	}
	return string(out[:min(len(out), 2000)])
}
