package vmstack

import (
	"context"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
)

const instanceAPI = "instancetype.kubevirt.io/v1beta1"

// size is one instance type of the general series: memory is four times the
// processors in GiB, from medium on.
type size struct {
	name   string
	vcpus  int64
	memory string
}

// InstanceTypes are sizes of VMs. Names and sizes are those of KubeVirt's own
// common instance types, so that a release that brings them changes nothing.
func InstanceTypes() []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, s := range []size{
		{"u1.nano", 1, "512Mi"}, {"u1.micro", 1, "1Gi"}, {"u1.small", 1, "2Gi"}, {"u1.medium", 1, "4Gi"},
		{"u1.large", 2, "8Gi"}, {"u1.xlarge", 4, "16Gi"}, {"u1.2xlarge", 8, "32Gi"}, {"u1.4xlarge", 16, "64Gi"},
	} {
		out = append(out, object(instanceAPI, "VirtualMachineClusterInstancetype", "", s.name, map[string]any{
			"spec": map[string]any{"cpu": map[string]any{"guest": s.vcpus}, "memory": map[string]any{"guest": s.memory}},
		}))
	}
	return out
}

// Preferences are what guests of a kind run best with.
func Preferences() []*unstructured.Unstructured {
	fast := func() map[string]any {
		return map[string]any{"preferredDiskBus": "virtio", "preferredInterfaceModel": "virtio", "preferredRng": map[string]any{}}
	}
	return []*unstructured.Unstructured{
		preference("linux", map[string]any{"devices": fast()}),
		preference("linux.efi", map[string]any{
			"devices":  fast(),
			"firmware": map[string]any{"preferredEfi": map[string]any{"secureBoot": false}},
		}),
		preference("windows", windows()),
	}
}

func preference(name string, spec map[string]any) *unstructured.Unstructured {
	return object(instanceAPI, "VirtualMachineClusterPreference", "", name, map[string]any{"spec": spec})
}

// windows boots without any driver but Windows' own: SATA and an Intel network
// card, with the hints of Hyper-V that make it take less processor time, and
// what Windows 11 asks for: secure boot and a TPM.
func windows() map[string]any {
	none := map[string]any{}
	return map[string]any{
		"clock": map[string]any{
			"preferredClockOffset": map[string]any{"utc": none},
			"preferredTimer": map[string]any{
				"hpet": map[string]any{"present": false}, "hyperv": none,
				"pit": map[string]any{"tickPolicy": "delay"}, "rtc": map[string]any{"tickPolicy": "catchup"},
			},
		},
		"cpu": map[string]any{"preferredCPUTopology": "sockets"},
		"devices": map[string]any{
			"preferredDiskBus": "sata", "preferredInterfaceModel": "e1000e", "preferredInputBus": "usb", "preferredInputType": "tablet",
			"preferredTPM": none,
		},
		"features": map[string]any{
			"preferredAcpi": none, "preferredApic": none, "preferredSmm": none,
			"preferredHyperv": map[string]any{
				"relaxed": none, "vapic": none, "vpindex": none, "synic": none, "runtime": none, "reset": none, "frequencies": none,
				"spinlocks": map[string]any{"spinlocks": int64(8191)}, "synictimer": map[string]any{"direct": none},
			},
		},
		"firmware": map[string]any{"preferredEfi": map[string]any{"secureBoot": true}},
	}
}

// typesThere looks whether all of them are there, whoever keeps them.
func (i *Installer) typesThere(ctx context.Context) ([]fleet.Check, error) {
	var out []fleet.Check
	for _, group := range [][]*unstructured.Unstructured{InstanceTypes(), Preferences()} {
		there, err := i.cluster.Objects(ctx, group[0].GroupVersionKind(), "", "")
		if err != nil {
			return nil, err
		}
		check := fleet.Check{Name: group[0].GetKind(), OK: true}
		var lacking []string
		for _, o := range group {
			if !slices.ContainsFunc(there, func(t *unstructured.Unstructured) bool { return t.GetName() == o.GetName() }) {
				lacking = append(lacking, o.GetName())
			}
		}
		if len(lacking) > 0 {
			check.OK, check.Missing = false, "the API lacks "+strings.Join(lacking, ", ")
		}
		out = append(out, check)
	}
	return out, nil
}
