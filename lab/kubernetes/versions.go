package kubernetes

// Version is the Kubernetes release that Build makes.
const Version = "v1.34.4"

// Versions of what goes with it. The modules' own are pinned in _modules; here
// is what they are called on nodes.
const (
	// etcdTag and dnsTag are the tags that kubeadm 1.34 asks for
	// (cmd/kubeadm/app/constants); CoreDNS is 1.12.4, as 1.12.1 does not compile
	// with this release's client library.
	etcdTag       = "3.6.5-0"
	dnsTag        = "v1.12.1"
	pauseTag      = "3.10.1"
	flannelTag    = "v0.26.7"
	keepalivedTag = "2.2.7"
)

// registry is where upstream publishes its images; nodes are told to never ask it.
const registry = "registry.k8s.io/"

// stamps are the linker's settings that tell programs their version: kubeadm
// compares versions, and an unstamped build calls itself v0.0.0-master. Date and
// commit are fixed, so that the same sources give the same bytes.
func stamps() []string {
	const base = "k8s.io/component-base/version."
	var flags []string
	for _, s := range []string{
		base + "gitVersion=" + Version, base + "gitMajor=1", base + "gitMinor=34", base + "gitCommit=module",
		base + "gitTreeState=clean", base + "buildDate=2026-01-01T00:00:00Z",
		"github.com/flannel-io/flannel/pkg/version.Version=" + flannelTag,
		"github.com/containernetworking/plugins/pkg/utils/buildversion.BuildVersion=v1.6.2",
	} {
		flags = append(flags, "-X", s)
	}
	return flags
}
