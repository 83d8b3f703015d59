package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"metalrise.dev/lab/machine"
)

// plan is all that the machine's first process needs to know. It is handed
// over on a pipe, as the Ignition config in it may hold secrets.
type plan struct {
	Spec     machine.Spec
	BootID   string
	Console  string // device node of the console's far end on the host
	Stage    string // an empty folder of the host, to mount over
	Ignition string // the real Ignition program
	Cgroups  []cgroupMount
	Disks    []blockNode
	Optical  *blockNode
	Live     *liveSystem
	Systems  []diskSystem // in the order in which they are tried
}

// cgroupMount is one control group tree to mount inside.
type cgroupMount struct {
	Name    string // folder below /sys/fs/cgroup; "" is that folder itself
	Options string // "" for version 2
}

// blockNode is a block device of the machine.
type blockNode struct {
	Name  string // "sda"
	Minor int    // of the loop device behind it
	Size  int64  // bytes
	Label string // volume label, of an optical medium
}

// liveSystem is a system on a boot medium.
type liveSystem struct {
	Args     []string
	Root     int // loop device over the squashfs image
	Embedded embedded
}

// diskSystem is a disk that may hold an installed system.
type diskSystem struct {
	Disk       string
	Boot, Root diskPart // Root as it will be when the system is booted
	RootSize   int64    // of Root's partition as it is on the disk, bytes
}

// diskPart is a partition of a diskSystem.
type diskPart struct {
	Number int
	Minor  int
	Start  int64 // bytes
	Size   int64 // bytes
}

// notBootable says why firmware found nothing to start.
type notBootable struct{ why string }

func (n *notBootable) Error() string { return "not bootable: " + n.why }

// firmware finds what to boot and attaches the disks.
func (r *run) firmware(ctx context.Context, from machine.BootSource) (*plan, error) {
	p := &plan{Spec: r.m.spec, Ignition: r.m.ignition}
	for i, d := range r.m.spec.Disks {
		l, err := r.attach(r.m.diskFile(d), 0, d.SizeBytes, false)
		if err != nil {
			return nil, err
		}
		p.Disks = append(p.Disks, blockNode{Name: diskName(i), Minor: l.Minor, Size: d.SizeBytes})
	}
	var err error
	if from.ISO != "" {
		if err = r.insert(p, from.ISO); err != nil {
			return nil, err
		}
	}
	switch from.Kind {
	case machine.FromMedia:
		p.Live, err = r.fromMedia(ctx, from.ISO)
	case machine.FromDisk:
		p.Systems, err = r.fromDisk(p.Disks)
	default:
		err = fmt.Errorf("boot source %q is not known", from.Kind)
	}
	return p, err
}

func diskName(i int) string { return "sd" + string(rune('a'+i)) }

// insert makes the medium readable as /dev/sr0.
func (r *run) insert(p *plan, iso string) error {
	st, err := os.Stat(iso)
	if err != nil {
		return fmt.Errorf("insert medium: %w", err)
	}
	l, err := r.attach(iso, 0, 0, true)
	if err != nil {
		return fmt.Errorf("insert medium: %w", err)
	}
	p.Optical = &blockNode{Name: "sr0", Minor: l.Minor, Size: st.Size()}
	f, err := os.Open(iso)
	if err != nil {
		return fmt.Errorf("insert medium: %w", err)
	}
	defer f.Close()
	if img, err := openISO(f); err == nil {
		p.Optical.Label = img.Label
	}
	return nil
}

// fromMedia reads a live medium as firmware, boot loader and the first lines of
// its initramfs would.
func (r *run) fromMedia(ctx context.Context, iso string) (*liveSystem, error) {
	if iso == "" {
		return nil, &notBootable{"no medium is inserted"}
	}
	f, err := os.Open(iso)
	if err != nil {
		return nil, fmt.Errorf("read medium: %w", err)
	}
	defer f.Close()
	img, err := openISO(f)
	if err != nil {
		return nil, &notBootable{err.Error()}
	}
	entry, err := mediaKernel(img, r.m.spec.Firmware)
	if err != nil {
		return nil, &notBootable{err.Error()}
	}
	if _, err := img.find(entry.Kernel); err != nil {
		return nil, &notBootable{err.Error()}
	}
	area, err := mediaArea(img)
	if err != nil {
		return nil, &notBootable{err.Error()}
	}
	file, e := iso, isoEntry{}
	fetched, err := r.fetchRoot(ctx, img, entry.Args, area)
	if err == nil && fetched == "" {
		e, err = img.find("/images/pxeboot/rootfs.img")
	}
	if err != nil {
		return nil, &notBootable{err.Error()}
	}
	if fetched != "" {
		file = fetched
		if f, err = os.Open(file); err != nil {
			return nil, err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		e.size = st.Size()
	}
	name, offset, size, err := firstMember(f, e.offset)
	if err != nil || path.Base(name) != "root.squashfs" || offset+size > e.offset+e.size {
		return nil, &notBootable{fmt.Sprintf("rootfs.img: first member %q, %d bytes at %d, is no root.squashfs inside it (%v)", name, size, offset, err)}
	}
	l, err := r.attach(file, offset, size, true)
	if err != nil {
		return nil, err
	}
	return &liveSystem{Args: entry.Args, Root: l.Minor, Embedded: area}, nil
}

const maxBootText = 1 << 20 // bytes of a boot loader configuration

func mediaKernel(img *isoImage, firmware string) (kernelEntry, error) {
	if firmware == "bios" {
		b, err := img.read("/isolinux/isolinux.cfg", maxBootText)
		if err != nil {
			return kernelEntry{}, err
		}
		return isolinuxEntry(string(b))
	}
	b, err := img.read("/EFI/*/grub.cfg", maxBootText)
	if err != nil {
		return kernelEntry{}, err
	}
	exists := func(p string) bool { _, err := img.find(p); return err == nil }
	return runGRUB(string(b), exists, func(p string) (string, error) {
		b, err := img.read(p, maxBootText)
		return string(b), err
	})
}

// mediaArea returns what is in the medium's embed area. /coreos/igninfo.json names the area, as on CoreOS media.
func mediaArea(img *isoImage) (embedded, error) {
	info := struct {
		File           string
		Offset, Length int64
	}{File: "images/ignition.img"}
	b, err := img.read("/coreos/igninfo.json", maxBootText)
	if err == nil {
		if err := json.Unmarshal(b, &info); err != nil {
			return embedded{}, fmt.Errorf("igninfo.json: %w", err)
		}
	}
	e, err := img.find(info.File)
	if err != nil {
		return embedded{}, err
	}
	if info.Length == 0 {
		info.Length = e.size - info.Offset
	}
	if info.Offset < 0 || info.Offset > e.size || info.Length < 0 || info.Length > min(maxEmbedArea, e.size-info.Offset) {
		return embedded{}, fmt.Errorf("igninfo.json: area at %d of %d bytes is outside %s (%d bytes)", info.Offset, info.Length, info.File, e.size)
	}
	area := make([]byte, info.Length)
	if _, err := img.r.ReadAt(area, e.offset+info.Offset); err != nil {
		return embedded{}, fmt.Errorf("read embed area: %w", err)
	}
	return openArea(area)
}

// fromDisk lists the disks that are partitioned as an installed system is.
// Whether one can be started is seen when its boot file system is mounted.
func (r *run) fromDisk(disks []blockNode) ([]diskSystem, error) {
	var all []diskSystem
	for i, d := range r.m.spec.Disks {
		f, err := os.Open(r.m.diskFile(d))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		parts, err := readGPT(f, d.SizeBytes)
		f.Close()
		if err != nil {
			r.out.say("firmware: disk %s: %v", d.Serial, err)
			continue
		}
		s := diskSystem{Disk: disks[i].Name}
		complete := true
		for name, into := range map[string]*diskPart{"boot": &s.Boot, "root": &s.Root} {
			q, ok := partitionNamed(parts, name)
			if !ok {
				complete = false
				continue
			}
			*into = diskPart{Number: q.Number, Start: q.Start, Size: q.Size}
			if into == &s.Root {
				s.RootSize, s.Root.Size = q.Size, grownRoot(parts, q, d.SizeBytes)
			}
		}
		if !complete {
			r.out.say("firmware: disk %s: no partitions named boot and root", d.Serial)
			continue
		}
		for _, part := range []*diskPart{&s.Boot, &s.Root} {
			l, err := r.attach(r.m.diskFile(d), part.Start, part.Size, false)
			if err != nil {
				return nil, err
			}
			part.Minor = l.Minor
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		return nil, &notBootable{"no disk holds a system"}
	}
	return slices.Clip(all), nil
}
