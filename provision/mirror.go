package provision

import (
	"crypto/hmac"

	"metalrise.dev/fleet"
)

// Mirror is how a node reaches the registry that serves its images.
type Mirror struct {
	URL   string // base, without a path
	CA    string // PEM
	Login string // "SERVER:PASSWORD", as Engine.Pulls wants them; secret
}

// mirrorLocked gives a node its way to the registry. The login is the server's
// own and does not change with plans: what it is written to stays on the node.
func (w *walker) mirrorLocked() Mirror {
	e := w.engine
	if e.Clusters == nil || !e.Clusters.Mirror || w.track.Reached.ByMachine == "" {
		return Mirror{}
	}
	return Mirror{URL: w.track.Reached.ByMachine, CA: e.CA, Login: string(w.plan.Server) + ":" + mirrorPassword(e.Secret, w.plan.Server)}
}

func mirrorPassword(secret []byte, s fleet.ServerID) string {
	return newKeyring(secret, "").derive(grant{kind: "mirror", server: s})
}

// Pulls tells whether a caller may pull container images: it must be a server of
// the current plan that is part of the cluster, with its own password. The fault
// is RUN-006 in every case.
func (e *Engine) Pulls(server fleet.ServerID, password string) error {
	r := e.current()
	if r == nil || r.servers[server] == nil || r.servers[server].plan.Node == nil ||
		!hmac.Equal([]byte(mirrorPassword(e.Secret, server)), []byte(password)) {
		return refused("this login may pull no images")
	}
	return nil
}
