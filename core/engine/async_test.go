package engine

import (
	"context"
	"fmt"
	"testing"
	"time"

	"blobpglite/core/point"
	"blobpglite/core/store/mem"
)

// appends tells of each record that has reached the bucket.
func appends(o *Options) <-chan struct{} {
	told := make(chan struct{}, 1000)
	o.Hook = func(_ context.Context, at point.Point) error {
		if at == point.WalAfterPut {
			told <- struct{}{}
		}
		return nil
	}
	return told
}

// asyncs are ways to commit without waiting.
var asyncs = map[string]string{
	"SET":       "SET synchronous_commit = off; INSERT INTO t SELECT generate_series(1, 100)",
	"SET LOCAL": "BEGIN; SET LOCAL synchronous_commit = off; INSERT INTO t SELECT generate_series(1, 100); COMMIT",
	"function":  "SELECT set_config('synchronous_commit', 'off', false); INSERT INTO t SELECT generate_series(1, 100)",
}

// TestAsynchronousCommits: what was committed with synchronous_commit=off reaches the bucket without anybody's doing, within the
// time that PostgreSQL's walwriter would take, and at a clean end; nothing is asked of the bucket then.
func TestAsynchronousCommits(t *testing.T) {
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
			var told <-chan struct{}
			e := open(t, st, inLog, func(o *Options) { told = appends(o) })
			must(t, e, "CREATE TABLE t (a int)")
			<-told
			must(t, e, sql)
			at := must(t, e, "SELECT pg_current_wal_insert_lsn()")
			becomes(t, e, "SELECT pg_current_wal_flush_lsn() >= '"+at+"'", "t") // the walwriter; then in idleness
			for !e.commits.idle() {                                             // the test's own time limit is the failure
				<-told
			}
			e.Abandon()
			e = open(t, st, inLog)
			if got := must(t, e, "SELECT count(*) FROM t"); got != "100" {
				t.Errorf("%s rows of 100 are left", got)
			}
		})
	}
}
