package main

import (
	"fmt"
	"text/tabwriter"

	"metalrise.dev/fleet"
)

// printCluster prints how the cluster stands, and what its nodes lack.
func (o *options) printCluster(view fleet.Overview) {
	c := view.Cluster
	if c == nil {
		return
	}
	state := "not begun"
	switch {
	case c.Up && c.Reachable:
		state = "up"
	case c.Up:
		state = "begun, but its API does not answer this computer"
	case c.Begun:
		state = "begun"
	}
	o.printf("\ncluster %s %s at %s: %s\n", c.Flavour, c.Version, c.Endpoint, state)
	if c.Kubeconfig != "" {
		o.printf("  KUBECONFIG=%s kubectl get nodes\n  metalrise cluster kubectl get nodes\n", c.Kubeconfig)
	}
	w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	for _, k := range c.Checks {
		if !k.OK {
			fmt.Fprintf(w, "  cluster\t%s\t%s\n", k.Name, k.Missing)
		}
	}
	for _, s := range view.Servers {
		for _, k := range s.Checks {
			if !k.OK {
				fmt.Fprintf(w, "  %s\t%s\t%s\n", s.Hostname, k.Name, k.Missing)
			}
		}
	}
	_ = w.Flush()
}
