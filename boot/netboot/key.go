package netboot

import (
	"crypto/rand"
	"encoding/hex"
)

// NewKey is an unguessable key for an address: 128 random bits as 32 hexadecimal
// digits.
func NewKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
