// Package plan turns a site and the facts of its servers into a plan: every
// decision taken, with the reason for each and all findings at once. It is
// pure: it never touches network or disk and never reads a clock; equal inputs
// give equal plans with equal ids, whatever order servers or facts come in. It
// never changes what is installed.
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
//
// # Rules of clusters
//
// There is a cluster exactly where cluster.software is set (or where one was
// begun). Version and digest are those of the software, which must be for the
// flavour and for the processors of the release.
//
// API. At cluster.vip or cluster.loadBalancer; a single control plane with
// neither has it at its own address. Several control planes need one of the two.
// A virtual address lies in the servers' network and is nobody else's; addresses
// that are counted up pass over it. Its virtual router id is cluster.vrrp, else
// the last octet of the address, 1 where that is 0. The port is 6443, or the load
// balancer's.
//
// Ranges. Pods 10.244.0.0/16 and services 10.96.0.0/16, in IPv6 networks
// fd00:10:244::/48 and fd00:10:96::/112. Both are of the family of the servers'
// network and overlap neither each other nor that network, and no address that
// is known (BMCs, gateway, name and time servers, serving.address, the API's) is
// in them. Pods need a /24 (IPv6: a /64) for each node.
//
// Nodes. A node is called like its host. The control plane that begins the
// cluster is the first in the order of the plan. Control planes run pods and VMs
// where there are no workers or cluster.controlPlaneWorkloads is set; else they
// have the taint that kubeadm gives them. The label of workers goes to every node
// that runs VMs, and with virtualization.dedicatedCPUs the static CPU manager.
//
// Kept free for the host. What the site says; else 500m CPU and 10m for each
// CPU the system sees, at most half of them, and 512 MiB (1536 MiB on control
// planes) and 2 % of the memory beside huge pages, at most a quarter of it. With
// the static CPU manager whole CPUs: at least one, on control planes two.
//
// # Rules of the VM platform
//
// There is one exactly where the nodes' software has manifests of KubeVirt and
// platform.none is not set.
//
// Components. The default set and what the site names or needs for what it says
// (networks need Multus), with all that they need, in the catalogue's order.
// What was asked for and has no manifests in the software blocks; of the default
// set it is left out. VM networks come with platform.networks only, local storage
// not where the site names a class of its own. Nothing is ever taken away from a
// cluster that has it.
//
// Versions. What the matrix of versions says does not fit blocks. Feature gates
// of Kubernetes that a pair needs go into the plan of a cluster that is yet to
// begin. One that was begun keeps its gates: where they do not suit, the platform
// is left out, or the plan is blocked when the site speaks of the platform or the
// plan before had one.
//
// CPU model. What the site says; else, with two hypervisors or more, the best
// model that all their processors have. A whole list of flags decides alone;
// otherwise the maker's scheme of names does, without transactional memory, and
// flags that were looked for and are absent take models away. Names only promise,
// and a model that a host does not have keeps VMs from starting: where all
// processors are the same and their flags are not known, and where one is unknown,
// VMs get the host's own, as KubeVirt gives it. So they do on a single hypervisor,
// and where they are emulated.
//
// Room. For VMs of 4 vCPU and 16 GiB, or where there is none of 2 vCPU and
// 4 GiB, or of 1 vCPU and 1 GiB. Each hypervisor counts alone: memory beside huge
// pages, less what is kept free for the host, what the kubelet keeps and what
// KubeVirt's makers publish as their own needs; 10 vCPUs to a CPU, KubeVirt's own
// default; at most 90 VMs. No room is a warning, because those needs are estimates;
// it blocks where not even the smallest VM would fit without them, unless VMs are
// emulated. A hypervisor of unknown memory counts nothing, one of
// unknown CPUs by its memory.
//
// Storage. The class that the site names; else that of local storage. Proofs.
// All that the site can do, in their fixed order; the others with the reason.
//
// # Rules of growing and shrinking
//
// A previous plan binds as soon as one of its servers is done. Such servers are
// kept: their assignments stay word by word, with the id of the plan that
// installed them, also when they are not found any more. Two things follow the
// present: the way to the BMC; and who begins the cluster, which moves to the
// first kept control plane when the one before is gone, so that no new server
// begins a second cluster. What the site says otherwise of kept servers is
// reported and not applied.
//
// Order. Kept servers come first, then control planes and workers of the
// previous plan that are not done, then new ones; among each the order of
// servers. Roles, names and addresses are dealt out in this order.
//
// Number of control planes. cluster.controlPlanes, else as many as before, or
// as many as are there and named under servers. An even number is a warning,
// because people may be on the way from one odd number to the next.
//
// Names and addresses. Servers of the previous plan that are not done keep
// theirs where they still fit. No name or address of the previous plan goes to
// another server: who left may still be switched on, or remembered. Counting goes
// on behind them. They are free again once a plan without them was applied.
//
// Settings of a cluster that was begun (API, ranges, pod network, version) never
// change. One with the address of its only control plane as that of the API
// never gets another control plane. New nodes may get another build of the same
// version. Until it is begun, settings follow the site.
package plan
