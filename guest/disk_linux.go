package guest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	diskWait  = 20 * time.Second // until a disk that was ordered is there
	cloudSize = 2 << 20          // of a cloud-init disk that is looked through; they have less than half of it
)

// disk finds a block device by its serial.
func disk(serial string) (string, error) {
	for until := time.Now().Add(diskWait); ; time.Sleep(100 * time.Millisecond) {
		found, err := filepath.Glob("/sys/block/*/serial")
		if err != nil {
			return "", err
		}
		for _, path := range found {
			if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == serial {
				return "/dev/" + filepath.Base(filepath.Dir(path)), nil
			}
		}
		if time.Now().After(until) {
			return "", fmt.Errorf("there is no disk with the serial %s", serial)
		}
	}
}

// useDisk reads and writes the ordered disk past the kernel's cache, so that
// what is read back comes from the disk.
func (g *machine) useDisk() {
	name, err := disk(g.orders.Disk)
	if err != nil {
		g.fault(err)
		return
	}
	f, err := os.OpenFile(name, os.O_RDWR|syscall.O_DIRECT|syscall.O_SYNC, 0)
	if err != nil {
		g.fault(err)
		return
	}
	defer f.Close()
	buffer, err := syscall.Mmap(-1, 0, patternSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE) // aligned, as O_DIRECT asks
	if err != nil {
		g.fault(err)
		return
	}
	defer syscall.Munmap(buffer)
	g.fault(keep(f, Mark{g.orders.Mark, g.boot}, buffer, func(found, holds Mark) {
		g.say(func(b *Beat) { b.Found, b.Holds = found, holds })
	}))
}

func (g *machine) readCloud() {
	name, err := disk(g.orders.Cloud)
	if err != nil {
		g.fault(err)
		return
	}
	f, err := os.Open(name)
	if err != nil {
		g.fault(err)
		return
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, cloudSize))
	if err != nil {
		g.fault(fmt.Errorf("read the cloud-init disk: %w", err))
		return
	}
	instance, user := cloudWords(b)
	if instance == "" {
		g.fault(fmt.Errorf("the cloud-init disk names no instance"))
	}
	g.say(func(b *Beat) { b.Cloud, b.User = instance, user })
}
