// Package fleet holds the nouns of metalrise and what is true of them alone.
// It never does input or output, never reads a clock and imports nothing but
// the standard library, so that every other package can speak its words.
//
// # Glossary
//
//	Site         what people want: one cluster in one place. Names no server
//	             unless a person insists.
//	Server       a machine. Its identity is system UUID and serial number, never
//	             an address.
//	BMC          the controller of one or more servers, reached by an address.
//	Node         a server as member of a Kubernetes cluster.
//	Facts        what was seen of one server, by whom and when. What was not seen
//	             is unknown, which is not the same as zero, empty or false.
//	Plan         immutable: every decision of one site, none left for the run.
//	             Its id is the digest of its content.
//	Assignment   the part of a plan that concerns one server.
//	Finding      a remark of the planner or a check: code, severity, server, path,
//	             text, remedy.
//	Phase        a milestone on a server's way that can be checked by looking.
//	Condition    the second axis beside the phase: moving, waiting or held.
//	Action       something done to the world, or learnt from it, for one server.
//	Event        one line of the append-only journal: an action began, progressed
//	             or ended.
//	Attempt      one try to take a server through its boot: counted from 1, raised
//	             by each retry.
//	Consent      a person's word that the disks of one plan may be erased.
//	Fault        an error with a stable code and a kind that decides what happens.
package fleet
