package engine

import (
	"errors"
	"fmt"
	"testing"
)

// TestUnknownStaysUnknown: an engine is taken over while a commit is on its way, and is closed before that one is decided.
// Its client must hear that nobody knows, not what ended the engine: the record may be in the log.
func TestUnknownStaysUnknown(t *testing.T) {
	t.Parallel()
	var e Engine
	fenced := fmt.Errorf("renew: %w", ErrFenced)
	e.poison.Store(&fenced)
	if got := e.refused(t.Context(), fmt.Errorf("append record 7: %w", ErrUnknown)); !errors.Is(got, ErrUnknown) || errors.Is(got, ErrFenced) {
		t.Errorf("a commit of which nobody knows was reported as: %v", got)
	}
	if got := e.refused(t.Context(), ErrClosed); !errors.Is(got, ErrFenced) {
		t.Errorf("a commit that was not made was reported as: %v", got)
	}
}
