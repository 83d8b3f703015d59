package fleet

import "testing"

func TestSizeOf(t *testing.T) {
	kubevirt, _ := CatalogueOf(ComponentKubeVirt)
	networks, _ := CatalogueOf(ComponentVMNetworks)
	told := Payload{Images: []PayloadImage{
		{Name: "handler", Component: ComponentKubeVirt, References: []string{"a", "b"}, Bytes: 30},
		{Name: "operator", Component: ComponentKubeVirt, Bytes: 12}, {Name: "etcd", Bytes: 7},
	}}
	if s := told.SizeOf(kubevirt); s == nil || *s != (ComponentSize{Images: 3, Bytes: 42}) {
		t.Errorf("the software tells %+v", s)
	}
	if s := (Payload{}).SizeOf(kubevirt); s == nil || *s != (ComponentSize{kubevirt.Images, kubevirt.Bytes, true}) {
		t.Errorf("software that does not tell: %+v", s)
	}
	if s := told.SizeOf(networks); s != nil {
		t.Errorf("a component without images has %+v", s)
	}
	sum := TotalSize([]ComponentPlan{{Size: told.SizeOf(kubevirt)}, {}, {Size: &ComponentSize{Images: 1, Bytes: 8, Estimated: true}}})
	if sum != (ComponentSize{Images: 4, Bytes: 50, Estimated: true}) {
		t.Errorf("together %+v", sum)
	}
}
