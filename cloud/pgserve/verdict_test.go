package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// TestVerdict: data whose check was interrupted, or that could not be read, is not called damaged; damaged data is, whatever else went
// wrong.
func TestVerdict(t *testing.T) {
	t.Parallel()
	damage := fmt.Errorf("record 3: %w", wal.ErrCorrupt)
	for _, c := range []struct {
		err    error
		unread bool
	}{
		{fmt.Errorf("record 3: %w", context.Canceled), true},
		{fmt.Errorf("object: %w: %w", store.ErrUnavailable, context.DeadlineExceeded), true},
		{store.ErrDenied, true},
		{errors.Join(fmt.Errorf("layer: %w", context.Canceled), fmt.Errorf("lease: %w", store.ErrThrottled)), true},
		{damage, false},
		{errors.Join(damage, context.Canceled), false},
		{errors.Join(context.Canceled, base.ErrCorrupt), false},
		{manifest.ErrNewer, false},
		{takeover.ErrShutDown, false},
		{errors.New("something else"), false},
	} {
		err := verdict(c.err)
		if got := strings.HasPrefix(err.Error(), "not everything could be read"); got != c.unread || strings.HasPrefix(err.Error(), "not sound") == c.unread || !errors.Is(err, c.err) {
			t.Errorf("%v", err)
		}
	}
	var out strings.Builder
	if err := verifyJSON(takeover.Report{DatabaseID: "x"}, context.Canceled, nil, &out); err == nil || !strings.Contains(out.String(), `"unread": true`) {
		t.Errorf("%v: %s", err, out.String())
	}
	if text := noManifest(&config{}, fmt.Errorf("list: %w", context.Canceled)).Error(); !strings.Contains(text, "that is there could be read") {
		t.Error(text)
	}
}
