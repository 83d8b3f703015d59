package provision

import (
	"context"

	"metalrise.dev/fleet/callhome"
)

// Task hears how far an installed system is with a task.
func (e *Engine) Task(_ context.Context, c Caller, _ callhome.TaskReport) (callhome.Orders, error) {
	if _, _, err := e.caller(c); err != nil {
		return callhome.Orders{}, err
	}
	return callhome.Orders{}, refused("no task was given")
}
