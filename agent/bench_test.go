package agent_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"metalrise.dev/agent"
	"metalrise.dev/agent/agenttest"
	"metalrise.dev/boot"
	"metalrise.dev/fleet/callhome"
)

// crowd is a desk for many machines: each is waved through.
type crowd struct{ write callhome.Write }

func (c *crowd) Who(context.Context, boot.Caller, callhome.Who) (callhome.Orders, error) {
	return callhome.Orders{}, errors.New("the crowd knows who it is")
}

func (c *crowd) Hello(_ context.Context, _ boot.Caller, m callhome.Hello) (callhome.Orders, error) {
	if m.Stage == callhome.Installed {
		return callhome.Orders{Verb: callhome.Done}, nil
	}
	return callhome.Orders{Verb: callhome.Go, Write: &c.write}, nil
}

func (c *crowd) Progress(context.Context, boot.Caller, callhome.Progress) (callhome.Orders, error) {
	return callhome.Orders{Verb: callhome.Go}, nil
}

func (c *crowd) Written(context.Context, boot.Caller, callhome.Written) (callhome.Orders, error) {
	return callhome.Orders{Verb: callhome.Restart}, nil
}

func (c *crowd) Admit(boot.Caller) error { return nil }

func (c *crowd) Failed(_ context.Context, _ boot.Caller, m callhome.Failed) (callhome.Orders, error) {
	return callhome.Orders{}, fmt.Errorf("agent failed: %+v", m.Cause)
}

func (c *crowd) Erased(context.Context, boot.Caller, callhome.Erased) (callhome.Orders, error) {
	return callhome.Orders{Verb: callhome.Hold}, nil
}

func (c *crowd) Task(context.Context, boot.Caller, callhome.TaskReport) (callhome.Orders, error) {
	return callhome.Orders{Verb: callhome.Done}, nil
}

// BenchmarkAgents takes many machines at once through both stages, with real
// TLS and a small image.
func BenchmarkAgents(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := newRig(b, "raw.zst", 0)
			authority, err := boot.NewAuthority("bench")
			if err != nil {
				b.Fatal(err)
			}
			server, err := boot.Listen(b.Context(), boot.Config{Addr: "127.0.0.1:0", Authority: authority, Desk: &crowd{write: r.desk.write}, Library: r.shelf})
			if err != nil {
				b.Fatal(err)
			}
			defer server.Close()
			b.ReportAllocs()
			for b.Loop() {
				var wg sync.WaitGroup
				for i := range n {
					wg.Go(func() {
						facts := testFacts(i)
						ticket := r.ticket
						ticket.URL, ticket.CA = "https://"+server.Addr().String(), string(authority.PEM())
						ticket.Identity, ticket.Server = facts.Identity, facts.Identity.ID()
						host := agenttest.NewHost(facts)
						for _, stage := range []callhome.Stage{callhome.Live, callhome.Installed} {
							ticket.Stage = stage
							if err := agent.RunWith(b.Context(), ticket, host, io.Discard); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N*n), "ms/agent")
		})
	}
}
