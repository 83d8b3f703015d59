// Package ring proves that a cluster runs VMs: it starts some of its own, with a
// small guest of package guest inside, moves them round the hypervisors, writes
// their disks, drains a node and switches one off, and judges each step by what
// the guests say on their consoles. A VM that Kubernetes calls Running and whose
// guest is silent is a fault.
//
// All that it makes lies in one namespace and is removed afterwards, also what
// an earlier run left when it was killed. It never touches VMs of others: a node
// that runs some is neither drained nor switched off.
package ring
