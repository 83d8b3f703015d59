package netboot

import (
	"strings"
	"testing"
)

func TestScript(t *testing.T) {
	args, err := ParseArgs("console=ttyS0,115200n8", "quiet", "ip=[fd00::1]:::64", "a.b-c_d=/x:y@z+1%~")
	if err != nil {
		t.Fatal(err)
	}
	root, err := LiveRootFS("http://192.0.2.1/b/k/rootfs.img")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Script{Kernel: "http://192.0.2.1/b/k1/vmlinuz", Initrds: []string{"http://192.0.2.1/b/k2/initrd.img", "http://192.0.2.1/b/k3/config.img"}, Args: append(args, root)}.Render()
	if err != nil {
		t.Fatal(err)
	}
	want := `#!ipxe
:try1
imgfree
kernel --name kernel http://192.0.2.1/b/k1/vmlinuz initrd=initrd0 initrd=initrd1 console=ttyS0,115200n8 quiet ip=[fd00::1]:::64 a.b-c_d=/x:y@z+1%~ coreos.live.rootfs_url=http://192.0.2.1/b/k/rootfs.img || goto failed1
initrd --name initrd0 http://192.0.2.1/b/k2/initrd.img || goto failed1
initrd --name initrd1 http://192.0.2.1/b/k3/config.img || goto failed1
boot || goto failed1
:failed1
echo metalrise: try 1 of 5 did not work
sleep 2
:try2
`
	if !strings.HasPrefix(string(got), want) || !strings.HasSuffix(string(got), "sleep 10\nimgfree\nexit 1\n") {
		t.Errorf("got\n%s", got)
	}
	for name, s := range map[string]Script{
		"no kernel":     {},
		"bad kernel":    {Kernel: "http://192.0.2.1/x y"},
		"two lines":     {Kernel: "http://192.0.2.1/x\nshell"},
		"bad initrd":    {Kernel: "http://192.0.2.1/x", Initrds: []string{"/etc/passwd"}},
		"many initrds":  {Kernel: "http://192.0.2.1/x", Initrds: make([]string, 20)},
		"zero argument": {Kernel: "http://192.0.2.1/x", Args: []Arg{{}}},
		"long line":     {Kernel: "http://192.0.2.1/x", Args: repeated(t, 5)},
	} {
		if b, err := s.Render(); err == nil {
			t.Errorf("%s:\n%s", name, b)
		}
	}
	if _, err := Chain("http://192.0.2.1/a;b"); err == nil {
		t.Error("a chain to anywhere")
	}
}

// repeated is n long arguments.
func repeated(t *testing.T, n int) []Arg {
	a, err := ParseArg("x=" + strings.Repeat("y", 500))
	if err != nil {
		t.Fatal(err)
	}
	out := make([]Arg, n)
	for i := range out {
		out[i] = a
	}
	return out
}

func TestArgs(t *testing.T) {
	for _, bad := range []string{"", "=x", "1x", "-x", "a b", "a=b c", "a=$x", "a=${x}", "a=b;c", "a=b&&c", "a=b|c", "a='b'", `a="b"`, `a=b\c`, "a=b#c", "a=b\nc", "a=\x00",
		"a=ä", "a=b`c", "a=<b", "a=(b)", "a\x7f=b", "a=" + strings.Repeat("x", 600)} {
		if a, err := ParseArg(bad); err == nil {
			t.Errorf("%q became %q", bad, a)
		}
	}
	if _, err := ParseArgs(strings.Split(strings.Repeat("a="+strings.Repeat("b", 400)+" ", 6), " ")[:6]...); err == nil || !strings.Contains(err.Error(), "2047") {
		t.Errorf("a line that is too long: %v", err)
	}
}

func FuzzArg(f *testing.F) {
	f.Add("console=ttyS0,115200n8")
	f.Add("a=${b}")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseArg(s)
		if err != nil {
			return
		}
		b, err := Script{Kernel: "http://192.0.2.1/x", Args: []Arg{a}}.Render()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(b), "\n") != 1+7*tries+2 {
			t.Fatalf("%q changed the script's lines:\n%s", s, b)
		}
		if strings.ContainsAny(a.String(), " \t\n\r${}#;&|\"'\\`<>()") {
			t.Fatalf("%q got through", s)
		}
	})
}
