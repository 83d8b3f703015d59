package provision

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"

	"metalrise.dev/fleet"
)

// triesApart is for how many tries of each node the ids of bootstrap tokens are
// kept apart. Two are made without a person's word, two more with each retry.
const triesApart = 8

// bootstrapToken derives a node's bootstrap token. It changes with each try to join, so
// that one that leaked from a failed try is worthless.
func (k *keyring) bootstrapToken(server fleet.ServerID, try int) string {
	return k.bootstrap(server, try+k.skipped[server])
}

func (k *keyring) bootstrap(server fleet.ServerID, try int) string {
	m := hmac.New(sha256.New, k.secret)
	fmt.Fprintf(m, "metalrise bootstrap token v1\n%s\n%s\n%d\n", k.plan, server, try)
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	token := make([]byte, 0, 23)
	for i, b := range m.Sum(nil)[:22] {
		if i == 6 {
			token = append(token, '.')
		}
		token = append(token, digits[int(b)%len(digits)])
	}
	return string(token)
}

// keepApart makes sure that no two nodes of a plan ever get the same token id.
// The id is public and has 31 bits only: the cluster keeps a token under it, so
// that of two nodes with one id neither could join. A node whose id is taken
// goes on to its next number. The same servers give the same ids, in this engine
// and in the next.
func (k *keyring) keepApart(servers []fleet.ServerID) {
	taken := make(map[string]bool, len(servers)*triesApart)
	k.skipped = map[fleet.ServerID]int{}
	for _, id := range servers {
		var free []string // of numbers in a row
		for try := 1; len(free) < triesApart; try++ {
			name := k.bootstrap(id, try)[:6]
			if free = append(free, name); taken[name] {
				free, k.skipped[id] = nil, try
			}
		}
		for _, name := range free {
			taken[name] = true
		}
	}
}
