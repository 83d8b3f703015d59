package site

import (
	"path/filepath"
	"strings"

	"metalrise.dev/fleet"
)

// Path is where the file was read from; "" when it came from no file.
func (f *File) Path() string { return f.path }

// Typed gives the content as people typed it: no defaults, relative paths as
// they are. Values with faults are left out.
func (f *File) Typed() fleet.Site {
	s, _ := f.decode()
	return s
}

// Check reports every fault of the content, as Read and Load did.
func (f *File) Check() []fleet.Finding {
	_, findings := f.decode()
	return append(findings, f.unlisted...)
}

// Digest names the content as typed: comments, order of fields and the folder
// the file lies in do not change it.
// The rows of an imported list do.
func (f *File) Digest() (string, error) {
	if len(f.listed) == 0 {
		return fleet.Digest(f.Typed())
	}
	return fleet.Digest(struct {
		Site   fleet.Site     `json:"site"`
		Listed []fleet.Listed `json:"listed"`
	}{f.Typed(), f.listed})
}

// Site gives the content ready for use: defaults set, paths made absolute or
// relative to the working folder, and names of hardware (MAC, WWN, UUID,
// fingerprints) in the form that facts have them in.
func (f *File) Site() fleet.Site {
	s := f.Typed()
	if s.BMCs.Port == 0 {
		s.BMCs.Port = fleet.DefaultBMCPort
	}
	if s.Virtualization.Profile == "" {
		s.Virtualization.Profile = fleet.ProfileGeneral
	}
	s.Image = f.resolve(s.Image)
	s.Cluster.Software = f.resolve(s.Cluster.Software)
	s.Cluster.CNIManifests = f.resolve(s.Cluster.CNIManifests)
	s.BMCs.Password = f.secret(s.BMCs.Password)
	for i := range s.BMCs.Credentials {
		s.BMCs.Credentials[i].Password = f.secret(s.BMCs.Credentials[i].Password)
	}
	s.BMCs.Import = f.resolve(s.BMCs.Import)
	s.BMCs.Listed = f.listed
	for _, l := range f.listed {
		s.BMCs.Addresses = append(s.BMCs.Addresses, l.Address)
	}
	s.Cluster.Domain = strings.ToLower(s.Cluster.Domain)
	s.Cluster.LoadBalancer = strings.ToLower(s.Cluster.LoadBalancer)
	for address, pin := range s.BMCs.Pins {
		s.BMCs.Pins[address] = strings.ToLower(strings.ReplaceAll(pin, ":", ""))
	}
	for i := range s.Servers {
		o := &s.Servers[i]
		o.Serial = strings.TrimSpace(o.Serial)
		o.UUID = fleet.NewIdentity(o.UUID, "").UUID
		o.MAC = fleet.CleanMAC(o.MAC)
		o.Disk.WWN = fleet.CleanWWN(o.Disk.WWN)
	}
	return s
}

// secret makes the paths of a reference start where the file lies.
func (f *File) secret(r fleet.SecretRef) fleet.SecretRef {
	return InFolder(r, f.folder)
}

// InFolder makes the paths of a reference start in folder. A vault entry then
// has the form FILE#NAME.
func InFolder(r fleet.SecretRef, folder string) fleet.SecretRef {
	in := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(folder, path)
	}
	r.File = in(r.File)
	if r.Vault != "" {
		file, name, ok := strings.Cut(r.Vault, "#")
		if !ok {
			file, name = VaultFile, r.Vault
		}
		r.Vault = in(file) + "#" + name
	}
	return r
}

// resolve makes a path of the file start where the file lies.
func (f *File) resolve(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(f.folder, path)
}
