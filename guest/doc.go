// Package guest is the small system inside the VMs that prove a cluster: a
// program that runs as the only process of a Linux kernel, obeys orders from
// the kernel's command line and says each moment on the serial console how it
// is. It holds both sides of that talk: orders and words are written and read
// here. A VM that Kubernetes calls Running may hang inside, so what counts in a
// proof is only what its guest says.
//
// It uses nothing but the standard library, because its program must stay small.
// It never writes to a disk that it was not ordered to use, never to one that
// holds anything of others, and takes no orders from the network.
package guest
