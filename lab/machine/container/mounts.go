package container

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	sysroot         = "/sysroot"
	bootDir         = "/boot"
	helpers         = "/opt" // programs of the initramfs that are not the host's
	ignitionProgram = helpers + "/ignition"
)

// node is a character device every machine has.
type node struct {
	name         string
	major, minor uint32
}

// standardNodes are the numbers of the kernel's devices.txt. /dev/kvm is left
// out on purpose: a machine of this kind has no virtualization to offer.
func standardNodes() []node {
	return []node{
		{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9},
		{"tty", 5, 0}, {"ptmx", 5, 2}, {"net/tun", 10, 200}, {"fuse", 10, 229}, {"loop-control", 10, 237},
	}
}

// guestLoops is how many loop device nodes a machine has. The numbers are the
// host's, so there must be more than all machines of a rack use together.
const guestLoops = 256

// enter builds the initramfs and makes it the root: a tmpfs with the host's
// programs read-only, and the machine's own devices, processes and hardware
// tree. Nothing of the host can be reached from it afterwards.
func (s *initramfs) enter() error {
	if err := unix.Sethostname([]byte("localhost")); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root := s.plan.Stage
	if err := mountNew("tmpfs", root, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for _, step := range []func(string) error{s.programs, s.devices, s.proc, s.sys, s.run} {
		if err := step(root); err != nil {
			return err
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("enter initramfs: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave host root: %w", err)
	}
	return os.Chdir("/")
}

func mountNew(source, target, kind string, flags uintptr, data string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, target, err)
	}
	return nil
}

// bind shows a file or folder at another place, made if missing.
func bind(source, target string, readOnly bool) error {
	st, err := os.Stat(source)
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if st.IsDir() {
		err = os.MkdirAll(target, 0o755)
	} else if _, e := os.Lstat(target); e != nil {
		err = os.WriteFile(target, nil, 0o644)
	}
	if err != nil {
		return fmt.Errorf("bind %s: %w", source, err)
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s on %s: %w", source, target, err)
	}
	if !readOnly {
		return nil
	}
	if err := unix.Mount("", target, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("bind %s read-only: %w", source, err)
	}
	return nil
}

// programs gives the initramfs what Ignition calls (useradd, sgdisk, mkfs…):
// the host's, read-only.
func (s *initramfs) programs(root string) error {
	if err := bind("/usr", root+"/usr", true); err != nil {
		return err
	}
	for _, l := range []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32"} {
		if _, err := os.Stat("/usr/" + l); err != nil {
			continue
		}
		if err := os.Symlink("usr/"+l, root+"/"+l); err != nil {
			return err
		}
	}
	for _, d := range []string{"etc/ignition", "opt", "tmp", "boot", "sysroot"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{
		"etc/passwd":         "root:x:0:0:root:/root:/bin/sh\n",
		"etc/group":          "root:x:0:\n",
		"etc/nsswitch.conf":  "passwd: files\ngroup: files\nhosts: files dns\n",
		"etc/initrd-release": "NAME=initramfs\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := bind(s.plan.Ignition, root+ignitionProgram, true); err != nil {
		return err
	}
	return showSelf(filepath.Join(root, helpers, kargsHelper))
}

// showSelf makes this program appear at target. Its file may have been replaced
// since it was started, and one without a name cannot be bound: it is copied.
func showSelf(target string) error {
	const self = "/proc/self/exe"
	path, err := os.Readlink(self)
	if err != nil {
		return err
	}
	running, err := os.Stat(self)
	if err != nil {
		return err
	}
	if named, err := os.Stat(path); err == nil && os.SameFile(running, named) {
		return bind(path, target, true)
	}
	from, err := os.Open(self)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// devices makes the machine's own /dev.
func (s *initramfs) devices(root string) error {
	dev := root + "/dev"
	if err := mountNew("devtmpfs", dev, "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return err
	}
	for _, d := range []string{"net", "shm", "pts", "mqueue", "disk/by-id", "disk/by-label", "disk/by-partlabel"} {
		if err := os.MkdirAll(filepath.Join(dev, d), 0o755); err != nil {
			return err
		}
	}
	old := unix.Umask(0)
	defer unix.Umask(old)
	for _, n := range standardNodes() {
		if err := unix.Mknod(filepath.Join(dev, n.name), unix.S_IFCHR|0o666, int(unix.Mkdev(n.major, n.minor))); err != nil {
			return fmt.Errorf("make device %s: %w", n.name, err)
		}
	}
	for i := range guestLoops {
		if err := blockDevice(filepath.Join(dev, "loop"+strconv.Itoa(i)), i); err != nil {
			return err
		}
	}
	for name, to := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0",
		"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2", "kmsg": "console"} {
		if err := os.Symlink(to, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	if err := mountNew("devpts", dev+"/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,gid=5,mode=0620,ptmxmode=0666"); err != nil {
		return err
	}
	if err := mountNew("tmpfs", dev+"/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, s.share(50, "mode=1777")); err != nil {
		return err
	}
	for _, n := range []string{"console", "ttyS0"} {
		if err := bind(s.plan.Console, filepath.Join(dev, n), false); err != nil {
			return err
		}
	}
	return s.diskNodes(dev)
}

func blockDevice(path string, minor int) error {
	if err := unix.Mknod(path, unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(minor)))); err != nil {
		return fmt.Errorf("make device %s: %w", path, err)
	}
	return nil
}

// proc mounts /proc and hides what would let a machine act on the host or see
// the host where hardware should be.
func (s *initramfs) proc(root string) error {
	proc := root + "/proc"
	if err := mountNew("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""); err != nil {
		return err
	}
	files := root + "/run/.hardware"
	if err := os.MkdirAll(files, 0o755); err != nil {
		return err
	}
	if err := mountNew("tmpfs", files, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	replace := map[string]string{
		"sys/kernel/random/boot_id": s.plan.BootID + "\n",
		"cmdline":                   "\n",
		"partitions":                s.procPartitions(),
		"diskstats":                 "",
		"sysrq-trigger":             "",
	}
	mem, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	replace["meminfo"] = limitMeminfo(string(mem), int64(s.plan.Spec.MemoryMiB)<<10)
	// Settings of the whole kernel are the host's and read-only inside. Those
	// a Kubernetes node insists on setting take what is written and do nothing.
	for _, k := range []string{"kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "vm/panic_on_oom",
		"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"} {
		if b, err := os.ReadFile("/proc/sys/" + k); err == nil {
			replace["sys/"+k] = string(b)
		}
	}
	if err := s.sysctls(proc); err != nil {
		return err
	}
	for name, text := range replace {
		if !exists(filepath.Join(proc, name)) {
			continue // this kernel has none
		}
		file := filepath.Join(files, strings.ReplaceAll(name, "/", "."))
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		if err := bind(file, filepath.Join(proc, name), name == "sysrq-trigger"); err != nil {
			return err
		}
	}
	return unix.Unmount(files, unix.MNT_DETACH)
}

// sysctls makes /proc/sys read-only but for the network's, which are the
// machine's own.
func (s *initramfs) sysctls(proc string) error {
	sys := proc + "/sys"
	if err := bind(sys, sys, false); err != nil {
		return err
	}
	if err := bind(sys+"/net", sys+"/net", false); err != nil {
		return err
	}
	if err := unix.Mount("", sys, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NOEXEC|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("make %s read-only: %w", sys, err)
	}
	return nil
}

// limitMeminfo caps the amounts of proc_meminfo(5) at kib.
func limitMeminfo(text string, kib int64) string {
	var b strings.Builder
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		f := strings.Fields(line)
		if len(f) >= 2 {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err == nil && (f[0] == "MemTotal:" || strings.HasSuffix(f[0], ":") && n > kib && strings.HasPrefix(f[0], "Mem")) {
				line = fmt.Sprintf("%-15s %8d kB", f[0], kib)
			}
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

func (s *initramfs) writeCmdline() error {
	// The file is the one bound there before; its mount follows into the system.
	return os.WriteFile("/proc/cmdline", []byte(strings.Join(s.args, " ")+"\n"), 0)
}

func (s *initramfs) run(root string) error {
	return mountNew("tmpfs", root+"/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, s.share(20, "mode=0755"))
}

// share limits a tmpfs to percent of the machine's memory; by itself it would
// take its share of the host's.
func (s *initramfs) share(percent int, options string) string {
	return fmt.Sprintf("%s,size=%dk", options, int64(s.plan.Spec.MemoryMiB)*1024*int64(percent)/100)
}

// switchRoot hands the machine over to the system's init.
func (s *initramfs) switchRoot() error {
	for _, d := range []string{"dev", "proc", "sys", "run"} {
		if err := os.MkdirAll(filepath.Join(sysroot, d), 0o755); err != nil {
			return err
		}
		if err := unix.Mount("/"+d, filepath.Join(sysroot, d), "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move /%s: %w", d, err)
		}
	}
	if err := os.Chdir(sysroot); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("switch root: %w", err)
	}
	if err := errors.Join(unix.Unmount(".", unix.MNT_DETACH), os.Chdir("/")); err != nil {
		return fmt.Errorf("leave initramfs: %w", err)
	}
	// As a service manager in a container expects it (systemd's container interface).
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	s.say(wordMounted, "")
	// In a container, systemd takes the kernel arguments from its own.
	// Nobody can log in on the console, and a login prompt's hang-up would
	// lose what is on the line.
	argv := append([]string{"/sbin/init", "systemd.getty_auto=no"}, s.args...)
	err := unix.Exec("/sbin/init", argv, []string{"container=metalrise-lab", "TERM=vt220", "PATH=" + guestPath})
	s.emergency("start /sbin/init: %v", err)
	return nil
}

// dropCapabilities takes away for good what would reach through to the host:
// its modules, clock, kernel log, ports and physical memory. CAP_SYS_BOOT
// stays: in a PID namespace reboot(2) ends just that namespace.
func dropCapabilities() error {
	for _, c := range []uintptr{unix.CAP_SYS_MODULE, unix.CAP_SYS_TIME, unix.CAP_SYSLOG, unix.CAP_SYS_RAWIO,
		unix.CAP_WAKE_ALARM, unix.CAP_BLOCK_SUSPEND, unix.CAP_MAC_ADMIN, unix.CAP_MAC_OVERRIDE} {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	return nil
}
