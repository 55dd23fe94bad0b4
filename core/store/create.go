package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"blobpglite/core/clock"
)

// ExistsError is how CreateOnce ends when other bytes stand under the key. It also is ErrConflict.
type ExistsError struct {
	Object Object // what stands there
	// Undecided: an earlier try of ours had no answer. It may have been stored, and deleted since, before the other object
	// was written.
	Undecided bool
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("another object stands at %s (write id %q)", e.Object.Key, e.Object.WriteID)
}

// Unwrap makes errors.Is(err, ErrConflict) hold.
func (e *ExistsError) Unwrap() error { return ErrConflict }

// Bounds say how long CreateOnce goes on, and how fast. One of Tries and Within is needed.
type Bounds struct {
	Clock clock.Clock // nil: the system's
	// Tries is how many puts are sent at most; 0: as many as there is time for.
	Tries int
	// Within is the time after which no further put is sent; 0: as long as there are tries.
	Within time.Duration
	// Pause is waited after the first put that decided nothing; each further pause is twice as long, up to MaxPause.
	Pause, MaxPause time.Duration
}

// CreateOnce creates an object whose bytes nobody else would write under this key: they hold the write id, or the key is
// the caller's alone. It sends the same put until it has seen how that ended:
//
//	nil            the object is there, with these bytes
//	*ExistsError   other bytes are there. What that means only the caller knows
//	ErrUnknown     the bounds or ctx ran out first; the object may be there, or may yet come to be
//	others         the store refused, and never took it: no object was made
//
// Why this is right. All tries are the same bytes, under the same write id, if the key is absent: at most one is applied,
// and it does not matter which. A conflict is never believed: what is in the way may be our own, stored by a try whose
// reply was lost. A refusal to write so fast (ErrThrottled), for a key that should be new, may mean that it no longer is.
// So both mean: look. Ours is what has our bytes, not our write id beside them: that is metadata, which a copy of the
// bucket may lose and a person may edit. Where other bytes are, no try of ours can be applied any more while they stay;
// that one was before, and was deleted, is excluded only if each of them was answered (Undecided). A refusal counts as an
// end only as long as that holds too.
//
// A compare and swap is not decided like this: "other bytes" may be those of whoever came after us, so its caller has to
// know how to repeat a change that may have been made already (manifest.Update, lease).
func CreateOnce(ctx context.Context, st Store, key string, body []byte, writeID string, b Bounds) error {
	if b.Tries <= 0 && b.Within <= 0 {
		return &OpError{Op: "put", Key: key, Err: fmt.Errorf("%w: CreateOnce without bounds", ErrInvalid)}
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
			return fmt.Errorf("%w: not decided by %d tries in %v: %w", ErrUnknown, tries, spent, err)
		}
		if ended := b.Clock.Sleep(ctx, b.Pause); ended != nil {
			return fmt.Errorf("%w: %w: %w", ErrUnknown, ended, err)
		}
		b.Pause = min(2*b.Pause, b.MaxPause)
	}
}
