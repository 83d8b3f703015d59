// Package platform builds the software of a cluster's nodes together with a VM
// platform: the payload of package kubernetes, and real KubeVirt, CDI, Multus and
// more compiled from their published Go modules, as container images and
// manifests. With it comes the guest that metalrise's proofs start: a Linux
// kernel, an initial RAM file system, and a disk for CDI to fill volumes from.
//
// KubeVirt's own base images are not to be had where nothing but package
// archives can be reached, so the images of virt-handler and virt-launcher are
// made of Debian packages: libvirt and QEMU of Debian 13. What is known to
// differ from upstream's images:
//
//   - Debian's libvirt has one daemon for all drivers. A script in the place of
//     virtqemud starts it, under the socket name that KubeVirt looks for.
//   - There is no firmware for UEFI guests and no emulated TPM.
//   - The images of virt-exportproxy, virt-exportserver, libguestfs, pr-helper and
//     the sidecars are missing; KubeVirt asks for them only where a feature that
//     needs them is switched on.
//   - CDI cannot read disks of VMware, and its seven images are one archive with
//     more in each than its program needs.
//
// It never installs anything: the payload is data, and package kube/vmstack
// applies it like that of any vendor. It never changes the payload of package
// kubernetes, whose contents it shares by hard links.
package platform
