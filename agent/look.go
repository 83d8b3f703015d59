package agent

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// Look implements Host.
func (m *Machine) Look(ctx context.Context) fleet.Facts {
	now := time.Now().UTC()
	f := fleet.Facts{
		Source:   fleet.SeenByAgent,
		At:       now,
		Clock:    fleet.Known(now),
		Identity: m.Identity(),
		Power:    fleet.Known(fleet.PowerOn),
		KVM:      fleet.Known(m.lookKVM()),
	}
	problem := func(path, format string, args ...any) {
		f.Problems = append(f.Problems, fleet.Problem{Path: path, Text: fmt.Sprintf(format, args...)})
	}
	if f.Identity.ID() == "" {
		problem(dmi, "neither product_uuid nor product_serial can be used")
	}
	f.Manufacturer = known(m.read(dmi + "sys_vendor"))
	f.Model = known(m.read(dmi + "product_name"))
	f.SKU = known(m.read(dmi + "product_sku"))
	f.BIOSVersion = known(m.read(dmi + "bios_version"))
	f.BootMode, f.SecureBoot = m.lookBoot()
	if v := m.read("sys/class/tpm/tpm0/tpm_version_major"); v != "" {
		f.TPM = fleet.Known("TPM" + v + "_0")
	}
	f.CPU = m.lookCPU()
	f.MemoryMiB = m.lookMemory()
	m.lines("etc/os-release", func(line string) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			f.OS = known(strings.Trim(v, `"'`))
		}
	})
	f.NICs = m.lookNICs()
	if len(f.NICs) == 0 {
		problem("/sys/class/net", "no network port")
	}
	for _, d := range m.disks() {
		if ctx.Err() != nil {
			break
		}
		contents, err := m.contentsOf(d)
		if err != nil {
			problem("/dev/"+d.name, "contents: %v", err)
		} else {
			d.disk.Contents, d.disk.Members, d.disk.Owner = contents.Texts(), contents.Members(), contents.Owner
		}
		if d.disk.Serial == "" && d.disk.WWN == "" {
			problem("/dev/"+d.name, "neither serial nor WWN, so it can never be written")
		}
		f.Disks = append(f.Disks, d.disk)
	}
	return f
}

const dmi = "sys/class/dmi/id/"

// Identity is who the machine says it is.
func (m *Machine) Identity() fleet.Identity {
	return fleet.NewIdentity(m.read(dmi+"product_uuid"), m.read(dmi+"product_serial"))
}

func known(s string) fleet.Maybe[string] {
	if s == "" {
		return fleet.Maybe[string]{}
	}
	return fleet.Known(printable(s))
}

func (m *Machine) lookBoot() (mode fleet.Maybe[string], secure fleet.Maybe[bool]) {
	if !m.exists("sys/firmware") {
		return mode, secure
	}
	if !m.exists("sys/firmware/efi") {
		return fleet.Known("bios"), fleet.Known(false)
	}
	// Four bytes of attributes, then the value (UEFI 2.10, section 3.3).
	b, err := m.readAll("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")
	if err == nil && len(b) == 5 {
		secure = fleet.Known(b[4] == 1)
	}
	return fleet.Known("uefi"), secure
}

// lookMemory tells what the kernel can use, which is somewhat less than what is
// plugged in.
func (m *Machine) lookMemory() (out fleet.Maybe[int64]) {
	m.lines("proc/meminfo", func(line string) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
			if kib, err := strconv.ParseInt(f[1], 10, 64); err == nil {
				out = fleet.Known(kib / 1024)
			}
		}
	})
	return out
}

// cpuFlags are the processor flags that matter to hypervisors: what makes them
// work and, on the later lines, what tells processors apart between which VMs
// are to move. sse2 is one that every x86-64 has: where it is told, all are.
func cpuFlags() []string {
	return strings.Fields(`vmx svm ept npt vpid ept_ad flexpriority tpr_shadow vnmi avic x2apic
		aes avx avx2 avx512f amx_tile hypervisor pdpe1gb sev sev_es sev_snp tdx_host_platform la57 sse2
		3dnowprefetch abm adx amx_bf16 amx_int8 avx512_bf16 avx512_bitalg avx512_fp16 avx512_vbmi2 avx512_vnni
		avx512_vpopcntdq avx512bw avx512cd avx512dq avx512ifma avx512vbmi avx512vl avx_vnni bmi1 bmi2 clflushopt clwb
		clzero cx16 erms f16c fma fma4 fsgsbase fsrm gfni hle ibrs invpcid lahf_lm misalignsse movbe pcid pclmulqdq
		pku popcnt rdpid rdrand rdseed rdtscp rtm serialize sha_ni smap smep ssbd sse4_1 sse4_2 sse4a ssse3 tbm
		tsc_deadline_timer tsxldtrk umip vaes vpclmulqdq wbnoinvd xgetbv1 xop xsave xsavec xsaveerptr
	`)
}

func (m *Machine) lookCPU() fleet.CPU {
	var cpu fleet.CPU
	wanted := map[string]bool{}
	for _, f := range cpuFlags() {
		wanted[f] = true
	}
	sockets, cores := map[string]bool{}, map[string]bool{}
	threads, socket := 0, ""
	flags, sawFlags := map[string]bool{}, false
	m.lines("proc/cpuinfo", func(line string) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "processor":
			threads++
		case "physical id":
			socket = value
			sockets[socket] = true
		case "core id":
			cores[socket+"/"+value] = true
		case "model name":
			cpu.Model = known(value)
		case "flags", "vmx flags":
			sawFlags = true
			for _, f := range strings.Fields(value) {
				if wanted[f] {
					flags[f] = true
				}
			}
		}
	})
	if len(sockets) == 0 { // a processor of one core does not list them
		m.topology(sockets, cores)
	}
	if threads > 0 {
		cpu.Threads = fleet.Known(threads)
	}
	if len(sockets) > 0 {
		cpu.Sockets = fleet.Known(len(sockets))
	}
	if len(cores) > 0 {
		cpu.Cores = fleet.Known(len(cores))
	}
	for f := range flags {
		cpu.Flags = append(cpu.Flags, f)
	}
	sort.Strings(cpu.Flags)
	if sawFlags {
		cpu.Virtualization = fleet.Known(flags["vmx"] || flags["svm"])
	}
	return cpu
}

// topology reads the same from /sys.
func (m *Machine) topology(sockets, cores map[string]bool) {
	const dir = "sys/devices/system/cpu/"
	for _, name := range m.names(dir) {
		at := dir + name + "/topology/"
		socket := m.read(at + "physical_package_id")
		if n, err := strconv.Atoi(socket); err != nil || n < 0 {
			continue
		}
		sockets[socket] = true
		if core := m.read(at + "core_id"); core != "" {
			cores[socket+"/"+core] = true
		}
	}
}
