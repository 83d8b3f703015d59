package fleet

// PlatformRetry is a person's word about the VM platform of a run. The zero
// value but for By has what failed tried again, and lets proofs go on without
// nodes that are held.
type PlatformRetry struct {
	By string `json:"by"`
	// Waive names components and proofs that are left out from now on.
	Waive []string `json:"waive,omitempty"`
	// Prove names proofs that are run again although they ended well.
	Prove []Proof `json:"prove,omitempty"`
}
