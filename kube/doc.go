// Package kube says what a node must be given to become part of a Kubernetes
// cluster, and speaks to the cluster's API once there is one.
//
// Its pure half (everything but the api files) turns plan, payload and what the
// agent saw of a node into tasks that the agent carries out: Prepare, then Begin
// on one node and Join on the others, Reset where one of these failed. It never
// does any of it, opens no connection and no file, and reads no clock: the time
// and the source of randomness are arguments.
//
// # What a payload must bring
//
// Files by these names: kubelet, kubeadm, containerd, containerd-shim-runc-v2,
// ctr, runc, cni/loopback, and for flannel cni/bridge, cni/flannel,
// cni/host-local and cni/portmap, these in /opt/cni/bin. Links need their targets
// in the payload. Nothing lies in /usr but below /usr/local.
//
// Images are recognised by the last part of their name: kube-apiserver,
// kube-controller-manager, kube-scheduler and kube-proxy in one repository and
// with the payload's version as tag; etcd, coredns, pause; flannel with
// /opt/bin/flanneld and nft; keepalived (for a virtual address) with
// /usr/sbin/keepalived and /usr/local/bin/healthcheck, a program that is given a
// URL and a time such as 3s and ends with 0 when the answer is 200.
//
// What the installed system must bring: systemd, a shell, sed, the programs ip,
// mount, modprobe, nsenter, swapoff, and what kubeadm's checks ask for.
//
// # Settings that depend on where a node runs
//
// On hardware swap is switched off. In a system container (NodeRuntime.Container),
// which shares its kernel with its host, the kubelet tolerates swap and gives
// pods none, the host's limits are left alone, and kubeadm's checks that would
// look at the host are skipped. Where processes may not lower their OOM score
// (NodeRuntime.MayLowerOOM), none is asked to. With control groups of version 1
// the kubelet is told to go on all the same.
package kube
