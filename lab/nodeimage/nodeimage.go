// Package nodeimage builds the lab's operating system image: a live ISO, PXE
// artefacts and a disk image with the shape and the habits of Fedora CoreOS,
// made from Debian packages and the real Ignition program, and kept by content.
//
// It never knows anything of the product: the image is a general one that any
// installer of CoreOS-like systems could use.
package nodeimage
