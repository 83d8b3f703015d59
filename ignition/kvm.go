package ignition

import (
	"fmt"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_4/types"

	"metalrise.dev/fleet"
)

const (
	vendorIntel = "intel"
	vendorAMD   = "amd"
)

// processorModules are the kernel modules that drive a processor's
// virtualization: both when the vendor is unknown, of which one then loads.
func processorModules(vendor string) []string {
	switch vendor {
	case vendorIntel:
		return []string{"kvm_intel"}
	case vendorAMD:
		return []string{"kvm_amd"}
	}
	return []string{"kvm_intel", "kvm_amd"}
}

// kvm adds what makes a kernel a hypervisor: its modules at every boot, and
// whether guests may be hypervisors too. That one is said either way, because
// what a kernel does unasked has changed over time.
func (d *document) kvm(h fleet.Hypervisor) {
	processor := processorModules(h.Vendor)
	modules := append([]string{"kvm"}, processor...)
	modules = append(modules, "vhost_net", "tun")
	if h.Profile == fleet.ProfilePassthrough {
		modules = append(modules, "vfio_pci")
	}
	d.file("/etc/modules-load.d/metalrise-kvm.conf", 0o644, strings.Join(modules, "\n")+"\n")
	nested := 0
	if h.Nested {
		nested = 1
	}
	var options strings.Builder
	for _, m := range processor {
		fmt.Fprintf(&options, "options %s nested=%d\n", m, nested)
	}
	d.file("/etc/modprobe.d/metalrise-kvm.conf", 0o644, options.String())
}

// KernelArguments is what the installed system's kernel must be started with, in
// order; none for the general profile without huge pages. Installed writes the
// same list into its config, see the package comment.
func KernelArguments(a fleet.Assignment) []string {
	var out []string
	if a.Hypervisor.Profile == fleet.ProfilePassthrough {
		for _, m := range processorModules(a.Hypervisor.Vendor) {
			out = append(out, strings.TrimPrefix(m, "kvm_")+"_iommu=on")
		}
		out = append(out, "iommu=pt")
	}
	if n := a.Hypervisor.HugepagesGiB; n > 0 {
		// The size must come before the number it applies to.
		out = append(out, "default_hugepagesz=1G", "hugepagesz=1G", fmt.Sprintf("hugepages=%d", n))
	}
	return out
}

func (d *document) kernelArguments(args []string) {
	for _, a := range args {
		d.config.KernelArguments.ShouldExist = append(d.config.KernelArguments.ShouldExist, types.KernelArgument(a))
	}
}
