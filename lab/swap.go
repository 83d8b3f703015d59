package lab

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"metalrise.dev/lab/machine"
	"metalrise.dev/lab/redfish"
)

// ErrPoweredOn refuses what must not be done to a server that is on.
var ErrPoweredOn = errors.New("the server is powered on")

// offWithin is how long a server may take whose power was just cut.
const offWithin = 10 * time.Second

// goesOff lets a power cut come to its end.
func (s Server) goesOff() {
	for end := time.Now().Add(offWithin); s.BMC.Status().Power == redfish.PoweringOff && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
}

// swapDisk puts a new, empty disk in place of a server's install disk, as a
// technician does: another serial number and WWN, and nothing on it. What the
// old disk held is lost. The lab's configuration, which is replaced as a whole,
// says which disk is in: a lab that is killed meanwhile has the old one or the
// new one.
func (l *Lab) swapDisk(s Server, _ Request) error {
	s.goesOff()
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 1
	for n <= len(l.servers) && l.servers[n-1].Name != s.Name {
		n++
	}
	cfg := l.cfg
	cfg.Swaps = maps.Clone(cfg.Swaps)
	if cfg.Swaps == nil {
		cfg.Swaps = map[string]int{}
	}
	cfg.Swaps[s.Name]++
	spec := cfg.spec(n)
	var hw machine.Hardware
	err := s.BMC.Refit(func() (_ machine.Spec, _ machine.Hardware, err error) {
		if hw, err = cfg.hardware(spec); err == nil {
			err = cfg.Save()
		}
		return spec, hw, err
	})
	if errors.Is(err, redfish.ErrNotOff) {
		return fmt.Errorf("server %s: swap its disk: %w; metalrise lab power %s off switches it off", s.Name, ErrPoweredOn, s.Name)
	}
	if err != nil {
		return fmt.Errorf("server %s: swap its disk: %w", s.Name, err)
	}
	l.cfg.Swaps = cfg.Swaps
	at := &l.servers[n-1]
	at.Spec, at.Hardware, at.Swaps = spec, hw, cfg.Swaps[s.Name]
	return removeSwapped(spec)
}

// removeSwapped deletes the files of install disks that are in the server no more.
func removeSwapped(s machine.Spec) error {
	files, err := os.ReadDir(s.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("server %s: %w", s.Name, err)
	}
	for _, f := range files {
		name := f.Name()
		if !strings.HasPrefix(name, "disk0") || !strings.HasSuffix(name, ".raw") || name == s.Disks[0].Name+".raw" {
			continue
		}
		if err := os.Remove(filepath.Join(s.Dir, name)); err != nil {
			return fmt.Errorf("server %s: remove a disk that was swapped: %w", s.Name, err)
		}
	}
	return nil
}
