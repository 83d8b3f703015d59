package callhome

import "metalrise.dev/fleet"

// A machine may boot a live system that was made for the whole site: from the
// site's one medium, or from the network before anybody knew it. It asks who it
// is, with a token that opens nothing else:
//
//	live system  PathWho  Who → Orders: hold, or go with a Ticket
//
// With the ticket it goes on as the live system of that one server, with the same
// client key.

// PathWho is the path of the question.
const PathWho = "/v1/who"

// Asking is the stage of a live system that does not know yet whose it is. Its
// ticket names no server, no plan and no attempt.
const Asking Stage = "asking"

// Who is the question of a machine: this is what I am, who is that?
type Who struct {
	Protocol int         `json:"protocol"`
	Version  string      `json:"version"`  // of the agent
	Instance string      `json:"instance"` // random, one per boot of the system
	Facts    fleet.Facts `json:"facts"`
}
