package provision

import "fmt"

// released refuses work that boots a live system while the release is not there.
// All else goes on without it: what is installed needs no release.
func (e *Engine) released(to string) error {
	if e.NoRelease == nil {
		return nil
	}
	return fmt.Errorf("%s: the engine runs without the release: put it in place, stop the engine with metalrise stop, and ask again: %w", to, e.NoRelease)
}
