// Package kubernetes makes the software of a real Kubernetes cluster for the
// lab: programs built from their published Go modules and taken from Debian
// packages, as files and container images by digest, in the one folder that an
// install takes them from (fleet.Payload). It also starts a real API without
// nodes on this computer, for tests of what talks to one.
//
// It never configures a node and never decides anything about a cluster; what
// it makes is what a vendor would publish. Nothing of it is part of the product.
//
// # Where what comes from
//
// Kubernetes, etcd and etcdctl are one program, hyper, that goes by the name it
// is called by: built from Go modules in one go, as they share most of their
// code. CoreDNS, flannel and the CNI plugins are built from the same module
// graph; flannel's own CNI plugin from a second one, as it lives only in an old
// release of the plugins. The modules' files lie in _modules, with go.mod as
// go.mod.txt: a folder with a go.mod cannot be embedded in another module's
// program, and this one must be able to build them wherever it is started.
//
// containerd, runc and keepalived are Debian's: runc and keepalived need a C
// compiler and libraries that Debian has built them with, and containerd 1.6
// with its runc is a pair that Debian keeps patched. They need glibc, and runc
// libseccomp, on the node.
package kubernetes
