package ignition_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"metalrise.dev/lab/nodeimage"
)

// The real Ignition program applies every golden config to the bare root of a
// system of CoreOS shape; what it made is compared with a golden listing of all
// paths, modes, owners and contents. This needs root, because it makes a user
// and gives files to others; it leaves the host alone, because every path it is
// told lies in a temporary directory and useradd works in a chroot.
func TestRealIgnition(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root")
	}
	binary := ignitionBinary(t)
	old := syscall.Umask(0o022) // an initramfs has no other one
	t.Cleanup(func() { syscall.Umask(old) })
	for _, c := range configs(t) {
		t.Run(c.name, func(t *testing.T) {
			raw, err := c.make()
			if err != nil {
				t.Fatal(err)
			}
			m := newMachine(t, binary, raw)
			m.stage(t, "fetch-offline")
			if _, err := os.Stat(m.neednet); err == nil {
				t.Error("ignition wants the network to apply the config")
			}
			m.stage(t, "kargs")
			m.stage(t, "files")
			if got, want := m.kernelArguments(t), strings.Join(c.kargs, " "); got != want {
				t.Errorf("kernel arguments %q, want %q", got, want)
			}
			m.checkPrograms(t)
			golden(t, c.name+".tree", m.listing(t))
		})
	}
}

// ignitionBinary is the program named by METALRISE_IGNITION, or the one that
// the lab builds once and keeps.
func ignitionBinary(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("METALRISE_IGNITION"); path != "" {
		return path
	}
	cache := os.Getenv("METALRISE_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(user, "metalrise")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	path, err := nodeimage.IgnitionBinary(ctx, cache, func(step string) { t.Log(step) })
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// machine is the initramfs and the root that Ignition sees.
type machine struct {
	binary, root, system, work, neednet string
}

// newMachine makes a root with nothing but accounts, and a system directory with
// the base config of CoreOS and the config under test.
func newMachine(t *testing.T, binary string, config []byte) machine {
	t.Helper()
	m := machine{binary: binary, root: t.TempDir(), system: t.TempDir(), work: t.TempDir()}
	m.neednet = filepath.Join(m.work, "neednet")
	for _, dir := range []string{filepath.Dir(m.root), m.root} { // keys are written by their user
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put := func(dir, name string, mode fs.FileMode, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	put(m.root, "etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n")
	put(m.root, "etc/group", 0o644, "root:x:0:\nadm:x:4:\nsudo:x:27:\nwheel:x:10:\nsystemd-journal:x:101:\n")
	put(m.root, "etc/shadow", 0o600, "root:*:19000:0:99999:7:::\n")
	put(m.root, "etc/gshadow", 0o600, "root:*::\nadm:*::\nsudo:*::\nwheel:*::\nsystemd-journal:*::\n")
	put(m.root, "etc/login.defs", 0o644, "UID_MIN 1000\nUID_MAX 60000\nGID_MIN 1000\nGID_MAX 60000\nCREATE_HOME yes\nHOME_MODE 0700\nUSERGROUPS_ENAB yes\n")
	put(m.root, "etc/default/useradd", 0o644, "SHELL=/bin/bash\n")
	put(m.root, "etc/chrony.conf", 0o644, "# the image's own\n")
	put(m.system, "base.d/00-core.ign", 0o644,
		`{"ignition":{"version":"3.0.0"},"passwd":{"users":[{"name":"core","gecos":"CoreOS Admin","groups":["adm","sudo","systemd-journal","wheel"]}]}}`)
	put(m.system, "user.ign", 0o600, string(config))
	put(m.work, "cmdline", 0o644, "ignition.firstboot ignition.platform.id=metal")
	put(m.work, "bin/ignition-kargs-helper", 0o755, "#!/bin/sh\necho \"$@\" >>\"${0%/*}/../kargs\"\n")
	return m
}

func (m machine) stage(t *testing.T, name string) {
	t.Helper()
	cmd := exec.Command(m.binary, "--platform", "metal", "--stage", name, "--root", m.root, "--log-to-stdout",
		"--config-cache", filepath.Join(m.work, "cache.json"), "--state-file", filepath.Join(m.work, "state"), "--neednet", m.neednet)
	cmd.Env = []string{
		"PATH=" + filepath.Join(m.work, "bin") + ":/usr/sbin:/usr/bin:/sbin:/bin",
		"IGNITION_KERNEL_CMDLINE_PATH=" + filepath.Join(m.work, "cmdline"), "IGNITION_SYSTEM_CONFIG_DIR=" + m.system,
		"IGNITION_SYSTEM_RUNTIME_CONFIG_DIR=" + filepath.Join(m.work, "none"), "IGNITION_SYSTEM_LOCAL_CONFIG_DIR=" + filepath.Join(m.work, "none"),
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n… %s", name, err, out[max(0, len(out)-1000):]) // it logs the whole config first
	}
}

// kernelArguments is what the helper was asked to add.
func (m machine) kernelArguments(t *testing.T) string {
	t.Helper()
	asked, err := os.ReadFile(filepath.Join(m.work, "kargs"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.TrimSpace(strings.ReplaceAll(" "+string(asked), " --should-exist ", " "))
}

// checkPrograms has the shell read every script, and systemd every unit.
func (m machine) checkPrograms(t *testing.T) {
	t.Helper()
	scripts, err := filepath.Glob(filepath.Join(m.root, "usr/local/bin/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range scripts {
		if out, err := exec.Command("/bin/sh", "-n", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
	units, err := filepath.Glob(filepath.Join(m.root, "etc/systemd/system/*.service"))
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"verify", "--man=no"}
	for _, path := range units {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		// systemd looks for the programs on the host, where ours are not.
		text := ourProgram.ReplaceAll(data, []byte("=/bin/true"))
		copied := filepath.Join(m.work, filepath.Base(path))
		if err := os.WriteFile(copied, text, 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, copied)
	}
	if len(units) == 0 {
		return
	}
	if out, err := exec.Command("systemd-analyze", args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

var ourProgram = regexp.MustCompile(`(?m)=/usr/local/bin/metalrise\S*`)

// shadowDay is the day a password was set.
var shadowDay = regexp.MustCompile(`(?m)^(core:[^:]*):\d+:`)

// listing shows everything below the root: mode, owner and path, then the
// content, indented.
func (m machine) listing(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(m.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch name := d.Name(); {
		case strings.HasSuffix(name, "-"), name == ".pwd.lock", name == ".ignition-result.json":
			return nil // useradd's copies and Ignition's diary: not of the config
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		own := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&b, "%s %d:%d %s\n", info.Mode(), own.Uid, own.Gid, "/"+strings.TrimPrefix(strings.TrimPrefix(path, m.root), "/"))
		if info.Mode().Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			fmt.Fprintf(&b, "    -> %s\n", target)
			return err
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if d.Name() == "shadow" {
			data = shadowDay.ReplaceAll(data, []byte("$1:DAY:"))
		}
		for line := range strings.Lines(string(data)) {
			fmt.Fprintln(&b, strings.TrimRight("    "+line, " \n"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
