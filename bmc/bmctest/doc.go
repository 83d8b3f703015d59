// Package bmctest says what a session with a BMC promises, as a suite of tests
// that every kind of BMC must pass: the one in memory, the lab's in every
// personality, recorded trees, and hardware that somebody names.
//
// It never drives hardware unless it is told to with a word of its own, and it
// proves nothing of a BMC it was not run against. Its own tests hold one proof
// or more for each row of docs/compatibility.md, which they also write.
package bmctest
