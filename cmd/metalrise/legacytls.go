//go:debug x509negativeserial=1

package main

// The line above lets Go read certificates with negative serial numbers, which
// some BMCs make. It holds for the whole program; package bmc refuses such a
// certificate all the same unless a person allowed it for that address.
// docs/decisions/0011-legacy-tls-per-host.md says why this way.
