package guest

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Module is a kernel module that the guest loads when it boots.
type Module struct {
	Name string // file name: "virtio_net.ko"
	Data []byte // uncompressed
}

// Modules lists the modules of Debian's cloud kernel that a guest needs, each
// after those that it needs itself. A kernel that has one of them built in has
// no file of it, and that is fine.
func Modules() []string {
	return []string{
		"virtio_ring.ko", "virtio.ko", "virtio_pci_modern_dev.ko", "virtio_pci_legacy_dev.ko", "virtio_pci.ko",
		"virtio_blk.ko", "failover.ko", "net_failover.ko", "virtio_net.ko",
		"evdev.ko", "button.ko",
	}
}

// moduleFolder and moduleList are where the guest finds them, in the order in
// which they are loaded.
const (
	moduleFolder = "/modules/"
	moduleList   = "/modules.list"
)

// Pack writes the initial RAM file system of a guest: a gzip-compressed cpio
// archive (form newc, as of the kernel's Documentation/driver-api/early-userspace/buffer-format.rst)
// with the program as /init and the modules. The same input gives the same
// bytes.
func Pack(w io.Writer, program []byte, modules []Module) error {
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return fmt.Errorf("pack the guest: its program: %w", err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("pack the guest: its program is not static, build it with CGO_ENABLED=0")
		}
	}
	z := gzip.NewWriter(w)
	c := &cpio{w: z}
	for _, dir := range []string{"dev", "proc", "sys", "modules"} {
		c.entry(dir, 0o040755, nil)
	}
	// The kernel opens the console for its first process before devtmpfs is there.
	c.device("dev/console", 0o020600, 5, 1)
	c.entry("init", 0o100755, program)
	var list strings.Builder
	for _, m := range modules {
		if m.Name == "" || strings.ContainsAny(m.Name, "/\n") {
			return fmt.Errorf("pack the guest: %q is no name of a module", m.Name)
		}
		list.WriteString(m.Name + "\n")
		c.entry(strings.TrimPrefix(moduleFolder, "/")+m.Name, 0o100644, m.Data)
	}
	c.entry(strings.TrimPrefix(moduleList, "/"), 0o100644, []byte(list.String()))
	c.entry("TRAILER!!!", 0, nil)
	if c.err != nil {
		return fmt.Errorf("pack the guest: %w", c.err)
	}
	return z.Close()
}

// cpio writes an archive and keeps the first error.
type cpio struct {
	w     io.Writer
	inode int
	err   error
}

func (c *cpio) entry(name string, mode int, data []byte) { c.write(name, mode, 0, 0, data) }

func (c *cpio) device(name string, mode, major, minor int) { c.write(name, mode, major, minor, nil) }

func (c *cpio) write(name string, mode, major, minor int, data []byte) {
	c.inode++
	header := "070701"
	for _, n := range []int{c.inode, mode, 0, 0, 1, 0, len(data), 0, 0, major, minor, len(name) + 1, 0} {
		header += fmt.Sprintf("%08X", n)
	}
	c.put([]byte(header + name + "\x00"))
	c.put(make([]byte, -(len(header)+len(name)+1)&3))
	c.put(data)
	c.put(make([]byte, -len(data)&3))
}

func (c *cpio) put(b []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(b)
	}
}
