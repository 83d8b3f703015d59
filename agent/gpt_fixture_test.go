package agent

import (
	"testing"

	"metalrise.dev/agent/internal/diskimage"
)

// testGPT makes a disk image with partitions "root" and "boot".
func testGPT(t *testing.T, boot []byte, pad int) []byte {
	t.Helper()
	return diskimage.Image(boot, pad)
}
