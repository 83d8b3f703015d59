package nodeimage

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The script that mounts the live root runs in a folder, with programs in place
// of those that fetch and mount.
func TestLiveRootThatIsFetchedHasTheDigestOfTheMedium(t *testing.T) {
	const image = "a root file system"
	good := fmt.Sprintf("%x", sha256.Sum256([]byte(image)))
	for _, c := range []struct {
		name, digest string // of the medium; "" for none
		mounted      bool
	}{
		{"no digest", "", false},
		{"equal", good + "\n", true},
		{"equal, with a file name", good + "  rootfs.img\n", true},
		{"another", strings.Repeat("0", 64) + "\n", false},
		{"nonsense", "not a digest\n", false},
		{"empty", "\n", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			script, err := text("files/dracut/35lab-node/live-root")
			if err != nil {
				t.Fatal(err)
			}
			for _, top := range []string{"/proc", "/etc", "/run", "/sysroot", "/dev/disk", "/root.squashfs"} {
				script = strings.ReplaceAll(script, top, dir+top)
			}
			put := func(name, content string, mode os.FileMode) {
				t.Helper()
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), mode); err != nil {
					t.Fatal(err)
				}
			}
			put("live-root", script, 0o755)
			put("proc/cmdline", "quiet coreos.live.rootfs_url=https://192.0.2.1/rootfs.img\n", 0o644)
			put("bin/modprobe", "#!/bin/sh\n", 0o755)
			put("bin/mount", "#!/bin/sh\necho \"$@\" >> "+dir+"/mounts\n", 0o755)
			put("bin/curl", "#!/bin/sh\nwhile [ $# -gt 0 ]; do [ \"$1\" = -o ] && printf '"+image+"' > \"$2\"; shift; done\n", 0o755)
			if c.digest != "" {
				put("etc/rootfs.sha256", c.digest, 0o644)
			}
			cmd := exec.Command("bash", filepath.Join(dir, "live-root"))
			cmd.Env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			mounts, _ := os.ReadFile(filepath.Join(dir, "mounts"))
			mounted := strings.Contains(string(mounts), "squashfs")
			if mounted != c.mounted || (err == nil) != c.mounted {
				t.Errorf("mounted %v, %v; want %v\n%s", mounted, err, c.mounted, out)
			}
			want := "no live root: https://192.0.2.1/rootfs.img"
			if c.digest == "" {
				want = "no live root: this initramfs does not say which one belongs to it"
			}
			if !c.mounted && !strings.Contains(string(out), want) {
				t.Errorf("it does not say why: %s", out)
			}
		})
	}
}
