// Package vmstack installs the components of the VM platform on a cluster: it
// applies their manifests and what metalrise writes for them itself, watches
// until all of it works, and says truly why something does not. It removes them
// again, and tells what is there.
//
// Contents come by digest from the nodes' software; nothing is fetched. What is
// applied is kept as a list in the cluster, so that a later run, also of another
// computer, knows what belongs to a component.
//
// It never decides which components there are (package plan does), never starts
// a VM (package ring does), and never deletes data or anything that is not on
// its list.
package vmstack
