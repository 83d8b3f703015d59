package agent

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"metalrise.dev/agent/internal/fixture"
	"metalrise.dev/fleet"
)

const mib = 1 << 20

// machineTree is a folder that describes a machine with several disks.
func machineTree(t *testing.T) (*Machine, string) {
	t.Helper()
	root := t.TempDir()
	fixture.Write(t, root, map[string]string{
		"sys/class/dmi/id/product_uuid":                                            "4C4C4544-0042-4810-8051-B4C04F4E5131\n",
		"sys/class/dmi/id/product_serial":                                          "ABC123 \n",
		"sys/class/dmi/id/sys_vendor":                                              "Acme\n",
		"sys/class/dmi/id/product_name":                                            "Rack 1\n",
		"sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c": "\x06\x00\x00\x00\x01",
		"proc/cpuinfo": "processor\t: 0\nphysical id\t: 0\ncore id\t\t: 0\nmodel name\t: Fast\nflags\t\t: fpu vmx avx2 foo\nvmx flags\t: ept vnmi\n\n" +
			"processor\t: 1\nphysical id\t: 0\ncore id\t\t: 0\n\nprocessor\t: 2\nphysical id\t: 1\ncore id\t\t: 0\n\nprocessor\t: 3\nphysical id\t: 1\ncore id\t\t: 1\n",
		"proc/meminfo":        "MemTotal:       16384000 kB\n",
		"proc/cmdline":        "quiet coreos.liveiso=live-42\n",
		"proc/self/mountinfo": "30 1 8:33 / /data rw - ext4 /dev/sdc1 rw\n",
		"proc/swaps":          "Filename Type\n/dev/sdd2 partition\n",
		"etc/os-release":      "NAME=x\nPRETTY_NAME=\"Live Linux 1\"\n",
		"sys/module/kvm/x":    "", "sys/module/tun/x": "",

		"sys/class/net/lo/type": "772", "sys/class/net/eno1/type": "1", "sys/class/net/eno1/address": "AA:BB:CC:00:00:01",
		"sys/class/net/eno1/carrier": "1", "sys/class/net/eno1/speed": "25000", "sys/class/net/eno1/device/vendor": "x",
		"sys/class/net/eno2/type": "1", "sys/class/net/eno2/address": "aa:bb:cc:00:00:01", "sys/class/net/eno2/device/vendor": "x",
		"sys/class/net/eno2/bonding_slave/perm_hwaddr": "aa:bb:cc:00:00:02", "sys/class/net/eno2/speed": "-1",
		"sys/class/net/bond0/type": "1", "sys/class/net/bond0/address": "aa:bb:cc:00:00:01", "sys/class/net/bond0/bonding/mode": "x",
		"sys/class/net/veth9/type": "1", "sys/class/net/veth9/address": "aa:bb:cc:00:00:09",
	})
	link := filepath.Join(root, "sys/class/net/eno1/device/driver")
	if err := os.Symlink("/sys/bus/pci/drivers/ice", link); err != nil {
		t.Fatal(err)
	}
	naa, err := hex.DecodeString("5000c500a1b2c3d4")
	if err != nil {
		t.Fatal(err)
	}
	vpd83 := append([]byte{0, 0x83, 0, 12, 1, 3, 0, 8}, naa...)
	disk(t, root, "sda", 8*mib, map[string]string{"device/vpd_pg80": "\x00\x80\x00\x08  SER-A ", "device/vpd_pg83": string(vpd83), "device/model": "BIG DISK  ", "queue/rotational": "1"})
	disk(t, root, "sdb", 8*mib, map[string]string{"device/wwid": "naa.5000C500A1B2C3D5", "device/serial": "SER-B", "ro": "1"})
	disk(t, root, "sdc", 8*mib, map[string]string{"dev": "8:32", "sdc1/partition": "1", "sdc1/dev": "8:33", "device/serial": "SER-C"})
	disk(t, root, "sdd", 8*mib, map[string]string{"dev": "8:48", "sdd2/partition": "2", "sdd2/dev": "8:50", "device/serial": "SER-D"})
	disk(t, root, "sde", 8*mib, map[string]string{"device/serial": "SER-E", "sde1/partition": "1", "sde1/holders/dm-0": ""})
	disk(t, root, "sdf", 8*mib, map[string]string{"dev": "8:80"})
	fixture.Write(t, root, map[string]string{"run/udev/data/b8:80": "S:disk\nE:ID_SERIAL_SHORT=SER-F\nE:ID_WWN=0x5000c500a1b2c3d6\nE:ID_WWN_WITH_EXTENSION=0x5000c500a1b2c3d60000000000000001\n"})
	disk(t, root, "nvme0n1", 8*mib, map[string]string{"wwid": "eui.0025385b71b02a4f", "device/serial": "SER-N   ", "queue/rotational": "0"})
	disk(t, root, "vda", 8*mib, map[string]string{"serial": "SER-V"})
	disk(t, root, "sdg", 8*mib, map[string]string{"device/serial": "SAME"})
	disk(t, root, "sdh", 8*mib, map[string]string{"device/serial": "SAME"})
	disk(t, root, "sdi", 8*mib, map[string]string{"removable": "1", "device/serial": "STICK"})
	for _, name := range []string{"loop0", "zram0", "sr0", "dm-1", "md127", "nbd0"} {
		disk(t, root, name, mib, nil)
	}
	disk(t, root, "sdz", 0, map[string]string{"device/serial": "EMPTY-READER"})
	return NewHost(root), root
}

func disk(t *testing.T, root, name string, size int64, files map[string]string) {
	t.Helper()
	all := map[string]string{"size": fixture.Itoa(size / 512), "ro": "0", "removable": "0", "queue/logical_block_size": "512"}
	for k, v := range files {
		all[k] = v
	}
	in := map[string]string{}
	for k, v := range all {
		in["sys/block/"+name+"/"+k] = v
	}
	fixture.Write(t, root, in)
	fixture.Sparse(t, filepath.Join(root, "dev", name), size)
}

func put(t *testing.T, root, dev string, off int64, data string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(root, "dev", dev), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(data), off); err != nil {
		t.Fatal(err)
	}
}

func TestLook(t *testing.T) {
	m, root := machineTree(t)
	put(t, root, "sdi", 32769, "CD001")
	put(t, root, "sdi", 32808, "live-42                         ")
	f := m.Look(t.Context())
	if f.Source != fleet.SeenByAgent || f.Identity.Serial != "ABC123" || f.Identity.UUID != "4c4c4544-0042-4810-8051-b4c04f4e5131" {
		t.Errorf("identity %+v of %s", f.Identity, f.Source)
	}
	if f.BootMode.Or("") != "uefi" || !f.SecureBoot.Or(false) || f.MemoryMiB.Or(0) != 16000 || f.OS.Or("") != "Live Linux 1" {
		t.Errorf("boot %s, secure %s, memory %s, os %s", f.BootMode, f.SecureBoot, f.MemoryMiB, f.OS)
	}
	if f.CPU.Sockets.Or(0) != 2 || f.CPU.Cores.Or(0) != 3 || f.CPU.Threads.Or(0) != 4 || !f.CPU.Virtualization.Or(false) {
		t.Errorf("cpu %+v", f.CPU)
	}
	if want := []string{"avx2", "ept", "vmx", "vnmi"}; !slices.Equal(f.CPU.Flags, want) {
		t.Errorf("flags %q, want %q", f.CPU.Flags, want)
	}
	kvm, _ := f.KVM.Get()
	if !slices.Equal(kvm.Modules, []string{"kvm", "tun"}) || kvm.Usable || kvm.Device || !strings.Contains(kvm.Why, "no such file") {
		t.Errorf("kvm %+v", kvm)
	}
	checkNICs(t, f.NICs)
	got := map[string][2]string{}
	for _, d := range f.Disks {
		got[strings.TrimPrefix(d.Source, "/dev/")] = [2]string{d.Serial, d.WWN}
	}
	want := map[string][2]string{
		"sda": {"SER-A", "5000c500a1b2c3d4"}, "sdb": {"SER-B", "5000c500a1b2c3d5"}, "sdc": {"SER-C", ""}, "sdd": {"SER-D", ""}, "sde": {"SER-E", ""},
		"sdf": {"SER-F", "5000c500a1b2c3d60000000000000001"}, "nvme0n1": {"SER-N", "0025385b71b02a4f"}, "vda": {"SER-V", ""},
		"sdg": {"SAME", ""}, "sdh": {"SAME", ""}, "sdi": {"STICK", ""},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("disks\n%v, want\n%v", got, want)
	}
	for _, d := range f.Disks {
		switch d.Serial {
		case "SER-A":
			if d.Media != fleet.MediaHDD || d.Model != "BIG DISK" || !slices.Equal(d.Contents, []string{"blank"}) {
				t.Errorf("disk %+v", d)
			}
		case "SER-C":
			if !slices.Contains(d.Contents, "in use: sdc1 is mounted on /data") {
				t.Errorf("contents of a mounted disk: %q", d.Contents)
			}
		case "STICK":
			if !d.Removable || !slices.Contains(d.Contents, "the running system's medium") {
				t.Errorf("the live medium: %+v", d)
			}
		}
	}
}

func checkNICs(t *testing.T, nics []fleet.NIC) {
	t.Helper()
	if len(nics) != 2 {
		t.Fatalf("%d ports: %+v", len(nics), nics)
	}
	a, b := nics[0], nics[1]
	if a.MAC != "aa:bb:cc:00:00:01" || !a.Link.Or(false) || a.SpeedMbps.Or(0) != 25000 || a.Driver != "ice" {
		t.Errorf("first port %+v", a)
	}
	if b.MAC != "aa:bb:cc:00:00:02" || b.Link.IsKnown() || b.SpeedMbps.IsKnown() {
		t.Errorf("second port %+v: want the permanent address, link and speed unknown", b)
	}
}

func TestLookWithoutPhysicalPorts(t *testing.T) {
	root := t.TempDir()
	fixture.Write(t, root, map[string]string{
		"sys/class/net/eth0/type": "1", "sys/class/net/eth0/address": "aa:bb:cc:00:00:07", "sys/class/net/eth0/uevent": "INTERFACE=eth0\n",
		"sys/class/net/vlan5/type": "1", "sys/class/net/vlan5/address": "aa:bb:cc:00:00:07", "sys/class/net/vlan5/uevent": "DEVTYPE=vlan\n",
	})
	nics := NewHost(root).Look(t.Context()).NICs
	if len(nics) != 1 || nics[0].Name != "eth0" {
		t.Errorf("ports %+v", nics)
	}
}

func TestOpenDiskRefuses(t *testing.T) {
	m, root := machineTree(t)
	if err := os.Truncate(filepath.Join(root, "dev/vda"), 4*mib); err != nil {
		t.Fatal(err)
	}
	for serial, why := range map[string]string{
		"MISSING": "not on this machine", "SER-B": "read-only", "SER-C": "mounted on /data", "SER-D": "swap space", "SER-E": "part of dm-0",
		"SAME": "2 disks", "SER-V": "a moment ago",
	} {
		_, err := m.OpenDisk(t.Context(), fleet.DiskRef{Serial: serial})
		if fleet.CodeOf(err) != fleet.CodeDiskChanged || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %s because %s", serial, err, fleet.CodeDiskChanged, why)
		}
	}
	if _, err := m.OpenDisk(t.Context(), fleet.DiskRef{Serial: "SER-A", WWN: "5000c500a1b2ffff"}); fleet.CodeOf(err) != fleet.CodeDiskChanged {
		t.Errorf("right serial, wrong wwn: %v", err)
	}
}

func TestOpenDiskSeesContents(t *testing.T) {
	m, root := machineTree(t)
	put(t, root, "sda", 512, "LABELONE")
	put(t, root, "sda", 512+24, "LVM2 001")
	d, err := m.OpenDisk(t.Context(), fleet.DiskRef{Serial: "SER-A", SizeBytes: 8 * mib})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got := d.Contents().Members(); !slices.Equal(got, []string{"LVM physical volume"}) {
		t.Errorf("foreign: %q", got)
	}
}

func TestHostDiskZeroAndSync(t *testing.T) {
	m, _ := machineTree(t)
	d, err := m.OpenDisk(t.Context(), fleet.DiskRef{Serial: "SER-A"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	p := []byte(strings.Repeat("x", 3*mib))
	if _, err := d.WriteAt(p, 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Zero(mib, mib), d.Sync()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	if p[mib-1] != 'x' || !isZero(p[mib:2*mib]) || p[2*mib] != 'x' {
		t.Error("zeroed other bytes than asked for")
	}
	if err := d.Zero(8*mib-1, 2); err == nil {
		t.Error("zeroing behind the end was allowed")
	}
}

func TestKeepAndRecall(t *testing.T) {
	m := NewHost(t.TempDir())
	if _, err := m.Recall("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("recall of nothing: %v", err)
	}
	if err := m.Keep("a", []byte("v")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(m.path("run/metalrise/agent/a"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if v, err := m.Recall("a"); err != nil || string(v) != "v" {
		t.Errorf("%q, %v", v, err)
	}
}

func TestFolderIsNeverRebooted(t *testing.T) {
	m := NewHost(t.TempDir())
	if m.Reboot(t.Context()) == nil || m.SetClock(time.Unix(0, 0)) == nil {
		t.Error("a folder was taken for the machine itself")
	}
}
