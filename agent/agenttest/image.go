package agenttest

import "metalrise.dev/agent/internal/diskimage"

// Image makes a disk image with a GPT whose second partition is named "boot"
// and holds the given bytes. The first partition holds pad bytes that do not
// compress. It is what the agent accepts, but nothing boots from it.
func Image(boot []byte, pad int) []byte { return diskimage.Image(boot, pad) }

// Pack compresses an image in one of the formats of callhome.Image.
func Pack(format string, raw []byte) ([]byte, error) { return diskimage.Pack(format, raw) }
