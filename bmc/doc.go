// Package bmc finds the controllers of servers, reads what stands behind them
// and drives it: power, virtual media, boot once. It speaks Redfish (DMTF
// DSP0266 and its schemas) with a client of its own, because the answers of
// real BMCs are looser than any set of fixed types.
//
// It never sends credentials to an address whose certificate is not the pinned
// one, never lets them follow a redirect to another host, never tries a login
// more than twice, never repeats an act whose outcome is unknown and never
// keeps anything on disk. What it could not read is unknown, not zero.
//
// A Session is one login to one BMC. Its methods may be called from several
// goroutines; it sends only a few requests at a time, because many BMCs fall
// over when asked faster.
package bmc
