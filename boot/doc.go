// Package boot answers everything a booting machine asks of us: media for BMCs,
// disk images for the agent, and the call-home API of package callhome. It
// never decides anything (the Desk does), never keeps media (the Library does)
// and never logs a token or a media key.
//
// # Trust
//
// A site has one Authority. Its certificate travels inside each ticket, and the
// agent trusts nothing else. Certificates are valid from 1970 to 2099, because
// a machine whose clock battery is dead must still be able to call home; the
// pin gives the trust, not the time. A machine proves itself by its one-time
// token and by the key of its client certificate: any certificate is accepted
// by TLS, which makes the client show that it holds the private key, and the
// digest of the public key goes to the Desk, which binds the token to it.
//
// Media are read by BMCs, which can neither log in nor pin. Their addresses
// hold an unguessable key instead, which the Library lets expire. Whoever sees
// the BMC network may read what is served this way, so it holds no secret that
// lasts: a live medium carries one token that is worth one call, and that only
// until the machine itself has called.
package boot
