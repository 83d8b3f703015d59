package kube

import (
	"strings"
	"testing"

	"metalrise.dev/fleet"
)

func TestGoldenBase(t *testing.T) {
	for name, change := range map[string]func(*fleet.Plan){
		"base-flannel.yaml": func(p *fleet.Plan) {},
		"base-flannel-host-gw-dns.yaml": func(p *fleet.Plan) {
			p.Cluster.CNI = fleet.FlannelHostGW
			for i := range p.Assignments {
				p.Assignments[i].Network.DNS = []string{"10.0.1.2"}
			}
		},
		"base-flannel-ipv6.yaml": func(p *fleet.Plan) { p.Cluster.PodCIDR = "fd00:244::/48" },
		"base-own.yaml": func(p *fleet.Plan) {
			p.Cluster.CNI = fleet.OwnCNI
			p.Cluster.Manifests = "apiVersion: v1\nkind: Namespace\nmetadata: {name: own}"
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := testPlan(t, 3, fleet.VirtualIP)
			change(&p)
			got, err := BaseManifests(p, testPayload())
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name, got)
		})
	}
}

// Every image that is named anywhere comes with the payload.
func TestImagesComeWithThePayload(t *testing.T) {
	p := testPlan(t, 3, fleet.VirtualIP)
	payload := testPayload()
	text, err := BaseManifests(p, payload)
	if err != nil {
		t.Fatal(err)
	}
	pod, err := testNode(t, p, "oslo-cp1", hardware()).keepalivedPod()
	if err != nil {
		t.Fatal(err)
	}
	brought := map[string]bool{}
	for _, i := range payload.Images {
		for _, r := range i.References {
			brought[r] = true
		}
	}
	found := 0
	for line := range strings.SplitSeq(string(text)+string(pod), "\n") {
		if _, image, ok := strings.Cut(line, "image: "); ok {
			found++
			if !brought[strings.TrimSpace(image)] {
				t.Errorf("image %s is not in the payload", image)
			}
		}
	}
	if found != 3 {
		t.Errorf("%d images", found)
	}
}

func TestBaseWithoutWhatItNeeds(t *testing.T) {
	for name, spoil := range map[string]func(*fleet.Plan, *fleet.Payload){
		"no cluster": func(p *fleet.Plan, _ *fleet.Payload) { p.Cluster = nil },
		"no flannel": func(_ *fleet.Plan, v *fleet.Payload) { v.Images = v.Images[:2] },
		"no range":   func(p *fleet.Plan, _ *fleet.Payload) { p.Cluster.PodCIDR = "10.244" },
		"no CNI":     func(p *fleet.Plan, _ *fleet.Payload) { p.Cluster.CNI = "calico" },
	} {
		p, payload := testPlan(t, 3, fleet.VirtualIP), testPayload()
		spoil(&p, &payload)
		if _, err := BaseManifests(p, payload); fleet.KindOf(err) != fleet.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}
