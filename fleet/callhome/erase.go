package callhome

import "metalrise.dev/fleet"

// A server that is taken away may be booted into the live system once more to
// have its install disk erased:
//
//	live system  PathHello   Hello   → Orders: erase
//	             PathErased  Erased  → Orders: hold, until its power is cut

// PathErased is the path of the report about an erased disk.
const PathErased = "/v1/erased"

// Erase is the verb that lets a live system erase Orders.Erase.
const Erase Verb = "erase"

// EraseOrder is the order to erase one disk.
type EraseOrder struct {
	Disk fleet.DiskRef `json:"disk"`
	// Owner is the site whose marker the disk must carry, or no marker at all.
	Owner string `json:"owner"`
}

// Erased says what was erased, and how: the record that people keep.
type Erased struct {
	Instance string        `json:"instance"`
	Disk     fleet.DiskRef `json:"disk"`   // as found on the machine
	Method   string        `json:"method"` // "discard", "zero" or "zero of tables and signatures"
	Bytes    int64         `json:"bytes"`  // that read as zero now, or were told to be discarded
	Seconds  float64       `json:"seconds"`
}
