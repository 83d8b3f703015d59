package vmstack

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

const kubevirtNamespace = "kubevirt" // where its makers' manifests put it

// sharedBandwidth bounds one live migration where it shares the pods' network:
// 1 Gbit/s, so that two at a time leave most of a 10 Gbit/s port to VMs, to etcd
// and to storage. On a network of its own it takes what there is.
const sharedBandwidth = "128Mi"

// KubeVirt is the object that configures KubeVirt for the hardware found.
//
// VMs are moved when their node is drained, and shut down where they cannot
// move. The operator is asked not to be removed while there are VMs.
func KubeVirt(p fleet.Plan) *unstructured.Unstructured {
	s := p.Stack
	developer := map[string]any{"memoryOvercommit": int64(cmp.Or(s.MemoryOvercommit, 100))}
	if s.Emulation {
		developer["useEmulation"] = true
	}
	if len(s.FeatureGates) > 0 {
		developer["featureGates"] = texts(s.FeatureGates)
	}
	migrations := map[string]any{"bandwidthPerMigration": sharedBandwidth}
	if s.MigrationNetwork != "" {
		migrations = map[string]any{"network": s.MigrationNetwork}
	}
	configuration := map[string]any{"developerConfiguration": developer, "migrations": migrations}
	if s.CPUModel != "" {
		configuration["cpuModel"] = s.CPUModel
	}
	spec := map[string]any{
		"imagePullPolicy":   "IfNotPresent", // images lie on the nodes
		"uninstallStrategy": "BlockUninstallIfWorkloadsExist",
		"configuration":     configuration,
	}
	if len(hypervisors(p)) > 1 {
		configuration["evictionStrategy"] = "LiveMigrateIfPossible"
		spec["workloadUpdateStrategy"] = map[string]any{"workloadUpdateMethods": []any{"LiveMigrate"}}
	}
	if controlPlanes(p) == 1 {
		spec["infra"] = map[string]any{"replicas": int64(1)} // a second one on the same node saves nothing
	}
	if t := tolerations(p); len(t) > 0 {
		spec["workloads"] = map[string]any{"nodePlacement": map[string]any{"tolerations": t}}
	}
	return object("kubevirt.io/v1", "KubeVirt", kubevirtNamespace, "kubevirt", map[string]any{"spec": spec})
}

// idleCPU has a container of CDI ask for a hundredth of a CPU, as those of
// KubeVirt do, instead of a tenth, which it does not use while no volume is
// filled. A single node of two CPUs has half of one for VMs after all that
// Kubernetes and the host ask for.
const idleCPU = `{"spec":{"template":{"spec":{"containers":[{"name":%q,"resources":{"requests":{"cpu":"10m"}}}]}}}}`

// CDI is the object that configures the importer. Its volumes wait for the VM
// that uses them, because local storage exists on one node only.
func CDI(p fleet.Plan) *unstructured.Unstructured {
	spec := map[string]any{
		"imagePullPolicy":   "IfNotPresent",
		"uninstallStrategy": "BlockUninstallIfWorkloadsExist",
		"config":            map[string]any{"featureGates": []any{"HonorWaitForFirstConsumer"}},
		"infra":             map[string]any{"nodeSelector": map[string]any{"kubernetes.io/os": "linux"}},
	}
	workload := map[string]any{"nodeSelector": map[string]any{"kubernetes.io/os": "linux"}}
	if t := tolerations(p); len(t) > 0 {
		workload["tolerations"] = t
	}
	spec["workload"] = workload
	var patches []any
	for _, name := range []string{"cdi-apiserver", "cdi-deployment", "cdi-uploadproxy"} { // of the Deployment and of its container
		patches = append(patches, map[string]any{"resourceType": "Deployment", "resourceName": name, "type": "strategic", "patch": fmt.Sprintf(idleCPU, name)})
	}
	spec["customizeComponents"] = map[string]any{"patches": patches}
	return object("cdi.kubevirt.io/v1beta1", "CDI", "", "cdi", map[string]any{"spec": spec})
}

func texts(in []string) []any {
	out := make([]any, 0, len(in))
	for _, s := range in {
		out = append(out, s)
	}
	return out
}

// extra is what must be true beside the objects of a component; nil for nothing.
func (i *Installer) extra(c fleet.Component, version string) func(context.Context) ([]fleet.Check, error) {
	switch c {
	case fleet.ComponentKubeVirt:
		return func(ctx context.Context) ([]fleet.Check, error) {
			runs, err := i.runs(ctx, version)
			if err != nil || !runs.OK {
				return []fleet.Check{runs}, err
			}
			nodes, err := i.schedulable(ctx)
			return append([]fleet.Check{runs}, nodes...), err
		}
	case fleet.ComponentLocalStorage:
		return i.volumes
	case fleet.ComponentInstanceTypes:
		return i.typesThere
	case fleet.ComponentCSI:
		return i.classes
	}
	return nil
}

// runs looks whether KubeVirt is of the version that was asked for: after a
// change of its operator the old one is Available for a while. An operator that
// tells no version is believed.
func (i *Installer) runs(ctx context.Context, version string) (fleet.Check, error) {
	check := fleet.Check{Name: "version", OK: true}
	o := KubeVirt(i.plan)
	now, err := i.cluster.Object(ctx, o.GroupVersionKind(), o.GetNamespace(), o.GetName())
	if err != nil || now == nil {
		return check, err
	}
	seen, _, _ := unstructured.NestedString(now.Object, "status", "observedKubeVirtVersion")
	if seen != "" && version != "" && seen != version {
		check.OK, check.Missing = false, fmt.Sprintf("KubeVirt is of version %s, %s is wanted", kube.Words(seen), version)
	}
	return check, nil
}

// schedulable looks whether KubeVirt takes the hypervisors that are in the
// cluster. One that is not, or is not ready, is the cluster's matter.
func (i *Installer) schedulable(ctx context.Context) ([]fleet.Check, error) {
	nodes, err := i.cluster.Objects(ctx, kindNode, "", "")
	if err != nil {
		return nil, err
	}
	var out []fleet.Check
	for _, a := range hypervisors(i.plan) {
		n := slices.IndexFunc(nodes, func(o *unstructured.Unstructured) bool { return o.GetName() == a.Node.Name })
		if n < 0 || !needs(nodes[n], "Ready").Ready {
			continue
		}
		check := fleet.Check{Name: "VMs on " + a.Node.Name, OK: true}
		if nodes[n].GetLabels()["kubevirt.io/schedulable"] != "true" {
			check.OK, check.Missing = false, "KubeVirt has not marked the node as fit for VMs"
		} else if missing := device(nodes[n], "devices.kubevirt.io/kvm"); missing != "" && !i.plan.Stack.Emulation {
			check.OK, check.Missing = false, missing
		}
		out = append(out, check)
	}
	if len(out) == 0 {
		out = append(out, fleet.Check{Name: "VMs", Missing: "no hypervisor of the plan is ready"})
	}
	return out, nil
}

// device says what is missing of a node's device; "" when it is there.
func device(node *unstructured.Unstructured, name string) string {
	n, ok, _ := unstructured.NestedString(node.Object, "status", "allocatable", name)
	if !ok || n == "0" {
		return fmt.Sprintf("the node offers no %s: KVM is not usable there", name)
	}
	return ""
}
