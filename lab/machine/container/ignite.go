package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	ignitionState = "/run/ignition"
	cachedConfig  = "/run/ignition.json"
	needNet       = ignitionState + "/neednet"
	// kargsChanged says that kernel arguments on the disk are not those of
	// the running system any more.
	kargsChanged = ignitionState + "/kargs-changed"
)

// ignite runs the real Ignition program, one stage after the other, in the
// order and with the arguments of the units in its initramfs module.
func (s *initramfs) ignite(config []byte) error {
	if config != nil {
		// Where Ignition looks for a config that came with the system; it
		// stays behind in the initramfs.
		if err := os.WriteFile("/etc/ignition/user.ign", config, 0o600); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(ignitionState, 0o755); err != nil {
		return err
	}
	for _, stage := range []string{"fetch-offline", "fetch", "kargs", "disks", "mount", "files", "umount"} {
		if stage == "fetch" && !fetchNeeded() {
			continue
		}
		if err := s.stage(stage); err != nil && stage != "fetch-offline" {
			return err
		} else if err != nil && !exists(needNet) {
			return err
		}
		if stage == "kargs" && exists(kargsChanged) {
			s.reset()
		}
	}
	return nil
}

// fetchNeeded is the condition of ignition-fetch.service.
func fetchNeeded() bool { return exists(needNet) && !exists(cachedConfig) }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func (s *initramfs) stage(name string) error {
	platform := "metal"
	for _, a := range s.args {
		if id, ok := strings.CutPrefix(a, "ignition.platform.id="); ok {
			platform = id
		}
	}
	cmd := exec.Command(ignitionProgram, "--root="+sysroot, "--platform="+platform, "--stage="+name, "--log-to-stdout")
	// The distribution's own base configs are part of the booted system, as
	// its initramfs is made from the same tree.
	cmd.Env = []string{"PATH=" + helpers + ":" + guestPath, "IGNITION_SYSTEM_CONFIG_DIR=" + sysroot + "/usr/lib/ignition"}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("ignition stage %s: %w", name, err)
	}
	return nil
}

// reset restarts the machine from inside its initramfs.
func (s *initramfs) reset() {
	fmt.Printf("Kernel arguments were changed; restarting.\r\n")
	s.say(wordReset, "")
	_ = unix.Unmount(bootDir, 0)
	_ = unix.Unmount(sysroot, 0)
	os.Exit(0)
}

// changeKargs is Ignition's helper for kernel arguments: it edits the boot
// loader configuration of an installed system. It returns an exit code.
func changeKargs(args []string) int {
	changed, err := editKargs(filepath.Join(bootDir, kargsFile), args)
	if err == nil && changed {
		err = os.WriteFile(kargsChanged, nil, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "change kernel arguments:", err)
		return 1
	}
	return 0
}

// kargsFile is where an installed system keeps the kernel arguments that may be
// changed: one line, set kargs="…".
const kargsFile = "grub/kargs.cfg"

// editKargs makes a kargsFile hold every --should-exist argument and no
// --should-not-exist one, and says whether that changed it.
func editKargs(path string, args []string) (changed bool, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("only an installed system can change them: %w", err)
	}
	line := strings.TrimSpace(string(text))
	old, ok := strings.CutPrefix(line, `set kargs="`)
	if !ok || !strings.HasSuffix(old, `"`) {
		return false, fmt.Errorf(`%s: got %q, want one line: set kargs="…"`, path, line)
	}
	have := strings.Fields(strings.TrimSuffix(old, `"`))
	before := slices.Clone(have)
	for i := 0; i+1 < len(args); i += 2 {
		if strings.ContainsAny(args[i+1], "\"$`\\\n") {
			return false, fmt.Errorf("argument %q: quotes, dollars and backslashes cannot be passed on", args[i+1])
		}
		for _, a := range strings.Fields(args[i+1]) {
			switch args[i] {
			case "--should-exist":
				if !slices.Contains(have, a) {
					have = append(have, a)
				}
			case "--should-not-exist":
				have = slices.DeleteFunc(have, func(h string) bool { return h == a })
			default:
				return false, fmt.Errorf("option %q is not known", args[i])
			}
		}
	}
	if slices.Equal(have, before) {
		return false, nil
	}
	return true, replaceFile(path, []byte(`set kargs="`+strings.Join(have, " ")+"\"\n"))
}

// replaceFile writes a file so that a power cut leaves the old or the new one.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
