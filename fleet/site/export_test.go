package site

// KnownPaths lists the fields that the table describes or hides.
func KnownPaths() map[string]bool {
	out := map[string]bool{}
	for _, f := range fields() {
		out[f.path] = true
	}
	for p := range hidden() {
		out[p] = true
	}
	return out
}
