// Package plan turns a site and the facts of its servers into a plan: every
// decision taken, with the reason for each and all findings at once. It is
// pure: it never touches network or disk and never reads a clock; equal inputs
// give equal plans with equal ids, whatever order servers or facts come in.
//
// # Written rules
//
// Nothing is picked by luck. Where several things would do, these rules decide:
//
// Order of servers. As people typed them: by the position of the BMC's address
// in bmcs.addresses (entry by entry, inside an entry by rising address), then by
// port, then by server id. BMCs that no entry covers come last. This is the
// order of host names and addresses, so it is rack order where people type so.
//
// Roles. One server becomes a single node. Two need a person's decision, because
// two control planes are worse than one. From three on, three are control planes
// (cluster.controlPlanes may say 1, 3 or 5) and the others workers. Roles under
// servers win; the rest is filled up in the order of servers.
//
// Host names. <site>-cp1, <site>-cp2 … for control planes and single nodes,
// <site>-w1 … for workers, counted in the order of servers; a name that a person
// gave to some server is passed over. cluster.domain is appended, also to given
// names without a dot.
//
// Addresses. network.firstAddress is the first server's; the others count up in
// the order of servers, roles notwithstanding. Passed over are the network's own
// and broadcast address, the gateway, name and time servers, serving.address,
// the BMCs and every address given under servers. Servers that are excluded or
// have a given address take none from the count.
//
// Network port. The MAC under servers, else the lowest MAC among ports with
// link, else the lowest among ports whose link is unknown, else among those
// without link (a powered-off server may show all its ports so). Ports to the
// BMC itself (USB network gadgets) are never taken. With a bond: every port with
// link, none else; no link known means no bond is guessed.
//
// Install disk. The disk under servers, else the smallest that fits, then SSD
// before unknown before HDD, then lowest WWN, then lowest serial. A disk fits
// when it can be named by a WWN or serial that no other disk of the server has,
// is neither removable nor attached over USB, SD or a storage network, satisfies
// the hints under disks, and holds the image: at least disks.minSizeGiB (8 GiB
// where nothing is said) and at least the image's uncompressed size. What is
// unknown does not fit. A disk whose WWN another server shows too is shared, and
// never erased.
//
// Waves. Control planes and single nodes are wave 0, workers wave 1, excluded
// servers wave 2. Waves order the list and the start of joining the cluster;
// disks of all waves are installed in parallel.
package plan
