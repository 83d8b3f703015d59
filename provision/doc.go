// Package provision walks every server of a plan from where it is to
// Installed: concurrently, resumably and honestly. It never talks to a BMC, a
// machine or a disk by itself: it asks through the small interfaces declared in
// ports.go, and it never does anything to the world that is not in the journal
// before.
//
// # How one server moves
//
// Three functions, kept apart:
//
//	gather  Track.Fold turns journal events into what is known (fold.go)
//	decide  Next turns that, the assignment and the time into one decision (next.go); pure
//	act     walker carries the decision out, journaling before and after (walker.go)
//
// Machines that call home are judged by the desk (desk.go), which writes what it
// learnt and granted into the same journal and wakes the walker.
//
// # Resume
//
// There is no resume code besides these. A new engine folds the journal; an
// action that began and never ended is looked at through the BMC before
// anything else is done, and is then adopted or done anew.
//
// # What is never done twice
//
// The write of a disk. It is granted once in an attempt, to one boot of one
// machine, in an event that is durable before the machine hears of it. If that
// boot falls silent or fails, the server is held: only a person's retry begins
// another attempt. Once a write of the plan has succeeded, no attempt writes
// again; it only boots the disk.
package provision
