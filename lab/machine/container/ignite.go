package container

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
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
	unmountAll()
	os.Exit(0)
}

// unmountAll leaves the file systems of the disks in order.
func unmountAll() {
	for _, p := range []string{sysroot + "/boot", sysroot} {
		_ = unix.Unmount(p, 0)
	}
}

// changeKargs is Ignition's helper for kernel arguments: it edits the boot
// loader configuration of an installed system. It returns an exit code.
func changeKargs(args []string) int {
	changed, err := editKargs(sysroot+"/boot", args)
	if err == nil && changed {
		err = os.WriteFile(kargsChanged, nil, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "change kernel arguments:", err)
		return 1
	}
	return 0
}

var linuxLine = regexp.MustCompile(`(?m)^([ \t]*linux(?:efi|16)?[ \t]+\S+)([^\n]*)$`)

// editKargs makes the kernel lines of the boot loader configuration under boot
// hold every --should-exist argument and no --should-not-exist one.
func editKargs(boot string, args []string) (changed bool, err error) {
	name, err := grubConfig(func(p string) bool { return exists(boot + p) })
	if err != nil {
		return false, fmt.Errorf("only an installed system can change them: %w", err)
	}
	path := filepath.Join(boot, name)
	old, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	var want, unwanted []string
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "--should-exist":
			want = append(want, args[i+1])
		case "--should-not-exist":
			unwanted = append(unwanted, args[i+1])
		default:
			return false, fmt.Errorf("option %q is not known", args[i])
		}
	}
	text := linuxLine.ReplaceAllStringFunc(string(old), func(line string) string {
		m := linuxLine.FindStringSubmatch(line)
		have := strings.Fields(m[2])
		have = slices.DeleteFunc(have, func(a string) bool { return slices.Contains(unwanted, a) })
		for _, w := range want {
			for _, a := range strings.Fields(w) {
				if !slices.Contains(have, a) {
					have = append(have, a)
				}
			}
		}
		if slices.Equal(have, strings.Fields(m[2])) {
			return line
		}
		return m[1] + " " + strings.Join(have, " ")
	})
	if text == string(old) {
		return false, nil
	}
	return true, replaceFile(path, []byte(text))
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
