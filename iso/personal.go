package iso

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Start says what of an earlier customisation of the base stays.
type Start int

const (
	Present  Start = iota // all that is in the base now, changed where Personal says so
	Defaults              // nothing: an empty archive and the kernel arguments it was built with
)

// Personal is what makes an ISO one server's own.
type Personal struct {
	Start Start
	// Ignition is the config for the live system. It may hold secrets: it is
	// kept in memory only and never printed. Empty leaves the one of Start.
	Ignition []byte
	// Keyfiles are NetworkManager keyfiles for the live system, there from the
	// initrd on, so that also Ignition has the network. Names end in
	// ".nmconnection" and have no folder. They replace all those of Start.
	Keyfiles []File
	// Files are further files for the live system's initrd, by paths without a
	// leading slash. One that Start has is replaced.
	Files []File
	// DeleteKargs are kernel arguments to be taken out, each one word that is
	// there; all words equal to it go.
	DeleteKargs []string
	// AppendKargs are kernel arguments put after all others, each one word that
	// CheckKarg accepts.
	AppendKargs []string
	// RootfsURL is where a live system without a root file system on its medium
	// (Base.Minimal) fetches it; needed there, refused elsewhere.
	RootfsURL string
}

// File is one file for the initrd of the live system, owned by root.
type File struct {
	Name string
	Data []byte
	Mode fs.FileMode // permissions; 0 means 0644, and 0600 for a keyfile
}

// KeyfileDir is where a CoreOS live initrd looks for NetworkManager keyfiles.
const KeyfileDir = "etc/coreos-firstboot-network"

// Bounds on what is put into an archive: what readMembers accepts again.
const (
	maxFileName  = 255
	keyfileEnd   = ".nmconnection"
	keyfileMode  = 0o600
	ordinaryMode = 0o644
)

// String gives sizes, not content.
func (p Personal) String() string {
	return fmt.Sprintf("personal{ignition: %d bytes, keyfiles: %d, files: %d, kargs: %d}",
		len(p.Ignition), len(p.Keyfiles), len(p.Files), len(p.AppendKargs)+len(p.DeleteKargs))
}

// GoString keeps %#v from printing content.
func (p Personal) GoString() string { return p.String() }

// archived says whether the embedded archive changes.
func (p Personal) archived() bool {
	return len(p.Ignition) > 0 || len(p.Keyfiles) > 0 || len(p.Files) > 0
}

// Archive makes the same archive that Personalise embeds, gzip-compressed, for a
// network boot: it is loaded as one more initrd after the live one. Kernel
// arguments are not part of it.
func Archive(p Personal) ([]byte, error) {
	b := Base{packer: &packer{}}
	b.layout.features.LiveInitrdNetwork = true // the initrd is not known here
	members, err := b.members(p)
	if err != nil {
		return nil, fmt.Errorf("make initrd archive: %w", err)
	}
	return b.packer.pack(members, 0)
}

// members gives the content of the archive, or all that is wrong with it.
func (b *Base) members(p Personal) ([]member, error) {
	var wrong []error
	var out []member
	if p.Start == Present && p.archived() {
		if b.layout.presentErr != nil {
			return nil, fmt.Errorf("what the base has in its embed area cannot be kept; start from its defaults: %w", b.layout.presentErr)
		}
		out = slices.Clone(b.layout.present)
		if len(p.Keyfiles) > 0 {
			out = slices.DeleteFunc(out, func(m member) bool { return strings.HasPrefix(m.name, KeyfileDir+"/") })
		}
	}
	given := map[string]bool{}
	put := func(m member) {
		if given[m.name] {
			wrong = append(wrong, &NameError{m.name, "is given twice"})
		}
		given[m.name] = true
		if i := slices.IndexFunc(out, func(o member) bool { return o.name == m.name }); i >= 0 {
			out[i] = m
			return
		}
		out = append(out, m)
	}
	if len(p.Ignition) > maxConfig {
		wrong = append(wrong, &TooLargeError{Part: PartIgnition, Raw: int64(len(p.Ignition)), Need: int64(len(p.Ignition)), Have: maxConfig})
	}
	if len(p.Keyfiles) > 0 && !b.layout.features.LiveInitrdNetwork {
		wrong = append(wrong, ErrNoNetwork)
	}
	for _, f := range p.Keyfiles {
		if err := checkKeyfile(f); err != nil {
			wrong = append(wrong, err)
			continue
		}
		put(f.member(KeyfileDir+"/"+f.Name, keyfileMode))
	}
	for _, f := range p.Files {
		if err := checkFile(f); err != nil {
			wrong = append(wrong, err)
			continue
		}
		put(f.member(f.Name, ordinaryMode))
	}
	if len(p.Ignition) > 0 {
		// mode 0644 is what coreos-installer writes; only root sees the initramfs
		put(member{name: configName, mode: modeFile | ordinaryMode, data: p.Ignition})
	}
	total := int64(0)
	for _, m := range out {
		total += int64(len(m.data) + len(m.name) + 2*newcHeader)
	}
	if have := int64(maxArchive - 1<<20); total > have || len(out) > maxMembers/2 { // room for folders
		wrong = append(wrong, &TooLargeError{Part: PartFiles, Raw: total, Need: total, Have: have})
	}
	return out, errors.Join(wrong...)
}

func (f File) member(name string, otherwise uint32) member {
	mode := uint32(f.Mode.Perm())
	if mode == 0 {
		mode = otherwise
	}
	return member{name: name, mode: modeFile | mode, data: f.Data}
}

// checkKeyfile: NetworkManager's live initrd takes any file of that folder; the
// ending keeps out what is no keyfile, as a private key given by mistake.
func checkKeyfile(f File) error {
	if strings.Contains(f.Name, "/") || !strings.HasSuffix(f.Name, keyfileEnd) || f.Name == keyfileEnd {
		return &NameError{f.Name, "is no name of a keyfile: want NAME" + keyfileEnd + " without a folder"}
	}
	return checkFile(f)
}

func checkFile(f File) error {
	refuse := func(why string) error { return &NameError{f.Name, why} }
	switch {
	case !fs.ValidPath(f.Name) || f.Name == ".":
		return refuse("is no path: want folder/file, without a leading slash, . or ..")
	case len(f.Name) > maxFileName:
		return refuse(fmt.Sprintf("has %d bytes, at most %d are allowed", len(f.Name), maxFileName))
	case f.Name == configName:
		return refuse("is the name of the Ignition config, which is given by itself")
	case f.Name == newcTrailer:
		return refuse("marks the end of an archive")
	case strings.IndexFunc(f.Name, func(r rune) bool { return r < 0x21 || r > 0x7e }) >= 0:
		return refuse("has a character other than printable ASCII without space")
	case len(f.Data) > maxConfig:
		return refuse(fmt.Sprintf("has %d bytes of content, at most %d are allowed", len(f.Data), maxConfig))
	}
	return nil
}

// kargs gives the kernel arguments of each area, nil if they stay as they are,
// or all that is wrong with the wish.
func (b *Base) kargs(p Personal) ([][]string, error) {
	appended, err := b.appended(p)
	wrong := []error{err}
	if p.Start == Present && len(appended)+len(p.DeleteKargs) == 0 {
		return nil, errors.Join(wrong...)
	}
	if len(b.layout.kargs) == 0 {
		if len(appended)+len(p.DeleteKargs) > 0 {
			wrong = append(wrong, ErrNoKargsArea)
		}
		return nil, errors.Join(wrong...)
	}
	if p.Start == Defaults && b.layout.standard == "" {
		return nil, errors.Join(append(wrong, ErrNoDefaults)...)
	}
	out := make([][]string, 0, len(b.layout.kargs))
	for i, a := range b.layout.kargs {
		words := strings.Fields(a.current)
		if p.Start == Defaults {
			words = strings.Fields(b.layout.standard)
		}
		for _, d := range p.DeleteKargs {
			n := len(words)
			words = slices.DeleteFunc(words, func(w string) bool { return w == d })
			if len(words) == n && i == 0 {
				wrong = append(wrong, &KargError{d, "is not among the kernel arguments of the base, so it cannot be deleted"})
			}
		}
		out = append(out, append(words, appended...))
	}
	return out, errors.Join(wrong...)
}

// appended gives the arguments to be appended, checked.
func (b *Base) appended(p Personal) ([]string, error) {
	var wrong []error
	out := slices.Clone(p.AppendKargs)
	if (p.RootfsURL != "") != b.reduced {
		wrong = append(wrong, ErrRootfsURL)
	}
	if p.RootfsURL != "" {
		if !strings.HasPrefix(p.RootfsURL, "https://") && !strings.HasPrefix(p.RootfsURL, "http://") {
			wrong = append(wrong, &KargError{rootfsKarg + p.RootfsURL, "wants an address of http or https"})
		}
		out = append(out, rootfsKarg+p.RootfsURL)
	}
	for _, k := range out {
		if err := CheckKarg(k); err != nil {
			wrong = append(wrong, err)
		}
	}
	return out, errors.Join(wrong...)
}
