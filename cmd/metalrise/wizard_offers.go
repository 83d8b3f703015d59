package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"metalrise.dev/fleet"
	"metalrise.dev/lab"
)

// offers looks for values of fields that name a folder on this computer: beside
// the site file, else in this computer's labs. Only what is found exactly once is
// offered; a choice between several is a person's.
func (d *clerk) offers(s fleet.Site) map[string]string {
	out := map[string]string{}
	here := filepath.Dir(d.o.file)
	for path, mark := range map[string]string{"image": "stream.json", "cluster.software": "payload.json"} {
		found := foldersWith(here, mark)
		if len(found) == 0 && path == "image" {
			found = labImages()
		}
		if len(found) == 1 {
			out[path] = found[0]
		}
	}
	if s.Cluster.Software != "" {
		delete(out, "cluster.software")
	}
	return out
}

// foldersWith lists the folders in a folder that hold a file of this name, as
// the site file would name them.
func foldersWith(in, name string) []string {
	entries, err := os.ReadDir(in)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries[:min(len(entries), 1000)] {
		if info, err := os.Stat(filepath.Join(in, e.Name(), name)); err == nil && info.Mode().IsRegular() {
			out = append(out, e.Name())
		}
	}
	return out
}

// labImages lists the images of this computer's labs, each once.
func labImages() []string {
	dir, err := labsDir()
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries[:min(len(entries), 1000)] {
		c, err := lab.ReadConfig(filepath.Join(dir, e.Name()))
		if err == nil && c.ImageDir != "" && !slices.Contains(out, c.ImageDir) {
			out = append(out, c.ImageDir)
		}
	}
	return out
}

// freeAddress offers an address for the cluster where the plan needs one: the
// first after those of the servers. Nobody was asked whether it is free; the
// person who accepts it knows.
func freeAddress(s fleet.Site, p fleet.Plan) string {
	if s.Cluster.Software == "" || s.Cluster.VIP != "" || s.Cluster.LoadBalancer != "" {
		return ""
	}
	var last netip.Prefix
	leaders, used := 0, map[netip.Addr]bool{}
	for _, text := range append([]string{s.Network.Gateway}, s.Network.DNS...) {
		if a, err := netip.ParseAddr(text); err == nil {
			used[a] = true
		}
	}
	for _, as := range p.Assignments {
		if as.Role == fleet.ControlPlane {
			leaders++
		}
		if n, err := netip.ParsePrefix(as.Network.Address); err == nil && (!last.IsValid() || last.Addr().Less(n.Addr())) {
			last = n
		}
	}
	if leaders < 2 || !last.IsValid() {
		return ""
	}
	next := last.Addr().Next()
	for used[next] {
		next = next.Next()
	}
	if !last.Masked().Contains(next) || !last.Masked().Contains(next.Next()) { // the last address of IPv4 is for all
		return ""
	}
	return next.String()
}
