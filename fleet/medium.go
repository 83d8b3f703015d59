package fleet

// Medium is how much of the live system lies on the medium that a BMC fetches.
type Medium string

const (
	FullMedium    Medium = "full"    // all of it
	MinimalMedium Medium = "minimal" // kernel and initial RAM disk; the server itself fetches the rest from us
	AutoMedium    Medium = "auto"    // all of it first; the minimal one where the link shows to be too slow
)

// Media lists what a person may wish for, the default first.
func Media() []Medium { return []Medium{AutoMedium, FullMedium, MinimalMedium} }

// ByBMC tells that a BMC fetches the medium of a route.
func (r BootRoute) ByBMC() bool { return r == VirtualMedia || r == VirtualMediaHTTP }

// HasSlowLink tells whether the BMC at address (host:port) is among SlowLinks.
func (b BMCs) HasSlowLink(address string) bool { return covers(b.SlowLinks, address) }
