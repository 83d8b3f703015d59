package guest

import "os"

// ImageSize is the size of the disk image that WriteImage writes, in bytes.
const ImageSize = diskBlock + patternSize

// Shipped is the mark of the disk image that comes with the guest, in the same
// container image as its kernel: a guest that finds it has a volume that somebody
// filled from there.
func Shipped() Mark { return Mark{Text: "shipped", Boot: "image"} }

// WriteImage writes a raw disk image with the mark Shipped.
func WriteImage(to *os.File) error { return writeMark(to, Shipped(), make([]byte, patternSize)) }
