package fleet

import (
	"encoding/json"
	"fmt"
)

// Maybe is a value that may be unknown. Its zero value is unknown; in JSON
// unknown is null. Use it for anything read from hardware: 0 disks and an
// unread disk list are different facts.
type Maybe[T any] struct {
	value T
	known bool
}

// Known wraps a value that was really seen.
func Known[T any](v T) Maybe[T] { return Maybe[T]{value: v, known: true} }

// Get gives the value and whether it is known.
func (m Maybe[T]) Get() (T, bool) { return m.value, m.known }

// IsKnown tells whether the value was seen.
func (m Maybe[T]) IsKnown() bool { return m.known }

// Or gives the value, or other when it is unknown.
func (m Maybe[T]) Or(other T) T {
	if m.known {
		return m.value
	}
	return other
}

// String prints the value, or "unknown".
func (m Maybe[T]) String() string {
	if !m.known {
		return "unknown"
	}
	return fmt.Sprint(m.value)
}

// IsZero makes encoding/json's omitzero leave unknown values out.
func (m Maybe[T]) IsZero() bool { return !m.known }

// MarshalJSON writes the value, or null.
func (m Maybe[T]) MarshalJSON() ([]byte, error) {
	if !m.known {
		return []byte("null"), nil
	}
	return json.Marshal(m.value)
}

// UnmarshalJSON reads the value; null is unknown.
func (m *Maybe[T]) UnmarshalJSON(b []byte) error {
	var p *T
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	if p == nil {
		*m = Maybe[T]{}
		return nil
	}
	*m = Known(*p)
	return nil
}
