package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"metalrise.dev/fleet"
)

const gib = 1 << 30

// floorGiB is the least size of an install disk where the site says nothing:
// the image plus room to write logs and container layers for a first start.
const floorGiB = 8

// candidate is a disk, the reference that would name it, and why not.
type candidate struct {
	disk  fleet.Disk
	ref   fleet.DiskRef
	unfit string // "" when the disk fits
}

// chooseDisk decides which disk is erased. All others are kept.
func (m *maker) chooseDisk(d *draft) {
	all := candidates(disksOf(d.facts))
	chosen := -1
	if o := d.override.Disk; o.WWN != "" || o.Serial != "" {
		chosen = m.namedDisk(d, all)
	} else {
		chosen = m.smallestDisk(d, all)
	}
	nameless := 0
	for i, c := range all {
		switch {
		case i == chosen:
		case c.ref == (fleet.DiskRef{}):
			nameless++ // a reference to it could name the install disk as well
		default:
			d.KeepDisks = append(d.KeepDisks, c.ref)
		}
	}
	if nameless > 0 {
		d.because("kept besides the disks listed: %d without a WWN or serial of their own", nameless)
	}
	if chosen >= 0 {
		d.InstallDisk = all[chosen].ref
		m.checkOwner(d, all[chosen].disk)
	}
	m.checkForeign(d, all)
}

// namedDisk finds the disk a person named. Hints do not bind it, but it must be
// possible to name it, and the image must fit.
func (m *maker) namedDisk(d *draft, all []candidate) int {
	want := fleet.DiskRef{WWN: fleet.CleanWWN(d.override.Disk.WWN), Serial: strings.TrimSpace(d.override.Disk.Serial)}
	found := -1
	for i, c := range all {
		// Every part a person typed must be there; Match would let a missing one pass.
		if want.WWN != "" && want.WWN != c.disk.WWN || want.Serial != "" && want.Serial != c.disk.Serial {
			continue
		}
		if found >= 0 {
			m.add(fleet.CodeDiskUnknown, fleet.Blocker, d.Server, d.path("disk"), fmt.Sprintf("%s names more than one disk of the server", want), "Name both wwn and serial, or another disk.")
			return -1
		}
		found = i
	}
	if found < 0 {
		m.add(fleet.CodeDiskUnknown, fleet.Blocker, d.Server, d.path("disk"), fmt.Sprintf("the server has no disk with %s; it has %s", want, listDisks(all)), "Compare serial and WWN with `metalrise inspect`.")
		return -1
	}
	c := all[found]
	size, known := c.disk.SizeBytes.Get()
	switch {
	case c.ref == (fleet.DiskRef{}):
		m.add(fleet.CodeDiskUnknown, fleet.Blocker, d.Server, d.path("disk"), fmt.Sprintf("%s cannot be told from the server's other disks: %s", want, c.unfit), "Name a disk with a WWN or serial of its own.")
		return -1
	case known && size < m.in.Image.DiskBytes:
		m.add(fleet.CodeNoInstallDisk, fleet.Blocker, d.Server, d.path("disk"), fmt.Sprintf("%s has %s, the image needs %s", want, bytes(size), bytes(m.in.Image.DiskBytes)), "Name a larger disk.")
		return -1
	case !known:
		m.add(fleet.CodeFactsMissing, fleet.Warning, d.Server, "facts.disks", fmt.Sprintf("the size of %s is unknown; the image may not fit", want), "Compare with the server's papers.")
	}
	if c.disk.Hidden != "" {
		m.add(fleet.CodeFactsMissing, fleet.Warning, d.Server, "facts.disks", fmt.Sprintf("the BMC says that the system does not see %s: %s", want, c.disk.Hidden), "Name the volume or another disk, or change the RAID controller's settings.")
	}
	d.because("install disk %s: named under %s", describe(c), d.overrideAt)
	return found
}

// smallestDisk applies the rule.
func (m *maker) smallestDisk(d *draft, all []candidate) int {
	least := m.leastBytes()
	var fitting []int
	for i := range all {
		if all[i].unfit == "" {
			all[i].unfit = m.unfit(all[i].disk, least)
		}
		if all[i].unfit == "" {
			fitting = append(fitting, i)
		}
	}
	if len(fitting) == 0 {
		text := "the facts show no disk"
		if len(all) > 0 {
			text = fmt.Sprintf("none of %d disks fits: %s", len(all), listDisks(all))
		}
		m.add(fleet.CodeNoInstallDisk, fleet.Blocker, d.Server, "disks", text, "Loosen the hints under disks, or name a disk under servers.")
		return -1
	}
	slices.SortFunc(fitting, func(i, j int) int { return compareDisks(all[i], all[j]) })
	best := all[fitting[0]]
	why := "the only disk that fits"
	if len(fitting) > 1 {
		next := all[fitting[1]]
		why = fmt.Sprintf("the smallest of %d disks that fit (at least %s)", len(fitting), bytes(least))
		if sameSize(best, next) {
			why = fmt.Sprintf("%s before %s among the smallest of %d disks that fit", best.disk.Media, next.disk.Media, len(fitting))
			if best.disk.Media == next.disk.Media {
				why = fmt.Sprintf("the lowest WWN or serial of several smallest disks that fit (%s each)", bytes(best.ref.SizeBytes))
				m.add(fleet.CodeAmbiguousDisk, fleet.Info, d.Server, d.path("disk"),
					fmt.Sprintf("%s was taken before %s of the same size and kind", describe(best), describe(next)), "Check the choice; name the disk under servers if another one is meant.")
			}
		}
	}
	d.because("install disk %s: %s", describe(best), why)
	return fitting[0]
}

func (m *maker) leastBytes() int64 {
	least := int64(floorGiB)
	if n := m.in.Site.Disks.MinSizeGiB; n > 0 {
		least = min(int64(n), 1<<20) // a PiB, so that no number a person types overflows
	}
	return max(least*gib, m.in.Image.DiskBytes)
}

// unfit tells why a disk is not chosen by rule, beyond having no name.
func (m *maker) unfit(d fleet.Disk, least int64) string {
	hints := m.in.Site.Disks
	size, known := d.SizeBytes.Get()
	switch {
	case d.Removable:
		return "removable"
	case d.Hidden != "":
		return "not seen by the system: " + d.Hidden
	case attachedElsewhere(d.Protocol):
		return "attached over " + d.Protocol
	case !known:
		return "size unknown"
	case size < least:
		return fmt.Sprintf("%s is less than %s", bytes(size), bytes(least))
	case hints.Media != "" && d.Media != hints.Media:
		return fmt.Sprintf("disks.media wants %s, it is %s", hints.Media, mediaOf(d))
	case hints.Model != "" && !strings.Contains(strings.ToLower(d.Model), strings.ToLower(hints.Model)):
		return fmt.Sprintf("disks.model wants %q, it is %q", hints.Model, d.Model)
	}
	return ""
}

// attachedElsewhere tells whether a protocol leads out of the server, where
// others may use the disk too, or to a stick somebody left in.
func attachedElsewhere(protocol string) bool {
	switch strings.ToLower(protocol) {
	case "usb", "sd", "mmc", "fc", "fcp", "fcoe", "iscsi", "nvmeoverfabrics", "nvme-of", "ethernet", "infiniband":
		return true
	}
	return false
}

// checkOwner refuses a disk that another site marked, unless its serial was typed.
func (m *maker) checkOwner(d *draft, disk fleet.Disk) {
	if disk.Owner == "" || disk.Owner == m.in.Site.Name {
		return
	}
	if disk.Serial != "" && strings.TrimSpace(d.override.EraseForeign) == disk.Serial {
		d.because("the disk belongs to site %s and may be erased: eraseForeign under %s", disk.Owner, d.overrideAt)
		return
	}
	m.add(fleet.CodeDiskForeign, fleet.Blocker, d.Server, d.path("eraseForeign"), fmt.Sprintf("%s was installed by site %q", d.InstallDisk, disk.Owner),
		"If its data may go, set eraseForeign to the disk's serial under servers; else name another disk.")
}

// checkSharedDisks refuses a disk that another server sees too, as in a shared
// enclosure: erasing it would erase it under both. Only the WWN tells, because
// emulated disks of different servers often have the same serial.
func (m *maker) checkSharedDisks() {
	seen := map[string][]*draft{}
	for _, d := range m.drafts {
		for _, c := range candidates(disksOf(d.facts)) {
			if w := c.disk.WWN; w != "" && !slices.Contains(seen[w], d) {
				seen[w] = append(seen[w], d)
			}
		}
		// A kept server may not have been inspected again.
		if w := d.InstallDisk.WWN; d.kept && w != "" && !slices.Contains(seen[w], d) {
			seen[w] = append(seen[w], d)
		}
	}
	for _, d := range m.fresh() {
		for _, other := range seen[d.InstallDisk.WWN] {
			if other != d {
				m.add(fleet.CodeNoInstallDisk, fleet.Blocker, d.Server, d.path("disk"), fmt.Sprintf("%s is also seen by server %s: the two share it", d.InstallDisk, other.Server),
					"Name a disk of the server's own under servers, or take the shared storage off while installing.")
				break
			}
		}
	}
}

// checkForeign takes over the permission to erase foreign data. It is worth
// something only for the install disk.
func (m *maker) checkForeign(d *draft, all []candidate) {
	serial := strings.TrimSpace(d.override.EraseForeign)
	if serial == "" {
		return
	}
	if serial == d.InstallDisk.Serial {
		d.Foreign = serial
		return
	}
	text := fmt.Sprintf("eraseForeign names serial %q, which no disk of the server has", serial)
	if slices.ContainsFunc(all, func(c candidate) bool { return c.disk.Serial == serial }) {
		text = fmt.Sprintf("eraseForeign names serial %q, but the disk to be erased is %s", serial, d.InstallDisk)
	}
	m.add(fleet.CodeDiskUnknown, fleet.Blocker, d.Server, d.path("eraseForeign"), text, "Correct the serial, or name the disk under servers too.")
}

// disksOf lists the disks of a server and the volumes that its RAID controllers
// show to the system in place of drives, where they have a name to find them by.
func disksOf(f fleet.Facts) []fleet.Disk {
	out := slices.Clone(f.Disks)
	for _, v := range f.Volumes {
		if v.RAID != "" && v.WWN != "" {
			out = append(out, fleet.Disk{WWN: v.WWN, SizeBytes: v.SizeBytes, Media: fleet.MediaUnknown, Source: v.URI})
		}
	}
	return out
}

// candidates cleans the disks, sorts them so that the order of facts does not
// matter, and finds what can name each of them alone.
func candidates(disks []fleet.Disk) []candidate {
	out := make([]candidate, 0, len(disks))
	wwns, serials := map[string]int{}, map[string]int{}
	for _, d := range disks {
		d.WWN, d.Serial = fleet.CleanWWN(d.WWN), diskSerial(d.Serial)
		wwns[d.WWN]++
		serials[d.Serial]++
		out = append(out, candidate{disk: d})
	}
	slices.SortFunc(out, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.disk.Serial, b.disk.Serial), cmp.Compare(a.disk.WWN, b.disk.WWN),
			cmp.Compare(a.disk.SizeBytes.Or(-1), b.disk.SizeBytes.Or(-1)), cmp.Compare(a.disk.Source, b.disk.Source))
	})
	for i := range out {
		c := &out[i]
		ref := fleet.DiskRef{SizeBytes: c.disk.SizeBytes.Or(0), Model: c.disk.Model}
		if wwns[c.disk.WWN] == 1 {
			ref.WWN = c.disk.WWN
		}
		if serials[c.disk.Serial] == 1 {
			ref.Serial = c.disk.Serial
		}
		switch {
		case ref.WWN != "" || ref.Serial != "":
			c.ref = ref
		case c.disk.WWN == "" && c.disk.Serial == "":
			c.unfit = "has neither WWN nor serial"
		default:
			c.unfit = "shares its WWN or serial with another disk"
		}
	}
	return out
}

// diskSerial leaves out what firmware writes where it knows no serial. Blanks
// inside are kept: some makers have them.
func diskSerial(s string) string {
	s = strings.TrimSpace(s)
	if !strings.Contains(s, " ") {
		return fleet.NewIdentity("", s).Serial
	}
	return s
}

func compareDisks(a, b candidate) int {
	return cmp.Or(
		cmp.Compare(a.disk.SizeBytes.Or(0), b.disk.SizeBytes.Or(0)),
		cmp.Compare(rankMedia(a.disk.Media), rankMedia(b.disk.Media)),
		lastEmpty(a.ref.WWN, b.ref.WWN),
		lastEmpty(a.ref.Serial, b.ref.Serial),
	)
}

// lastEmpty compares names; a missing one comes last.
func lastEmpty(a, b string) int {
	if (a == "") != (b == "") {
		return -cmp.Compare(a, b)
	}
	return cmp.Compare(a, b)
}

func rankMedia(k fleet.MediaKind) int {
	switch k {
	case fleet.MediaSSD:
		return 0
	case fleet.MediaHDD:
		return 2
	}
	return 1
}

func mediaOf(d fleet.Disk) fleet.MediaKind { return cmp.Or(d.Media, fleet.MediaUnknown) }

func sameSize(a, b candidate) bool { return a.disk.SizeBytes.Or(0) == b.disk.SizeBytes.Or(0) }

// describe is a disk for people.
func describe(c candidate) string {
	name := fleet.DiskRef{WWN: c.disk.WWN, Serial: c.disk.Serial}.String()
	if c.disk.WWN == "" && c.disk.Serial == "" {
		name = c.disk.Source
	}
	size := "size unknown"
	if n, known := c.disk.SizeBytes.Get(); known {
		size = bytes(n)
	}
	return fmt.Sprintf("%s, %s %s", name, size, mediaOf(c.disk))
}

// listDisks is for people: at most 12 disks, each with what speaks against it.
func listDisks(all []candidate) string {
	if len(all) == 0 {
		return "none"
	}
	var out []string
	for i, c := range all {
		if i == 12 {
			out = append(out, fmt.Sprintf("and %d more", len(all)-i))
			break
		}
		text := describe(c)
		if c.unfit != "" {
			text += ": " + c.unfit
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// bytes writes a size with one decimal in GiB, exact bytes below that.
func bytes(n int64) string {
	if n < gib {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/gib)
}
