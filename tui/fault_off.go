//go:build !metalrise_fault

package tui

// provoke does nothing. A build with the tag metalrise_fault breaks the screens
// here, so that a test sees what is left of the terminal then.
func provoke(Input) {}
