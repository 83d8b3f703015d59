package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"metalrise.dev/fleet"
)

// factsKeep is how long facts are good without a remark. Disks are swapped in
// the course of days; the agent checks them again before every write anyway.
const factsKeep = 7 * 24 * time.Hour

// minMemoryMiB is what a host needs besides huge pages: the live system unpacks
// its root into memory, and kubeadm wants 1,700 MiB for a control plane.
const minMemoryMiB = 2048

// checkFacts looks at what must be known before anything else can be decided.
func (m *maker) checkFacts(d *draft) {
	if !d.hasFacts {
		m.add(fleet.CodeFactsMissing, fleet.Blocker, d.Server, "facts", "the server was not inspected",
			"Run inspect; read its findings for this server.")
		return
	}
	f := d.facts
	if f.Identity.ID() != "" && !d.Identity.Match(f.Identity) {
		m.add(fleet.CodeIdentityMismatch, fleet.Blocker, d.Server, "facts.identity",
			fmt.Sprintf("the facts speak of serial %q and UUID %q, the enrolled server has %q and %q", f.Identity.Serial, f.Identity.UUID, d.Identity.Serial, d.Identity.UUID),
			"Somebody swapped machines, addresses or boards: run discover and inspect again.")
	}
	m.checkAge(d)
	m.chooseRoutes(d, m.checkVirtualMedia(d))
	m.chooseMedium(d)
	m.checkMemory(d)
}

func (m *maker) checkAge(d *draft) {
	at := d.facts.At
	switch age := m.in.Now.Sub(at); {
	case at.IsZero():
		m.add(fleet.CodeFactsOld, fleet.Warning, d.Server, "facts.at", "the facts do not say when they were seen", "Run inspect again before applying.")
	case age > factsKeep:
		m.add(fleet.CodeFactsOld, fleet.Warning, d.Server, "facts.at",
			fmt.Sprintf("the facts were seen on %s, more than 7 days ago", at.UTC().Format("2006-01-02 15:04 UTC")), "Run inspect again before applying.")
	case age < -time.Hour:
		m.add(fleet.CodeFactsOld, fleet.Warning, d.Server, "facts.at",
			fmt.Sprintf("the facts were seen on %s, which is yet to come", at.UTC().Format("2006-01-02 15:04 UTC")), "Correct this computer's clock and run inspect again.")
	}
}

// checkVirtualMedia looks for a drive that takes a CD image. A slot that names
// no media types at all is taken with a warning: some BMCs leave them out. It
// tells whether one may be there. Where servers may boot from the network, none
// is needed.
func (m *maker) checkVirtualMedia(d *draft) bool {
	silent := ""
	var why []string
	for _, s := range d.facts.VirtualMedia {
		if s.How != "action" && s.How != "patch" {
			why = append(why, s.URI+": "+s.How)
			continue
		}
		for _, t := range s.MediaTypes {
			if strings.EqualFold(t, "CD") || strings.EqualFold(t, "DVD") {
				return true
			}
		}
		if len(s.MediaTypes) == 0 {
			silent = s.URI
		}
	}
	if silent != "" {
		m.add(fleet.CodeNoVirtualMedia, fleet.Warning, d.Server, "facts.virtualMedia",
			fmt.Sprintf("the virtual drive %s does not say whether it takes CD images", silent), "Nothing to do if it works; else update the BMC's firmware.")
		return true
	}
	text := "the BMC offers no virtual drive that takes a CD image"
	if len(why) > 0 {
		text += " (" + strings.Join(why, "; ") + ")"
	}
	if m.in.Site.Serving.Netboot != "" {
		m.add(fleet.CodeNoVirtualMedia, fleet.Warning, d.Server, "facts.virtualMedia", text, "Nothing to do: the server boots from the network (serving.netboot).")
		return false
	}
	m.add(fleet.CodeNoVirtualMedia, fleet.Blocker, d.Server, "facts.virtualMedia", text,
		"A licence or firmware update of the BMC may add it; else set role: excluded under servers.")
	return false
}

func (m *maker) checkMemory(d *draft) {
	huge := int64(m.in.Site.Virtualization.HugepagesGiB) * 1024
	mib, known := d.facts.MemoryMiB.Get()
	switch {
	case !known && huge > 0:
		m.add(fleet.CodeFactsMissing, fleet.Warning, d.Server, "facts.memoryMiB",
			fmt.Sprintf("the memory is unknown, so %d GiB of huge pages may be more than there is", huge/1024), "Compare with the server's papers.")
	case !known:
	case huge > 0 && huge+minMemoryMiB > mib:
		m.add(fleet.CodeMemoryTooSmall, fleet.Blocker, d.Server, "virtualization.hugepagesGiB",
			fmt.Sprintf("%d MiB of memory cannot spare %d GiB of huge pages and keep %d MiB for the system; it would not boot", mib, huge/1024, minMemoryMiB),
			"Lower virtualization.hugepagesGiB, add memory or exclude the server.")
	case mib < minMemoryMiB:
		m.add(fleet.CodeMemoryTooSmall, fleet.Warning, d.Server, "facts.memoryMiB",
			fmt.Sprintf("%d MiB of memory is less than the %d MiB a host needs", mib, minMemoryMiB), "Add memory or exclude the server.")
	}
}

// chooseHypervisor tells which kernel module fits and whether it can work.
func (m *maker) chooseHypervisor(d *draft) {
	v := m.in.Site.Virtualization
	profile := v.Profile
	if !knownProfile(profile) {
		profile = fleet.ProfileGeneral
	}
	vendor, why := cpuVendor(d.facts.CPU)
	d.Hypervisor = fleet.Hypervisor{Vendor: vendor, Profile: profile, Nested: v.Nested, HugepagesGiB: v.HugepagesGiB}
	d.because("%s", why)
	switch on, known := d.facts.CPU.Virtualization.Get(); {
	case !known:
		m.add(fleet.CodeVirtualizationOff, fleet.Info, d.Server, "facts.cpu.virtualization",
			"the BMC does not tell whether virtualization is on; the agent will", "Nothing to do now.")
	case !on:
		m.add(fleet.CodeVirtualizationOff, fleet.Warning, d.Server, "facts.cpu.virtualization",
			"the processor's virtualization is off or absent", "Switch on VT-x or AMD-V in the BIOS settings; else the host cannot run virtual machines.")
	}
}

// checkVirtualization checks what the site says about all hypervisors.
func (m *maker) checkVirtualization() {
	v := m.in.Site.Virtualization
	if v.Profile != "" && !knownProfile(v.Profile) {
		m.add(fleet.CodeSiteInvalid, fleet.Blocker, "", "virtualization.profile", fmt.Sprintf("%q is no profile", v.Profile), "Use general or passthrough.")
	}
	if v.HugepagesGiB < 0 {
		m.add(fleet.CodeSiteInvalid, fleet.Blocker, "", "virtualization.hugepagesGiB", fmt.Sprintf("%d GiB of huge pages make no sense", v.HugepagesGiB), "Use 0 or more.")
	}
}

func knownProfile(p fleet.Profile) bool {
	return p == fleet.ProfileGeneral || p == fleet.ProfilePassthrough
}

// cpuVendor trusts flags before names, and neither when they contradict.
func cpuVendor(c fleet.CPU) (vendor, why string) {
	vmx, svm := slices.Contains(c.Flags, "vmx"), slices.Contains(c.Flags, "svm")
	switch {
	case vmx && !svm:
		return "intel", "kernel module kvm_intel: the processor has flag vmx"
	case svm && !vmx:
		return "amd", "kernel module kvm_amd: the processor has flag svm"
	}
	model := c.Model.Or("")
	intel, amd := nameHas(model, "intel", "xeon"), nameHas(model, "amd", "epyc", "opteron", "ryzen")
	switch {
	case intel && !amd:
		return "intel", fmt.Sprintf("kernel module kvm_intel: the processor is called %q", model)
	case amd && !intel:
		return "amd", fmt.Sprintf("kernel module kvm_amd: the processor is called %q", model)
	}
	return "", "kernel modules kvm_intel and kvm_amd: the facts do not tell the processor's maker, and only the one that fits loads"
}

// nameHas looks for one of some words, not for parts of words.
func nameHas(name string, words ...string) bool {
	for _, w := range strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r < 'a' || r > 'z' }) {
		// "Intel(R)" splits into "intel" and "r", "EPYC" stands alone.
		if slices.Contains(words, w) {
			return true
		}
	}
	return false
}
