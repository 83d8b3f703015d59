package netboot

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"
)

// Source opens a content anew for each request; OfBytes and OfFile make some.
type Source = func() (Content, error)

// Boot is all that one machine fetches from us over HTTP.
type Boot struct {
	Guest   string // the server's name
	Kernel  Source
	Initrds []Source // in the order in which the kernel unpacks them
	Args    []Arg
	// RootFS is the live system's root, which it fetches itself
	// (coreos.live.rootfs_url); nil when the initial RAM disks hold it.
	RootFS Source

	// Image is for UEFI's HTTP client, or nil: an EFI program or a disc image, as
	// ImageName says by its ending (".efi" or ".iso").
	Image     Source
	ImageName string

	Until time.Time
	Peer  netip.Addr // the only address that may fetch; zero: any
}

// Laid is what became of a Boot: the addresses for a Guest, and the keys to drop
// when the machine is done.
type Laid struct {
	Script, Image string
	Keys          []string
}

// Lay puts a Boot on the shelf. base is where the shelf is served,
// "http://10.0.0.1:8081". key makes the key for a purpose of this machine:
// derived from a secret it is the same after a restart, so that a machine that is
// under way still finds what it was told; nil makes random ones. After an error
// nothing of it stays on the shelf.
func (b Boot) Lay(s *Shelf, base string, key func(purpose string) string, now time.Time) (Laid, error) {
	if b.Kernel == nil && b.Image == nil {
		return Laid{}, errors.New("lay boot of " + b.Guest + ": neither kernel nor image")
	}
	if key == nil {
		key = func(string) string { return NewKey() }
	}
	var out Laid
	var first error
	put := func(name string, open Source) string {
		if first != nil {
			return ""
		}
		k := key(name)
		if first = s.Put(k, Item{Name: name, Guest: b.Guest, Open: open, Until: b.Until, Peer: b.Peer}, now); first != nil {
			return ""
		}
		out.Keys = append(out.Keys, k)
		return base + Path(k, name)
	}
	if b.Kernel != nil {
		script, err := b.script(put)
		if err != nil && first == nil {
			first = err
		}
		out.Script = put("boot.ipxe", OfBytes(script))
	}
	if b.Image != nil {
		out.Image = put(b.ImageName, b.Image)
	}
	if first != nil {
		for _, k := range out.Keys {
			s.Drop(k)
		}
		return Laid{}, fmt.Errorf("lay boot of %s: %w", b.Guest, first)
	}
	return out, nil
}

// script puts what the script names, and makes it.
func (b Boot) script(put func(string, Source) string) ([]byte, error) {
	sc := Script{Kernel: put("vmlinuz", b.Kernel), Args: b.Args}
	for i, open := range b.Initrds {
		sc.Initrds = append(sc.Initrds, put("initrd"+strconv.Itoa(i)+".img", open))
	}
	if b.RootFS != nil {
		root, err := LiveRootFS(put("rootfs.img", b.RootFS))
		if err != nil {
			return nil, err
		}
		sc.Args = append(append([]Arg(nil), b.Args...), root)
	}
	return sc.Render()
}
