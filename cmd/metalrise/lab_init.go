package main

import "metalrise.dev/lab/machine/container"

// A container machine's first process and its Ignition helper are this program
// under other names; they never get as far as main.
func init() { container.MaybeInit() }
