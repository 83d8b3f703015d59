package netboot

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestLay(t *testing.T) {
	now := time.Now()
	some := OfBytes([]byte("x"))
	good := Boot{Guest: "n1", Kernel: some, Initrds: []Source{some, some}, RootFS: some, Image: some, ImageName: "snponly.efi", Until: now.Add(time.Hour)}
	derive := func(purpose string) string { return hex.EncodeToString([]byte(purpose + strings.Repeat("-", 32)))[:32] }
	s := NewShelf()
	laid, err := good.Lay(s, "http://192.0.2.1:8081", derive, now)
	if err != nil || len(laid.Keys) != 6 || laid.Script != "http://192.0.2.1:8081"+Path(derive("boot.ipxe"), "boot.ipxe") || laid.Image != "http://192.0.2.1:8081"+Path(derive("snponly.efi"), "snponly.efi") {
		t.Fatalf("laid %+v, %v", laid, err)
	}
	it, err := s.Item(derive("boot.ipxe"), "boot.ipxe", netip.Addr{}, now)
	if err != nil {
		t.Fatal(err)
	}
	c, _ := it.Open()
	script := make([]byte, c.Size)
	_, _ = c.Body.ReadAt(script, 0)
	for _, name := range []string{"vmlinuz", "initrd0.img", "initrd1.img", "rootfs.img"} {
		address := "http://192.0.2.1:8081" + Path(derive(name), name)
		if !strings.Contains(string(script), address) {
			t.Errorf("the script lacks %s:\n%s", address, script)
		}
		if _, err := s.Item(derive(name), name, netip.Addr{}, now); err != nil {
			t.Errorf("%s is not on the shelf", name)
		}
	}
	for name, change := range map[string]func(*Boot){
		"nothing":     func(b *Boot) { b.Kernel, b.Image = nil, nil },
		"late":        func(b *Boot) { b.Until = now },
		"image name":  func(b *Boot) { b.ImageName = "a/b" },
		"bad initrds": func(b *Boot) { b.Initrds = make([]Source, 20) },
		"bad args":    func(b *Boot) { b.Args = []Arg{{}} },
	} {
		b, s := good, NewShelf()
		change(&b)
		if laid, err := b.Lay(s, "http://192.0.2.1", nil, now); err == nil || len(s.items) != 0 {
			t.Errorf("%s: laid %+v, %v, %d items stay", name, laid, err, len(s.items))
		}
	}
	if _, err := good.Lay(NewShelf(), "http://192.0.2.1/a b", nil, now); err == nil {
		t.Error("a base that is no address was taken")
	}
}
