package fake_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/machine/fake"
)

func TestScriptDecidesTheStop(t *testing.T) {
	m := fake.New(machine.Spec{Name: "f1"}, func(_ context.Context, from machine.BootSource, console io.Writer) (machine.Stop, error) {
		fmt.Fprintf(console, "from %s", from.Kind)
		return machine.Rebooted, nil
	})
	var console strings.Builder
	stop, err := m.Boot(t.Context(), machine.BootSource{Kind: machine.FromMedia, ISO: "x"}, &console)
	if stop != machine.Rebooted || err != nil || console.String() != "from media" {
		t.Errorf("boot = %q, %v with console %q", stop, err, console.String())
	}
}

func TestCutShutdownAndSecondBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fake.New(machine.Spec{Name: "f1"}, nil)
		if err := m.Shutdown(t.Context()); err == nil {
			t.Error("shutdown of a machine that is off: no error")
		}
		boot := func(ctx context.Context) <-chan machine.Stop {
			out := make(chan machine.Stop, 1)
			go func() {
				stop, err := m.Boot(ctx, machine.BootSource{Kind: machine.FromDisk}, io.Discard)
				if err != nil {
					t.Error(err)
				}
				out <- stop
			}()
			synctest.Wait()
			return out
		}
		ctx, cut := context.WithCancel(t.Context())
		done := boot(ctx)
		if _, err := m.Boot(t.Context(), machine.BootSource{}, io.Discard); err == nil {
			t.Error("second boot of a running machine: no error")
		}
		cut()
		if got := <-done; got != machine.Killed {
			t.Errorf("after the cut: %q", got)
		}
		done = boot(t.Context())
		if err := m.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if got := <-done; got != machine.PoweredOff {
			t.Errorf("after shutdown: %q", got)
		}
	})
}

func TestScriptErrorIsTheLabsFault(t *testing.T) {
	want := errors.New("script broke")
	m := fake.New(machine.Spec{Name: "f1"}, func(context.Context, machine.BootSource, io.Writer) (machine.Stop, error) {
		return "", want
	})
	if _, err := m.Boot(t.Context(), machine.BootSource{}, io.Discard); !errors.Is(err, want) {
		t.Errorf("error %v, want it to wrap %v", err, want)
	}
}
