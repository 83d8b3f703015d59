package redfish

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails when a closed BMC leaves a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
