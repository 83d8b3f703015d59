package provision

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	"metalrise.dev/fleet"
	"metalrise.dev/fleet/callhome"
)

// ResourceKind is what an unguessable key opens.
type ResourceKind string

const (
	LiveMedium   ResourceKind = "live-medium"   // one server's ISO of one attempt
	DiskImage    ResourceKind = "disk-image"    // the release's disk image
	AgentProgram ResourceKind = "agent-program" // this very program
	NetArtefact  ResourceKind = "net-artefact"  // one part of one server's boot from the network
	NodeSoftware ResourceKind = "node-software" // one content of the payload
)

// grant says what a token or key is for.
type grant struct {
	kind    string // a callhome.Stage or a ResourceKind
	server  fleet.ServerID
	attempt int
	name    string // SHA-256 of a NodeSoftware, name of a NetArtefact
}

// keyring derives tokens and keys from the site's secret and knows those that
// are in force. Nothing of it is ever stored: a restarted engine derives the
// same ones.
type keyring struct {
	secret  []byte
	plan    string
	skipped map[fleet.ServerID]int // numbers of bootstrap tokens; written before anybody else knows the ring

	mu      sync.RWMutex
	inForce map[string]grant // by SHA-256 of the token or key, so that a look-up tells nothing by its time
}

func newKeyring(secret []byte, plan string) *keyring {
	return &keyring{secret: secret, plan: plan, inForce: map[string]grant{}}
}

// derive gives 128 bits as 32 hexadecimal digits: not to be guessed within the
// life of a site, and short enough for BMCs that bound the length of a URL.
func (k *keyring) derive(g grant) string {
	m := hmac.New(sha256.New, k.secret)
	fmt.Fprintf(m, "metalrise token v1\n%s\n%s\n%s\n%d\n", k.plan, g.kind, g.server, g.attempt)
	if g.name != "" {
		fmt.Fprintf(m, "%s\n", g.name)
	}
	return hex.EncodeToString(m.Sum(nil)[:16])
}

// allow puts a token or key into force and returns it.
func (k *keyring) allow(g grant) string {
	token := k.derive(g)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inForce[hash(token)] = g
	return token
}

// adopt puts a token of an earlier plan into force.
func (k *keyring) adopt(token string, g grant) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.inForce[hash(token)] = g
}

func (k *keyring) revoke(g grant) {
	token := k.derive(g)
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.inForce, hash(token))
}

func (k *keyring) find(token string) (grant, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	g, ok := k.inForce[hash(token)]
	return g, ok
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return string(sum[:])
}

func liveGrant(s fleet.ServerID, attempt int) grant {
	return grant{kind: string(callhome.Live), server: s, attempt: attempt}
}

// The installed system's token does not change with attempts: the disk that
// carries it is written once.
func installedGrant(s fleet.ServerID) grant {
	return grant{kind: string(callhome.Installed), server: s}
}

func mediumGrant(s fleet.ServerID, attempt int) grant {
	return grant{kind: string(LiveMedium), server: s, attempt: attempt}
}
