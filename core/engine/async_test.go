package engine

import (
	"fmt"
	"testing"
	"time"

	"blobpglite/core/store/mem"
)

// asyncs are ways to commit without waiting.
var asyncs = map[string]string{
	"SET":       "SET synchronous_commit = off; INSERT INTO t SELECT generate_series(1, 100)",
	"SET LOCAL": "BEGIN; SET LOCAL synchronous_commit = off; INSERT INTO t SELECT generate_series(1, 100); COMMIT",
	"function":  "SELECT set_config('synchronous_commit', 'off', false); INSERT INTO t SELECT generate_series(1, 100)",
}

// TestAsynchronousCommits: what was committed with synchronous_commit=off reaches the bucket without anyone's help, within the time that
// PostgreSQL's walwriter would take, and at a clean end; no further requests to the bucket follow.
func TestAsynchronousCommits(t *testing.T) {
	t.Parallel()
	for _, d := range []Durability{Strict, Interval, Sleep} {
		for _, mode := range []Mode{ModeLog, ModeSnapshot} {
			t.Run(fmt.Sprintf("end, %s %s", mode, d), func(t *testing.T) {
				st := mem.New(mem.Options{})
				long := func(o *Options) {
					inLog(o)
					o.Mode, o.Durability, o.FlushInterval, o.IdleFlush = mode, d, time.Hour, time.Hour
				}
				e := open(t, st, long)
				must(t, e, "CREATE TABLE t (a int)")
				must(t, e, asyncs["SET"])
				if err := e.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				e = open(t, st, long)
				if got := must(t, e, "SELECT count(*) FROM t"); got != "100" {
					t.Errorf("%s rows of 100 are left", got)
				}
			})
		}
	}
	for name, sql := range asyncs {
		t.Run("idle, "+name, func(t *testing.T) {
			st := mem.New(mem.Options{})
			e := open(t, st, inLog)
			must(t, e, "CREATE TABLE t (a int)")
			must(t, e, sql)
			at := must(t, e, "SELECT pg_current_wal_insert_lsn()")
			becomes(t, e, "SELECT pg_current_wal_flush_lsn() >= '"+at+"'", "t") // the walwriter; then in idleness
			waitUntil(t, e.commits.idle)                                        // a record is there a moment before the log is idle
			e.Abandon()
			e = open(t, st, inLog)
			if got := must(t, e, "SELECT count(*) FROM t"); got != "100" {
				t.Errorf("%s rows of 100 are left", got)
			}
		})
	}
}
