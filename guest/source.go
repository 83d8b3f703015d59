package guest

import "embed"

// Source is the code of this package, from which the lab builds the guest's
// program: a released metalrise has no checkout to build it from.
//
//go:embed *.go
var Source embed.FS
