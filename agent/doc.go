// Package agent is what runs on a server itself: it looks at the machine, calls
// home with what it saw, writes the one planned disk when told so, and reboots
// into it, or erases the disk of a server that is taken away; in the installed system it reports that the server arrived and, where
// the server becomes a node of a cluster, carries out tasks until metalrise needs
// nothing more of it (package node does the steps).
//
// It never chooses a disk, never writes to a disk that is not the ordered one,
// never runs anything that came with an image, never reboots after a failure
// and never gives up: a machine that cannot go on stays up and keeps asking.
//
// # How a disk is written
//
//  1. The disk is found again by WWN or serial, opened exclusively and looked at;
//     data of somebody else stop everything.
//  2. Its first and last MiB are zeroed and flushed. From here on the disk cannot
//     boot and shows no partitions.
//  3. The image is streamed behind the first MiB, which is held back in memory.
//     The digest over the whole uncompressed stream must be the ordered one.
//  4. Everything is flushed and read back from the disk.
//  5. Ignition config, first-boot arguments and our marker go into the partition
//     named "boot", whose place the held-back partition table tells.
//  6. The first MiB is written, its very first sectors last, with the backup
//     partition table moved to the disk's end. Only this makes the disk
//     bootable.
//
// A machine that dies at any point before the last step comes back with a disk
// that does not boot, which is seen; never with half a system, which may not be.
//
// # How a disk is erased
//
// After the same checks as before a write: tables, and the places where file
// systems, volumes and arrays keep their signatures and keys, are zeroed; then the
// whole disk is discarded, or, where it cannot discard, written over with zeros
// for at most ten minutes. The zeroed places are read back. The report says which
// it was and of how many bytes. A discarded disk gives no proof that nothing can
// be found on it by its maker, and a disk that was written over in part keeps the
// rest: who needs more than that has it destroyed or uses the disk's own sanitize
// command. The machine then waits until its power is cut.
//
// # How a task is carried out
//
// One step after the other, while the agent reports how far it is. How a task
// ended is on the disk before it is reported, so that neither a restart of the
// agent nor of the machine does it again; a failed one is done again only under
// another ID. A task that was cut off begins at its first step: what is done
// already costs a look. Orders that do not say "go on" end it after the step
// under way.
package agent
