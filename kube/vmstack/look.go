package vmstack

import (
	"cmp"
	"context"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"metalrise.dev/fleet"
	"metalrise.dev/kube"
)

// Installed is one component as it is in the cluster now.
type Installed struct {
	Component fleet.Component `json:"component"`
	Version   string          `json:"version,omitempty"`  // that was applied
	Observed  string          `json:"observed,omitempty"` // that its operator says it runs; "" where it says none
	State     string          `json:"state"`              // "applying", "ready" (once, when it was installed) or "removing"
	Ready     bool            `json:"ready"`              // now
	Checks    []fleet.Check   `json:"checks,omitempty"`
}

// Look tells which components are in the cluster, in the order of the catalogue,
// and whether all that belongs to them is there and ready. It changes nothing.
func (i *Installer) Look(ctx context.Context) ([]Installed, error) {
	lists, err := i.cluster.Objects(ctx, kindConfigMap, metav1.NamespaceSystem, componentLabel)
	if err != nil {
		return nil, err
	}
	var out []Installed
	for _, o := range lists {
		if !strings.HasPrefix(o.GetName(), inventoryPrefix) {
			continue
		}
		list, err := readInventory(o)
		if err != nil {
			return nil, err
		}
		one, err := i.lookAt(ctx, *list)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	order := fleet.Catalogue()
	place := func(v Installed) int {
		return slices.IndexFunc(order, func(e fleet.CatalogueEntry) bool { return e.Name == v.Component })
	}
	slices.SortFunc(out, func(a, b Installed) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), strings.Compare(string(a.Component), string(b.Component)))
	})
	return out, nil
}

func (i *Installer) lookAt(ctx context.Context, list inventory) (Installed, error) {
	v := Installed{Component: list.Component, Version: list.Version, State: list.State}
	there, lacking := 0, []string{}
	for _, r := range list.Objects {
		o, err := i.cluster.Object(ctx, r.kind(), r.Namespace, r.Name)
		if err != nil {
			return v, err
		}
		if o == nil {
			lacking = append(lacking, r.String())
			continue
		}
		there++
		if seen, _, _ := unstructured.NestedString(o.Object, "status", "observedKubeVirtVersion"); seen != "" {
			v.Observed = seen
		}
		if seen, _, _ := unstructured.NestedString(o.Object, "status", "observedVersion"); seen != "" {
			v.Observed = seen
		}
		if judged(o) {
			h := judge(o)
			v.Checks = append(v.Checks, fleet.Check{Name: r.String(), OK: h.Ready, Missing: kube.Words(h.Missing)})
		}
	}
	all := fleet.Check{Name: "objects", OK: len(lacking) == 0}
	if !all.OK {
		all.Missing = kube.Words("not there: " + strings.Join(lacking, ", "))
	}
	v.Checks = append([]fleet.Check{all}, v.Checks...)
	if extra := i.extra(list.Component, list.Version); extra != nil && i.plan.Stack != nil {
		more, err := extra(ctx)
		if err != nil {
			return v, err
		}
		v.Checks = append(v.Checks, more...)
	}
	v.Ready = waiting(v.Checks) == "" && list.State == stateReady
	return v, nil
}
