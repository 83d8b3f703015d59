package callhome

import "metalrise.dev/fleet"

// Reportable tells whether a fault code is one that an agent finds out by itself.
// A machine may claim any other, and some decide what is done next: the engine's
// own findings, such as that a node is silent, are never taken from a machine.
func Reportable(c fleet.Code) bool {
	switch c {
	case fleet.CodeAddressTaken, fleet.CodeAgentFailed, fleet.CodeDiskChanged, fleet.CodeDiskForeign, fleet.CodeFactsDiffer,
		fleet.CodeIdentityMismatch, fleet.CodeImageMismatch, fleet.CodeNodePrepare, fleet.CodePayloadCorrupt,
		fleet.CodeTokenRefused, fleet.CodeUnexpected, fleet.CodeWriteFailed:
		return true
	}
	return false
}
