// Package lab is a rack in a box: emulated BMCs on loopback addresses, machines
// behind them that really boot what they are given, the network between them,
// and a site file that points the product at all of it. It is for rehearsal,
// demonstrations and tests.
//
// It never installs anything itself, never touches a disk or interface of the
// host, and shares nothing with the product but the site file: the product meets
// a lab only over Redfish and over the network, as it meets a real rack.
//
// # What a lab consists of
//
// One folder (Config.Dir) with lab.json, site.yaml, bmc-password, lab.log, lab.sock
// and servers/NAME/ with the disks, the console log and the BMC's memory; one Linux
// bridge with an address; one address of 127.0.0.0/8 for each BMC, which needs no
// setting up. A lab belongs to the process that holds the lock in its folder.
// When that process is killed, Clean removes what it left.
//
// # Disks
//
// The first disk of a server is the smallest that takes an operating system
// (the product takes 8 GiB at least where the site says nothing). The others
// carry a pattern at both ends, by which Untouched proves that nobody wrote to
// them.
package lab
