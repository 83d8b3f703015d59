package container

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// initName is the name (argv[0]) under which this program is process 1.
	initName = "metalrise-lab-initramfs"
	// kargsHelper is the name under which Ignition calls this program.
	kargsHelper = "ignition-kargs-helper"
	guestPath   = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
	// linkFD is the pipe to the host: the first file after the standard three.
	linkFD = 3
)

// MaybeInit takes over the process if it was started as a machine's first
// process and never returns then; otherwise it returns at once. Every program
// that boots container machines calls it first thing in main, and every test
// binary that does in TestMain.
func MaybeInit() {
	switch filepath.Base(os.Args[0]) {
	case initName:
		if os.Getpid() != 1 {
			return
		}
	case kargsHelper:
		os.Exit(changeKargs(os.Args[1:]))
	default:
		return
	}
	// Namespaces entered here belong to the thread; the one that executes the
	// system's init must be the one that entered them.
	runtime.LockOSThread()
	s := &initramfs{link: os.NewFile(linkFD, "link")}
	unix.CloseOnExec(linkFD)
	err := s.boot()
	if nb := new(notBootable); errors.As(err, &nb) {
		s.say(wordNotBooted, nb.why)
	} else {
		s.say(wordFault, err.Error())
	}
	os.Exit(1)
}

// initramfs is what runs as process 1 until the system's own init does.
type initramfs struct {
	link *os.File
	plan plan
	args []string // kernel arguments of the chosen system
}

func (s *initramfs) say(w word, text string) {
	fmt.Fprintf(s.link, "%s %s\n", w, strings.ReplaceAll(text, "\n", " "))
}

// boot does what an initramfs does. It returns only with an error: one of the
// lab, as what is wrong with the booted system leads to emergency.
func (s *initramfs) boot() error {
	line, err := bufio.NewReader(s.link).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read plan: %w", err)
	}
	if err := json.Unmarshal(line, &s.plan); err != nil {
		return fmt.Errorf("read plan: %w", err)
	}
	// The host has put this process into its control groups by now.
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("enter control group namespace: %w", err)
	}
	if err := s.enter(); err != nil {
		return err
	}
	s.say(wordMounted, "")
	sys, err := s.findSystem()
	if err != nil {
		return err
	}
	s.args = sys.args
	if err := s.writeCmdline(); err != nil {
		return err
	}
	fmt.Printf("Command line: %s\r\n", strings.Join(s.args, " "))
	if err := sys.mountRoot(); err != nil {
		s.emergency("mount the root file system: %v", err)
	}
	s.sayFileDevs()
	if slices.Contains(s.args, "ignition.firstboot") {
		if err := s.ignite(sys.config); err != nil {
			s.emergency("%v", err)
		}
	}
	if err := sys.finish(); err != nil {
		s.emergency("leave the initramfs: %v", err)
	}
	return s.switchRoot()
}

// sayFileDevs tells the host under which device numbers files of the root show,
// so that it finds loop devices over them: an overlay has one per layer, and
// none of them is in the mount table.
func (s *initramfs) sayFileDevs() {
	written := filepath.Join(sysroot, ".probe")
	_ = os.WriteFile(written, nil, 0o600)
	for _, name := range []string{written, filepath.Join(sysroot, "usr/lib/os-release")} {
		var st unix.Stat_t
		if unix.Stat(name, &st) == nil {
			s.say(wordFileDev, strconv.FormatUint(st.Dev, 10))
		}
	}
	_ = os.Remove(written)
}

// system is what was chosen to boot.
type system struct {
	args      []string
	config    []byte // Ignition config; nil for none
	mountRoot func() error
	finish    func() error // before the system takes over
}

func (s *initramfs) findSystem() (system, error) {
	if s.plan.Live != nil {
		l := s.plan.Live
		return system{args: l.Args, config: l.Embedded.Config,
			mountRoot: func() error { return mountLive(l.Root, s.share(75, "mode=0755")) },
			finish:    func() error { return writeKeyfiles(l.Embedded.Keyfiles) }}, nil
	}
	var why []string
	for _, d := range s.plan.Systems {
		sys, err := s.openDisk(d)
		if err == nil {
			return sys, nil
		}
		fmt.Printf("firmware: %s: %v\r\n", d.Disk, err)
		why = append(why, fmt.Sprintf("%s: %v", d.Disk, err))
	}
	return system{}, &notBootable{strings.Join(why, "; ")}
}

// openDisk mounts a disk's boot file system and reads it as its boot loader
// and initramfs would.
func (s *initramfs) openDisk(d diskSystem) (system, error) {
	if err := unix.Mount(d.Boot.node(d.Disk), bootDir, "ext4", 0, ""); err != nil {
		return system{}, fmt.Errorf("mount boot file system: %w", err)
	}
	sys, err := readBootFS(bootDir)
	if err != nil {
		return system{}, errors.Join(err, unix.Unmount(bootDir, unix.MNT_DETACH))
	}
	// The system itself mounts its boot file system when it needs it.
	sys.finish = func() error { return unix.Unmount(bootDir, 0) }
	sys.mountRoot = func() error {
		if err := linkPartitions(d); err != nil {
			return err
		}
		if err := growRoot(d); err != nil {
			return fmt.Errorf("grow: %w", err)
		}
		return unix.Mount(d.Root.node(d.Disk), sysroot, "ext4", 0, "")
	}
	return sys, nil
}

// readBootFS reads the mounted boot file system of an installed system.
func readBootFS(dir string) (system, error) {
	// What is on a disk is not to be trusted: names are looked up inside dir,
	// links that lead out of it included.
	root, err := os.OpenRoot(dir)
	if err != nil {
		return system{}, err
	}
	defer root.Close()
	rel := func(p string) string { return strings.TrimLeft(filepath.Clean("/"+p), "/") }
	exists := func(p string) bool { _, err := root.Stat(rel(p)); return err == nil }
	read := func(p string) (string, error) {
		st, err := root.Stat(rel(p))
		if err != nil {
			return "", err
		}
		if st.Size() > maxConfig {
			return "", fmt.Errorf("%s has %d bytes, more than the %d it may have", p, st.Size(), maxConfig)
		}
		b, err := root.ReadFile(rel(p))
		return string(b), err
	}
	cfgPath, err := grubConfig(exists)
	if err != nil {
		return system{}, err
	}
	text, err := read(cfgPath)
	if err != nil {
		return system{}, err
	}
	entry, err := runGRUB(text, exists, read)
	if err != nil {
		return system{}, err
	}
	if !exists(entry.Kernel) {
		return system{}, fmt.Errorf("grub: kernel %s is not there", entry.Kernel)
	}
	sys := system{args: entry.Args}
	if exists("/ignition/config.ign") {
		config, err := read("/ignition/config.ign")
		if err != nil {
			return system{}, err
		}
		sys.config = []byte(config)
	}
	return sys, nil
}

func grubConfig(exists func(string) bool) (string, error) {
	for _, p := range []string{"/grub/grub.cfg", "/grub2/grub.cfg"} {
		if exists(p) {
			return p, nil
		}
	}
	return "", fmt.Errorf("the boot file system has no grub/grub.cfg")
}

// mountLive mounts a live system: its squashfs image under a tmpfs that takes
// what it writes.
func mountLive(minor int, upperOptions string) error {
	const base, upper = "/run/ephemeral_base", "/run/ephemeral"
	for _, d := range []string{base, upper} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount(loopPath(minor), base, "squashfs", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("squashfs: %w", err)
	}
	if err := unix.Mount("tmpfs", upper, "tmpfs", 0, upperOptions); err != nil {
		return err
	}
	for _, d := range []string{upper + "/upper", upper + "/work"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("overlay", sysroot, "overlay", 0,
		"lowerdir="+base+",upperdir="+upper+"/upper,workdir="+upper+"/work"); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	return nil
}

// writeKeyfiles puts network settings that were embedded beside the Ignition
// config where NetworkManager reads them.
func writeKeyfiles(files map[string][]byte) error {
	const dir = sysroot + "/etc/NetworkManager/system-connections"
	for name, text := range files {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// emergency is where CoreOS-like systems stop when they cannot boot: nothing
// is tried again until someone cuts the power.
func (s *initramfs) emergency(format string, a ...any) {
	fmt.Printf("\r\n"+format+"\r\n", a...)
	fmt.Printf("You are in emergency mode. The machine stays here until its power is cut.\r\n")
	for {
		time.Sleep(time.Hour)
	}
}
