// Package node carries out the steps of a task on an installed system that
// becomes a node of a cluster: it puts files and container images in place by
// digest, runs programs and units, asks the segment for an address and clears
// away what a broken try left.
//
// Every step may be done again: one that is done already costs a look. A file is
// whole or absent, also after a power cut.
//
// It never writes outside a short list of folders (see paths.go), never follows
// a symbolic link out of one of them, never runs a shell, never crosses a mount
// point when it removes, and never decides what comes next: package agent does.
package node
