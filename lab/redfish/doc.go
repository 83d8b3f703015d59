// Package redfish is the emulated BMC of a lab server: one Redfish service over
// TLS on its own address that truly drives the machine.Hardware behind it. It
// downloads the media it is told to insert, keeps the boot override, and decides
// at every boot what the machine boots.
//
// It never invents success: a download that broke is an error answer, an action
// that cannot be done is refused under a Redfish message id. Wrong behaviour is
// shown only where a Fault, a Personality or one of its Quirks asks for it; the
// rows that quirks name are those of docs/compatibility.md.
//
// # What outlives a restart of the lab
//
// With Config.Dir set, inserted media, boot override, BIOS attributes, asset tag
// and the TLS key are kept. Power is not: the machine died with the lab process, so
// every BMC comes back with its machine Off. Status.WishedOn still tells that
// it was on.
//
// # Limits
//
// The hardware contract has no hot plug: a medium inserted while the system runs
// is seen at its next boot; one ejected stays readable to a system that has the
// file open. It has no network boot either: the override Pxe finds no answer and
// falls through to the normal order (disk, then medium), as firmware does. With
// Lazy media UefiHttp hands the address to the hardware as if it were a medium's.
package redfish
