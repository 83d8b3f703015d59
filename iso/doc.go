// Package iso turns one base live ISO of CoreOS layout and one server's bytes
// into that server's own ISO, as a stream: an Ignition config in the embed
// area, kernel arguments in the kernel argument areas, everything else served
// straight from the base file.
//
// It never writes to the base, never writes a copy of it, and never keeps more
// in memory per server than the bytes that differ. It trusts nothing it reads
// from an ISO: every size, offset and name is checked against fixed bounds.
//
// The layout is the one coreos-installer documents and reads
// (docs/iso-embed-ignition.md, src/live/embed.rs of that project):
//
//   - /coreos/igninfo.json names the file, and maybe the part of it, that is
//     the embed area; without it the area is /images/ignition.img, or on the
//     oldest images what the "coreiso+" header at the end of the ISO 9660
//     system area says. It holds a compressed newc cpio with one file,
//     config.ign, padded with zeros, and is loaded as one more initrd. Network
//     keyfiles and any other files may be in it too.
//   - /coreos/kargs.json names the places inside boot loader configurations
//     that hold the kernel arguments; without it the "coreKarg" header of the
//     system area does, and failing both, lines ending in the marker
//     COREOS_KARG_EMBED_AREA in grub.cfg and isolinux.cfg.
//
// An archive that is larger than the area goes behind the end of the ISO, and the
// directories say so: boot loaders load the area's file by its name. Minimal
// leaves out the root file system, Probe makes a medium that only wants to be
// fetched, and Cache keeps images between requests. docs/iso.md says more.
package iso
