package redfish

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

const (
	stateFile    = "bmc.json"
	stateVersion = 1
)

// kept is the state file: what outlives the lab process.
type kept struct {
	Version  int               `json:"version"`
	WishedOn bool              `json:"wishedOn"`
	Boot     override          `json:"boot"`
	Media    map[string]medium `json:"media,omitempty"` // by slot id
	BIOS     map[string]any    `json:"bios,omitempty"`
	Pending  map[string]any    `json:"pending,omitempty"`
	AssetTag string            `json:"assetTag,omitempty"`
}

// load takes over what an earlier process kept, and removes media files that no
// slot knows any more (a download cut off by kill -9).
func (b *BMC) load() error {
	if b.cfg.Dir == "" {
		return nil
	}
	if err := os.MkdirAll(b.cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("bmc of %s: %w", b.cfg.Spec.Name, err)
	}
	path := filepath.Join(b.cfg.Dir, stateFile)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("bmc of %s: %w", b.cfg.Spec.Name, err)
	}
	if err == nil {
		if err := b.restore(path, text); err != nil {
			return err
		}
	}
	return b.sweepMedia()
}

func (b *BMC) restore(path string, text []byte) error {
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return fmt.Errorf("bmc of %s: read its state %s: %w; delete the file to start fresh", b.cfg.Spec.Name, path, err)
	}
	if k.Version != stateVersion {
		return fmt.Errorf("bmc of %s: its state %s has version %d, this program knows %d; delete the file to start fresh",
			b.cfg.Spec.Name, path, k.Version, stateVersion)
	}
	b.wishedOn, b.assetTag, b.pending = k.WishedOn, k.AssetTag, k.Pending
	if k.Boot.valid(b.cfg.Spec.Firmware) {
		b.boot = k.Boot
	}
	maps.Copy(b.bios, k.BIOS)
	for _, s := range b.slots {
		m, ok := k.Media[s.ID]
		if !ok {
			continue
		}
		if m.File != "" {
			if fi, err := os.Stat(b.mediumPath(&m)); err != nil || fi.Size() != m.Size {
				b.log.Warn("inserted image is gone or has another size; the slot is empty now", "slot", s.ID, "file", m.File)
				continue
			}
		}
		s.medium = &m
	}
	return nil
}

func (b *BMC) sweepMedia() error {
	entries, err := os.ReadDir(b.cfg.Dir)
	if err != nil {
		return fmt.Errorf("bmc of %s: %w", b.cfg.Spec.Name, err)
	}
	used := map[string]bool{}
	for _, s := range b.slots {
		if s.medium != nil {
			used[s.medium.File] = true
		}
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), mediaPrefix) && !used[e.Name()] {
			if err := os.Remove(filepath.Join(b.cfg.Dir, e.Name())); err != nil {
				return fmt.Errorf("bmc of %s: remove left-over image: %w", b.cfg.Spec.Name, err)
			}
		}
	}
	return nil
}

// saveLocked writes the state file. A lab that cannot write goes on and says so:
// only the memory over restarts suffers.
// Closing cuts the power of every machine; that is not written, so that WishedOn
// stays what the client wanted.
func (b *BMC) saveLocked() {
	if b.cfg.Dir == "" || b.closed {
		return
	}
	k := kept{
		Version: stateVersion, WishedOn: b.power == PowerOn || b.power == PoweringOn,
		Boot: b.boot, BIOS: b.bios, Pending: b.pending, AssetTag: b.assetTag, Media: map[string]medium{},
	}
	for _, s := range b.slots {
		if s.medium != nil {
			k.Media[s.ID] = *s.medium
		}
	}
	text, err := json.MarshalIndent(k, "", "  ")
	if err == nil {
		err = replaceFile(filepath.Join(b.cfg.Dir, stateFile), append(text, '\n'))
	}
	if err != nil {
		b.log.Error("state of the bmc is not kept", "error", err)
	}
}

// replaceFile writes a file whole or not at all, readable by its owner only.
func replaceFile(path string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
