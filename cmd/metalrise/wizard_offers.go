package main

import (
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
