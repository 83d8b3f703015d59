//go:build metalrise_fault

package tui

// provoke breaks the screens when an exclamation mark is typed.
func provoke(in Input) {
	if in.Text == "!" || in.Line != nil && *in.Line == "!" {
		panic("provoked by a test")
	}
}
