package engine

import (
	"errors"
	"fmt"
	"testing"
)

// TestUnknownStaysUnknown: an engine is taken over while a commit is under way, and is closed before the commit's outcome is known. Its
// client must be told that the outcome is unknown, not why the engine ended: the record may be in the log.
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
