package ring

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"metalrise.dev/fleet"
	"metalrise.dev/guest"
	"metalrise.dev/kube"
)

// Namespace is where all that the proofs make lies.
const Namespace = "metalrise-proof"

// Labels of what the proofs make.
const (
	proofLabel = "metalrise.dev/proof" // which one made it
	runLabel   = "metalrise.dev/run"   // in which run
	vmLabel    = "metalrise.dev/vm"    // of a VM's pods: which VM
)

// sizeName is the instance type of the proofs' VMs, and size what it has.
// KubeVirt's own part comes on top of it, about 220 MiB.
const (
	sizeName   = "metalrise-proof"
	sizeMemory = "192Mi"
)

// What a guest finds its devices by.
const (
	dataSerial  = "proofdata"
	cloudSerial = "proofcloud"
	volumeSize  = "64Mi" // the guest writes 4 MiB of it
	listenPort  = 7007
)

// beatPace is how often a guest speaks: the grain of what is measured.
const beatPace = 250 * time.Millisecond

// The network that KubeVirt gives a VM behind masquerade (kubevirt.io/api,
// field vmNetworkCIDR of networks.pod), whose DHCP server always gives this address.
var (
	podNetAddress = netip.MustParsePrefix("10.0.2.2/24")
	podNetGateway = netip.MustParseAddr("10.0.2.1")
)

// machine is one VM of a proof, as it is asked for.
type machine struct {
	name  string
	run   string // nonce
	proof fleet.Proof
	image string // of the guest
	// nodes it may run on; prefer is one of them, or "".
	nodes   []string
	prefer  string
	movable bool // it is migrated away when its node is drained
	disk    disk
	mark    string // what the guest writes on its disk
	ping    netip.Addr
	dial    netip.AddrPort
	wire    *wire // its second network card, or nil
	halted  bool
}

// disk is what a VM's second disk is made of.
type disk int

const (
	noDisk   disk = iota
	claimed       // a claim to the storage class
	imported      // a DataVolume that CDI fills from the image of the guest
)

// wire is a network card on a VM network.
type wire struct {
	network string // NetworkAttachmentDefinition as "namespace/name"
	address netip.Prefix
}

var (
	vmKind       = kubevirt("VirtualMachine")
	vmiKind      = kubevirt("VirtualMachineInstance")
	moveKind     = kubevirt("VirtualMachineInstanceMigration")
	sizeKind     = schema.GroupVersionKind{Group: "instancetype.kubevirt.io", Version: "v1beta1", Kind: "VirtualMachineInstancetype"}
	snapshotKind = schema.GroupVersionKind{Group: "snapshot.kubevirt.io", Version: "v1beta1", Kind: "VirtualMachineSnapshot"}
	restoreKind  = schema.GroupVersionKind{Group: "snapshot.kubevirt.io", Version: "v1beta1", Kind: "VirtualMachineRestore"}
	volumeKind   = schema.GroupVersionKind{Group: "cdi.kubevirt.io", Version: "v1beta1", Kind: "DataVolume"}
	claimKind    = schema.GroupVersionKind{Version: "v1", Kind: "PersistentVolumeClaim"}
	serviceKind  = schema.GroupVersionKind{Version: "v1", Kind: "Service"}
	spaceKind    = schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}
)

func kubevirt(kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: "kubevirt.io", Version: "v1", Kind: kind}
}

// ours lists the kinds that a proof makes, in the order in which they are removed.
func ours() []schema.GroupVersionKind {
	return []schema.GroupVersionKind{moveKind, restoreKind, snapshotKind, vmKind, vmiKind, volumeKind, claimKind, serviceKind, sizeKind}
}

type object = map[string]any

// made is an object of a proof with our labels.
func made(kind schema.GroupVersionKind, name string, m machine, body object) *unstructured.Unstructured {
	version, k := kind.ToAPIVersionAndKind()
	u := &unstructured.Unstructured{Object: object{"apiVersion": version, "kind": k}}
	for key, value := range body {
		u.Object[key] = value
	}
	u.SetName(name)
	u.SetNamespace(Namespace)
	u.SetLabels(map[string]string{kube.OwnerLabel: kube.Manager, proofLabel: string(m.proof), runLabel: m.run})
	return u
}

// space is the namespace. Pods of VMs need more rights than most clusters give
// by default.
func space() *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: object{"apiVersion": "v1", "kind": "Namespace"}}
	u.SetName(Namespace)
	u.SetLabels(map[string]string{kube.OwnerLabel: kube.Manager, "pod-security.kubernetes.io/enforce": "privileged"})
	return u
}

// size is the instance type of the VMs.
func size(m machine) *unstructured.Unstructured {
	return made(sizeKind, sizeName, m, object{"spec": object{
		"cpu":    object{"guest": int64(1)},
		"memory": object{"guest": sizeMemory},
	}})
}

// service is the address by which other guests call this VM, wherever it runs.
func service(m machine) *unstructured.Unstructured {
	return made(serviceKind, m.name, m, object{"spec": object{
		"selector": object{vmLabel: m.name},
		"ports":    []any{object{"name": "call", "port": int64(listenPort), "protocol": "TCP", "targetPort": int64(listenPort)}},
	}})
}

// volume is what holds the VM's second disk, nil when it has none.
func volume(m machine, s fleet.VMStorage) *unstructured.Unstructured {
	switch m.disk {
	case claimed:
		return claim(m, s)
	case imported:
		return dataVolume(m, s)
	case noDisk:
	}
	return nil
}

// claim is a volume from the storage class alone.
func claim(m machine, s fleet.VMStorage) *unstructured.Unstructured {
	return made(claimKind, m.name, m, object{"spec": object{
		"accessModes":      []any{accessMode(s)},
		"storageClassName": s.Class,
		"resources":        object{"requests": object{"storage": volumeSize}},
	}})
}

// dataVolume is a disk that CDI fills with the one that lies in the guest's
// container image. Method "node" takes the image from the node, as a pod does,
// where "pod" would ask a registry.
func dataVolume(m machine, s fleet.VMStorage) *unstructured.Unstructured {
	return made(volumeKind, m.name, m, object{"spec": object{
		"source": object{"registry": object{"url": "docker://" + m.image, "pullMethod": "node"}},
		"storage": object{
			"accessModes":      []any{accessMode(s)},
			"storageClassName": s.Class,
			"resources":        object{"requests": object{"storage": volumeSize}},
		},
	}})
}

func accessMode(s fleet.VMStorage) string {
	if s.Shared {
		return "ReadWriteMany"
	}
	return "ReadWriteOnce"
}

// orders are what the guest of a VM is told.
func (m machine) orders() guest.Orders {
	o := guest.Orders{
		Nonce: m.run, Beat: beatPace, Listen: listenPort, Ping: m.ping, Dial: m.dial,
		Nets:  []guest.Net{{MAC: m.mac(0), Address: podNetAddress, Gateway: podNetGateway}},
		Cloud: cloudSerial,
	}
	if m.wire != nil {
		o.Nets = append(o.Nets, guest.Net{MAC: m.mac(1), Address: m.wire.address})
	}
	if m.disk != noDisk {
		o.Disk, o.Mark = dataSerial, m.mark
	}
	return o
}

// mac is the address of one of its network cards: local (the second bit), and
// another one in each run.
func (m machine) mac(card int) string {
	hash := fnv.New64a()
	fmt.Fprintf(hash, "%s %s %d", m.run, m.name, card)
	sum := hash.Sum64()
	return fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24), byte(sum>>32))
}

// vm is the VirtualMachine.
func (m machine) vm() *unstructured.Unstructured {
	strategy := "Always"
	if m.halted {
		strategy = "Halted"
	}
	spec := object{
		"runStrategy":  strategy,
		"instancetype": object{"kind": sizeKind.Kind, "name": sizeName},
		"template": object{
			"metadata": object{"labels": object{
				kube.OwnerLabel: kube.Manager, proofLabel: string(m.proof), runLabel: m.run, vmLabel: m.name,
			}},
			"spec": m.instance(),
		},
	}
	return made(vmKind, m.name, m, object{"spec": spec})
}

// instance is what a VirtualMachineInstance of it is.
func (m machine) instance() object {
	eviction := "None"
	if m.movable {
		eviction = "LiveMigrate"
	}
	disks := []any{object{"name": "cloud", "serial": cloudSerial, "disk": object{"bus": "virtio"}}}
	volumes := []any{object{"name": "cloud", "cloudInitNoCloud": object{
		"userData": "#cloud-config\n# " + guest.UserMark + " " + m.run + "\n",
	}}}
	if m.disk != noDisk {
		disks = append(disks, object{"name": "data", "serial": dataSerial, "disk": object{"bus": "virtio"}})
	}
	switch m.disk {
	case claimed:
		volumes = append(volumes, object{"name": "data", "persistentVolumeClaim": object{"claimName": m.name}})
	case imported:
		volumes = append(volumes, object{"name": "data", "dataVolume": object{"name": m.name}})
	case noDisk:
	}
	cards := []any{object{"name": "default", "masquerade": object{}, "model": "virtio", "macAddress": m.mac(0)}}
	networks := []any{object{"name": "default", "pod": object{}}}
	if m.wire != nil {
		cards = append(cards, object{"name": "wire", "bridge": object{}, "model": "virtio", "macAddress": m.mac(1)})
		networks = append(networks, object{"name": "wire", "multus": object{"networkName": m.wire.network}})
	}
	domain := object{
		"devices": object{
			"autoattachGraphicsDevice": false, "autoattachMemBalloon": false, "logSerialConsole": true,
			"interfaces": cards, "disks": disks,
		},
		"firmware": object{"kernelBoot": object{
			"container":  object{"image": m.image, "kernelPath": "/boot/vmlinuz", "initrdPath": "/boot/initrd", "imagePullPolicy": "IfNotPresent"},
			"kernelArgs": "console=ttyS0 quiet panic=-1 " + m.orders().Args(),
		}},
	}
	return object{
		"terminationGracePeriodSeconds": int64(0),
		"evictionStrategy":              eviction,
		"affinity":                      m.affinity(),
		"domain":                        domain,
		"networks":                      networks,
		"volumes":                       volumes,
	}
}

// affinity pins the VM to its nodes.
func (m machine) affinity() object {
	in := func(nodes ...string) object {
		var values []any
		for _, n := range nodes {
			values = append(values, n)
		}
		return object{"matchExpressions": []any{object{"key": "kubernetes.io/hostname", "operator": "In", "values": values}}}
	}
	a := object{"requiredDuringSchedulingIgnoredDuringExecution": object{"nodeSelectorTerms": []any{in(m.nodes...)}}}
	if m.prefer != "" {
		a["preferredDuringSchedulingIgnoredDuringExecution"] = []any{object{"weight": int64(100), "preference": in(m.prefer)}}
	}
	return object{"nodeAffinity": a}
}

// migration asks for one live migration of a VM.
func migration(m machine, name string) *unstructured.Unstructured {
	return made(moveKind, name, m, object{"spec": object{"vmiName": m.name}})
}

// snapshot and restore are of the VM with its volume.
func snapshot(m machine) *unstructured.Unstructured {
	return made(snapshotKind, m.name, m, object{"spec": object{"source": thisVM(m)}})
}

func restore(m machine) *unstructured.Unstructured {
	return made(restoreKind, m.name, m, object{"spec": object{"target": thisVM(m), "virtualMachineSnapshotName": m.name}})
}

func thisVM(m machine) object {
	return object{"apiGroup": vmKind.Group, "kind": vmKind.Kind, "name": m.name}
}

// nameOf makes a name of a VM of nodes' and other names: a DNS label.
func nameOf(parts ...string) string {
	s := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(strings.Join(parts, "-")))
	const most = 40 // KubeVirt puts more in front and behind, within 63
	if len(s) > most {
		hash := fnv.New32a()
		hash.Write([]byte(s))
		s = fmt.Sprintf("%s-%08x", strings.TrimRight(s[:most-9], "-"), hash.Sum32())
	}
	return strings.Trim(s, "-")
}
