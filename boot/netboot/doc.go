// Package netboot is the road of machines that boot from the network: DHCP or
// proxyDHCP, TFTP with the loaders, and iPXE scripts. What these lead to over HTTP is
// served by others, under addresses that they give. It
// answers only machines that the caller's Guests name, and only until the time
// that stands there; to everybody else it is silent. It never hands out an
// address that the caller did not plan, never keeps leases, never opens a file
// by a name that came from outside, and never decides what a machine should
// boot.
//
// # Roads
//
// A machine with RoadPXE gets an iPXE loader by TFTP (RFC 1350 and its options),
// which asks DHCP again and gets the address of its script. A machine with
// RoadUEFIHTTP gets the address of an EFI program or a disc image. A machine that
// asks for the other road than the planned one hears nothing, so that its
// firmware goes on with its next boot device.
//
// # Trust
//
// DHCP and TFTP know no authentication, and the firmware of most machines, like
// Debian's iPXE, does not know our certificate authority. So whoever can answer
// on the machine's segment can boot it with something else, and whoever can
// listen there sees what is booted. What follows from that is said in
// docs/netboot.md. So nothing that lasts may be served at the addresses that are
// told here.
package netboot
