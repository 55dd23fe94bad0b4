package engine

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/store/mem"
)

// TestWhatIsKeptBelongsToTheDatabase: a start without a retention time, or with another one, drops none of the history; only an explicit
// request does.
func TestWhatIsKeptBelongsToTheDatabase(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	var log strings.Builder
	life := func(n int, retain time.Duration) (seq uint64) {
		t.Helper()
		e := open(t, st, inLog, func(o *Options) { o.Retain, o.Logger = retain, slog.New(slog.NewTextHandler(&log, nil)) })
		if n == 0 {
			must(t, e, "CREATE TABLE t (a int)")
		}
		must(t, e, fmt.Sprintf("INSERT INTO t VALUES (%d)", n))
		seq = e.commits.(*logMode).log.position().Seq
		if err := e.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		return seq
	}
	reaches := func(seq uint64) bool {
		t.Helper()
		e, err := openAt(t, st, RecoveryTarget{Seq: seq})
		if err != nil {
			return false
		}
		defer e.Abandon()
		return must(t, e, "SELECT count(*) FROM t") == "1"
	}
	first := life(0, time.Hour)
	for n, retain := range []time.Duration{0, time.Minute} {
		life(n+1, retain)
		if !reaches(first) {
			t.Fatalf("a start with -retain %v dropped the history", retain)
		}
	}
	if !strings.Contains(log.String(), "given=1m0s") || strings.Count(log.String(), "keeps its own retention") != 1 {
		t.Errorf("the log does not say that another time was given: %s", log.String())
	}
	if _, err := manifest.SetRetain(t.Context(), st, 0, clock.System()); err != nil {
		t.Fatal(err)
	}
	life(3, time.Hour)
	if reaches(first) {
		t.Error("what is not to be kept any more is there")
	}
}
