package vmstack

import (
	"context"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// joined leaves out the nodes that are not in the API: applying labels would make
// them, and a server that joins later would find its name taken. A node is bound by
// its uid, so that one that leaves meanwhile is not made again either.
func (i *Installer) joined(ctx context.Context, objects []*unstructured.Unstructured, tell Teller) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	var absent []string
	for _, o := range objects {
		if o.GetKind() == "Node" {
			have, err := i.cluster.Object(ctx, kindNode, "", o.GetName())
			if err != nil {
				return nil, err
			}
			if have == nil {
				absent = append(absent, o.GetName())
				continue
			}
			o.SetUID(have.GetUID())
		}
		out = append(out, o)
	}
	if len(absent) > 0 {
		tell("not labelled, because they have not joined yet: "+strings.Join(absent, ", "), nil)
	}
	return out, nil
}
