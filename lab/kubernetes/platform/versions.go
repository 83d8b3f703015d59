package platform

// Version is the KubeVirt release that Build makes.
const Version = "v1.6.0"

// GuestReference is the image with the guest of the proofs, for KubeVirt's
// kernel boot: GuestKernel and GuestInitrd are paths in it.
const (
	GuestReference = "metalrise.dev/guest:v1"
	GuestKernel    = "/boot/vmlinuz"
	GuestInitrd    = "/boot/initrd"
)

// prefix is where upstream publishes KubeVirt's images; the nodes have them
// before anything could ask for them there.
const prefix = "quay.io/kubevirt"

// reference names one of KubeVirt's images.
func reference(name string) string { return prefix + "/" + name + ":" + Version }

// stamps are the linker's settings that tell programs their version. Commit and
// date are fixed, so that the same sources give the same bytes.
func stamps() []string {
	const base = "kubevirt.io/client-go/version."
	return []string{
		"-X", base + "gitVersion=" + Version, "-X", base + "gitCommit=module",
		"-X", base + "gitTreeState=clean", "-X", base + "buildDate=2026-01-01T00:00:00Z",
	}
}
