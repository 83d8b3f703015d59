package container

import (
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

const (
	// worthGrowing is how much free space behind the root partition is worth it:
	// less is what alignment and the backup table leave.
	worthGrowing = 16 << 20
	// gptTail is what the backup table takes at a disk's end, rounded up to the
	// alignment of partitions.
	gptTail = 1 << 20
)

// grownRoot returns the size that the partition of the root file system can have
// on a disk of diskSize bytes: that of now, unless nothing but free space follows.
func grownRoot(parts []partition, root partition, diskSize int64) int64 {
	for _, p := range parts {
		if p.Start > root.Start {
			return root.Size
		}
	}
	if grown := diskSize - gptTail - root.Start; grown-root.Size >= worthGrowing {
		return grown
	}
	return root.Size
}

// growRoot does what the initramfs of CoreOS-like systems does when their image
// was written to a larger disk: the last partition and the file system in it take
// the whole of the disk. Running it again changes nothing. Nothing is mounted
// then, as a mounted file system grows only for a process with CAP_SYS_RESOURCE,
// which a lab may lack.
func growRoot(d diskSystem) error {
	if d.RootSize == d.Root.Size {
		return nil
	}
	disk, number := "/dev/"+d.Disk, strconv.Itoa(d.Root.Number)
	out, err := exec.Command("sgdisk", "-i", number, disk).CombinedOutput()
	if err != nil {
		return fmt.Errorf("sgdisk: %w: %s", err, out)
	}
	unique := regexp.MustCompile(`(?m)^Partition unique GUID: (\S+)`).FindSubmatch(out)
	if unique == nil {
		return fmt.Errorf("sgdisk shows no partition %s: %s", number, out)
	}
	first, last := d.Root.Start/gptSector, (d.Root.Start+d.Root.Size)/gptSector-1
	for _, step := range []struct {
		fine int // the greatest exit code that is no fault
		argv []string
	}{
		// 4: the table is written, only the kernel was not told, which has none of
		// its own for this kind of disk.
		{4, []string{"sgdisk", "-e", "-d", number, "-n", fmt.Sprintf("%s:%d:%d", number, first, last), "-t", number + ":8300",
			"-c", number + ":root", "-u", number + ":" + string(unique[1]), disk}},
		{1, []string{"e2fsck", "-f", "-y", d.Root.node(d.Disk)}}, // 1: errors were corrected
		{0, []string{"resize2fs", d.Root.node(d.Disk)}},
	} {
		out, err := exec.Command(step.argv[0], step.argv[1:]...).CombinedOutput()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() > 0 && exit.ExitCode() <= step.fine {
			err = nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w: %s", step.argv[0], err, out)
		}
	}
	return nil
}
