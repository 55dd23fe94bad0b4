package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"blobpglite/core/clock"
)

// ExistsError is CreateOnce's error when an object with other bytes has the key. It wraps ErrConflict.
type ExistsError struct {
	Object Object // the object that has the key
	// Undecided: an earlier try of ours got no answer. It may have been stored, and deleted again before this object
	// was written.
	Undecided bool
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("%s already exists as a different object (write id %q)", e.Object.Key, e.Object.WriteID)
}

// Unwrap makes errors.Is(err, ErrConflict) hold.
func (e *ExistsError) Unwrap() error { return ErrConflict }

// Bounds limit the tries of CreateOnce. Tries or Within must be set.
type Bounds struct {
	Clock clock.Clock // nil: the system's
	// Tries is the largest number of puts; 0: as many as Within allows.
	Tries int
	// Within is the time after which no further put is sent; 0: limited by Tries alone.
	Within time.Duration
	// Pause is the wait after the first undecided put; each further wait is twice as long, up to MaxPause.
	Pause, MaxPause time.Duration
}

// CreateOnce creates an object whose bytes no other writer would put under this key: they contain the write id, or
// the key is the caller's alone. It sends the same put until it has seen the outcome:
//
//	nil            the object is there, with these bytes
//	*ExistsError   other bytes are there; the caller must know what that means
//	ErrUnknown     the bounds or ctx ran out first; the object may be there, or may still appear
//	others         the store refused every try: no object was made
//
// Why this is right. All tries send the same bytes, under the same write id, if the key is absent: at most one is
// applied, and it does not matter which. A conflict is never believed: the object in the way may be our own, stored
// by a try whose reply was lost. A refusal for writing too fast (ErrThrottled), on a key that should be new, may mean
// that it no longer is. So both mean: look. An object is ours if it has our bytes, whatever its write id: that is
// metadata, which a copy of the bucket may lose and a person may edit. Where other bytes are, no try of ours can be
// applied while they stay; that an earlier one was applied, and deleted since, is ruled out only if every try was
// answered (Undecided). For the same reason a refusal is final only if every earlier try was answered.
//
// A compare and swap cannot be decided like this: "other bytes" may be those of a later writer, so its caller must
// know how to repeat a change that may already have been made (manifest.Update, lease).
func CreateOnce(ctx context.Context, st Store, key string, body []byte, writeID string, b Bounds) error {
	if b.Tries <= 0 && b.Within <= 0 {
		return &OpError{Op: "put", Key: key, Err: fmt.Errorf("%w: CreateOnce needs a limit of tries or of time", ErrInvalid)}
	}
	if b.Clock == nil {
		b.Clock = clock.System()
	}
	began := b.Clock.Monotonic()
	undecided := false // some try may have been applied, or may yet be
	for tries := 1; ; tries++ {
		_, err := st.Put(ctx, key, body, writeID, IfAbsent())
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrConflict), errors.Is(err, ErrThrottled):
			o, lookErr := st.Get(ctx, key)
			switch {
			case lookErr == nil && bytes.Equal(o.Body, body):
				return nil
			case lookErr == nil:
				return &ExistsError{Object: o, Undecided: undecided}
			case !errors.Is(lookErr, ErrNotFound):
				undecided, err = true, errors.Join(err, lookErr)
			}
		case errors.Is(err, ErrUnknown):
			undecided = true
		case !undecided:
			return err
		}
		if spent := b.Clock.Monotonic() - began; tries == b.Tries || b.Within > 0 && spent >= b.Within {
			return fmt.Errorf("%w: undecided after %d tries in %v: %w", ErrUnknown, tries, spent, err)
		}
		if ended := b.Clock.Sleep(ctx, b.Pause); ended != nil {
			return fmt.Errorf("%w: %w: %w", ErrUnknown, ended, err)
		}
		b.Pause = min(2*b.Pause, b.MaxPause)
	}
}
