package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"go.uber.org/goleak"

	"metalrise.dev/fleet"
)

// rackVariable makes the test program be a rack of so many servers and nothing
// else. A benchmark runs it as a process of its own, so that what metalrise
// costs can be told from what the emulation costs.
const rackVariable = "METALRISE_BENCH_RACK"

func TestMain(m *testing.M) {
	if n := os.Getenv(rackVariable); n != "" {
		if err := serveRack(n, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "rack:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// up is a rack's first word.
type up struct{ Addresses string }

// question asks a rack whether a plan was carried out.
type question struct {
	Plan  fleet.Plan
	Image []byte
}

// verdict is its answer: what is wrong, and what the rack saw and cost.
type verdict struct {
	Wrong                 string
	Requests, Connections int64
	Cost                  cost
}

// serveRack is the rack's process: up, one question, one verdict.
func serveRack(n string, in io.Reader, out io.Writer) error {
	count, err := strconv.Atoi(n)
	if err != nil {
		return err
	}
	r, err := startRack(context.Background(), count, 0)
	defer r.close()
	if err != nil {
		return err
	}
	if err := resetPeak(); err != nil {
		return err
	}
	before, err := ownCost()
	if err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(up{r.addresses()}); err != nil {
		return err
	}
	var q question
	if err := json.NewDecoder(in).Decode(&q); err != nil {
		return err
	}
	now, err := ownCost()
	if err != nil {
		return err
	}
	v := verdict{Cost: now.since(before)}
	for _, s := range r.servers {
		st := s.bmc.Status()
		v.Requests += st.Requests
		v.Connections += st.Connections
	}
	if err := r.check(q.Plan, q.Image, true); err != nil {
		v.Wrong = err.Error()
	}
	return json.NewEncoder(out).Encode(v)
}

// away is a rack in another process.
type away struct {
	up
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// newAway starts one; it ends with the test.
func newAway(t testing.TB, n int) *away {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	a := &away{cmd: exec.CommandContext(t.Context(), self)}
	a.cmd.Env = append(os.Environ(), rackVariable+"="+strconv.Itoa(n))
	a.cmd.Stderr = os.Stderr
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.in.Close(); _ = a.cmd.Wait() })
	a.out = json.NewDecoder(bufio.NewReader(out))
	if err := a.out.Decode(&a.up); err != nil {
		t.Fatalf("the rack did not come up: %v", err)
	}
	return a
}

// judge asks whether the plan was carried out, and ends the rack.
func (a *away) judge(p fleet.Plan, image []byte) (verdict, error) {
	var v verdict
	if err := json.NewEncoder(a.in).Encode(question{p, image}); err != nil {
		return v, err
	}
	if err := a.out.Decode(&v); err != nil {
		return v, err
	}
	if v.Wrong != "" {
		return v, errors.New(v.Wrong)
	}
	return v, nil
}
