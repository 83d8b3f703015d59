package plan

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// cpuModel is one of the models that QEMU and KubeVirt know by name, with the
// flags that it shows to guests and that processors may lack. Flags are called
// as Linux calls them in /proc/cpuinfo. Those that every x86-64 server has are
// left out, and so are those that the kernel makes itself.
type cpuModel struct {
	name, vendor string
	flags        []string
}

// cpuModels lists them for each maker from the oldest to the newest: what
// stands later is better. Of Intel's, those without transactional memory are
// taken: microcode updates switch it off on most processors that have it, and a
// model that shows it can then be used nowhere. Source of the flags: QEMU's own
// definitions, with which libvirt's agree.
func cpuModels() []cpuModel {
	var out []cpuModel
	grow := func(vendor string, from []string, name string, more string) []string {
		flags := slices.Concat(from, strings.Fields(more))
		out = append(out, cpuModel{name, vendor, flags})
		return flags
	}
	f := grow("intel", nil, "Nehalem", "ssse3 sse4_1 sse4_2 popcnt cx16 lahf_lm")
	f = grow("intel", f, "Westmere", "aes pclmulqdq")
	f = grow("intel", f, "SandyBridge", "avx xsave x2apic rdtscp tsc_deadline_timer")
	f = grow("intel", f, "IvyBridge", "f16c rdrand fsgsbase smep erms")
	f = grow("intel", f, "Haswell-noTSX", "avx2 fma bmi1 bmi2 movbe pcid invpcid abm")
	f = grow("intel", f, "Broadwell-noTSX", "adx rdseed smap 3dnowprefetch")
	f = grow("intel", f, "Skylake-Server-noTSX-IBRS", "avx512f avx512dq avx512bw avx512cd avx512vl clflushopt clwb pku xsavec xgetbv1 pdpe1gb ibrs")
	f = grow("intel", f, "Cascadelake-Server-noTSX", "avx512_vnni ssbd")
	f = grow("intel", f, "Icelake-Server-noTSX", "avx512ifma avx512vbmi avx512_vbmi2 avx512_bitalg avx512_vpopcntdq sha_ni gfni vaes vpclmulqdq umip rdpid la57")
	grow("intel", f, "SapphireRapids", "amx_bf16 amx_tile amx_int8 avx512_bf16 avx512_fp16 avx_vnni serialize tsxldtrk fsrm hle rtm")

	old := grow("amd", nil, "Opteron_G3", "abm sse4a misalignsse popcnt cx16 lahf_lm rdtscp")
	f = grow("amd", old, "Opteron_G4", "aes avx fma4 xop pclmulqdq ssse3 sse4_1 sse4_2 xsave 3dnowprefetch pdpe1gb")
	grow("amd", f, "Opteron_G5", "f16c fma tbm")
	// the Opterons' fma4, xop and tbm are gone
	f = grow("amd", old, "EPYC", "aes avx avx2 fma f16c bmi1 bmi2 movbe adx rdseed rdrand smep smap sha_ni clflushopt fsgsbase pclmulqdq ssse3 sse4_1 sse4_2 xsave xsavec xgetbv1 3dnowprefetch pdpe1gb")
	f = grow("amd", f, "EPYC-Rome", "clwb rdpid umip wbnoinvd clzero xsaveerptr")
	f = grow("amd", f, "EPYC-Milan", "erms fsrm invpcid pcid pku")
	grow("amd", f, "EPYC-Genoa", "avx512f avx512dq avx512bw avx512cd avx512vl avx512ifma avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg avx512_vpopcntdq avx512_bf16 gfni vaes vpclmulqdq la57")
	return out
}

// lookedFor tells whether every agent tells of this flag.
func lookedFor(flag string) bool {
	return slices.Contains([]string{"aes", "avx", "avx2", "avx512f", "amx_tile", "la57", "pdpe1gb", "x2apic"}, flag)
}

// Names of server processors. Intel counts generations in the second digit of
// Xeon Scalable (Gold 6330: third) and, before, in a version (E5-2690 v4); AMD
// in the last digit (EPYC 7742: second).
var (
	xeonScalable = regexp.MustCompile(`(?i)\bxeon\b.*\b(?:platinum|gold|silver|bronze)\b\D*[3-9]([1-9])\d\d`)
	xeonE        = regexp.MustCompile(`(?i)\bxeon\b.*\bE[357]-\d{4}[A-Z]*(?: v([2-4]))?`)
	xeonD        = regexp.MustCompile(`(?i)\bxeon\b.*\bD-(\d)(\d)\d\d`)
	xeonOld      = regexp.MustCompile(`(?i)\bxeon\b.*\b[XELW](5[56])\d\d\b`)
	epyc         = regexp.MustCompile(`(?i)\bepyc\b\D*[789][0-9A-Z][0-9]([1-5])`)
	opteron      = regexp.MustCompile(`(?i)\bopteron\b\D*\d([1-3])\d\d\b`)
)

// modelByName is the best model that is safe for a processor of this name; ""
// when the name does not tell. None of them shows transactional memory, which
// only flags can tell of.
func modelByName(name string) string {
	if m := xeonScalable.FindStringSubmatch(name); m != nil {
		switch m[1] {
		case "1":
			return "Skylake-Server-noTSX-IBRS"
		case "2":
			return "Cascadelake-Server-noTSX"
		case "3":
			// Those with an H are of another family, with less: 8380H, 6328HL.
			if regexp.MustCompile(`\d{4}H`).MatchString(name) {
				return "Cascadelake-Server-noTSX"
			}
			return "Icelake-Server-noTSX"
		case "4", "5":
			return "Icelake-Server-noTSX"
		}
		return ""
	}
	if m := xeonE.FindStringSubmatch(name); m != nil {
		return [...]string{"SandyBridge", "", "IvyBridge", "Haswell-noTSX", "Broadwell-noTSX"}[digit(m[1])]
	}
	if m := xeonD.FindStringSubmatch(name); m != nil {
		switch m[1] + m[2] {
		case "15", "16":
			return "Broadwell-noTSX"
		case "21":
			return "Skylake-Server-noTSX-IBRS"
		case "17", "18", "27", "28":
			return "Icelake-Server-noTSX"
		}
		return ""
	}
	if m := xeonOld.FindStringSubmatch(name); m != nil {
		return map[string]string{"55": "Nehalem", "56": "Westmere"}[m[1]]
	}
	if m := epyc.FindStringSubmatch(name); m != nil {
		return [...]string{"", "EPYC", "EPYC-Rome", "EPYC-Milan", "EPYC-Genoa", "EPYC-Genoa"}[digit(m[1])]
	}
	if m := opteron.FindStringSubmatch(name); m != nil {
		return [...]string{"", "Opteron_G3", "Opteron_G4", "Opteron_G5"}[digit(m[1])]
	}
	return ""
}

func digit(s string) int {
	n, _ := strconv.Atoi(s) // of one digit, or none
	return n
}
