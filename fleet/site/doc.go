// Package site reads, checks, defaults and writes the site file: the one
// document in which people say what they want. It never talks to a network,
// never shows a secret and never stores one: a site file names where a secret is.
//
// The file is YAML (apiVersion metalrise.dev/v1alpha1, kind Site). All faults of
// a file are reported at once, each with line, path and remedy. What metalrise
// writes back keeps comments and order, so that a file may pass between people
// and programs.
//
// # Paths
//
// A path names a field as findings do: "network.firstAddress",
// "servers[2].disk.serial", "bmcs.pins[\"10.0.9.11:443\"]". A list index equal
// to the list's length means one more entry.
package site
