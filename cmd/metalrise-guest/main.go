// Command metalrise-guest is the first and only process of the VMs that prove a
// cluster. It never runs on a host: started as anything else than process 1, it
// ends at once.
package main

import (
	"fmt"
	"os"

	"metalrise.dev/guest"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "metalrise-guest runs only as the first process of a VM")
		os.Exit(2)
	}
	guest.Run()
}
