package engine

import (
	"testing"
	"time"

	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// TestHold: a session that opts out gets answers before they are durable, and no other session does.
func TestHold(t *testing.T) {
	t.Parallel()
	slow := &slowLog{Store: mem.New(mem.Options{}), gate: make(chan struct{})}
	e := open(t, slow, inLog, func(o *Options) { o.LeaseTTL = time.Hour })
	c := client(t, e)
	do(t, c, "CREATE TABLE t (a int)")
	before := e.Stats()
	if before.Answers == 0 || before.Restarts != 0 || before.Cluster.Processes[pglite.KindClient] != 1 {
		t.Errorf("%+v", before)
	}
	slow.hold(true)
	c.Conn().(*Conn).HoldAnswers(false)
	do(t, c, "INSERT INTO t VALUES (1)")
	if after := e.Stats(); after.Answers != before.Answers {
		t.Errorf("%d answers were held", after.Answers-before.Answers)
	}
	c.Conn().(*Conn).HoldAnswers(true)
	held := later(t, c, "INSERT INTO t VALUES (2)")
	<-slow.gate // the first one's append is on its way
	select {
	case err := <-held:
		t.Errorf("it was answered before it was durable: %v", err)
	default:
	}
	slow.gate <- struct{}{}
	slow.hold(false)
	<-slow.gate
	if err := <-held; err != nil {
		t.Error(err)
	}
	if after := e.Stats(); after.Answers == before.Answers || after.Waited <= before.Waited {
		t.Errorf("%+v", after)
	}
}

// TestLayerStats: the cost of the newest layer is reported once the manifest names it, and equals what was uploaded.
func TestLayerStats(t *testing.T) {
	t.Parallel()
	st := store.Count(mem.New(mem.Options{}))
	e := open(t, st, inLog, func(o *Options) { o.LeaseTTL, o.RestoreBudget = time.Hour, -1 })
	if s := e.Stats().Layer; s != (LayerStats{}) {
		t.Errorf("before there was a layer: %+v", s)
	}
	must(t, e, "CREATE TABLE t AS SELECT g FROM generate_series(1, 1000) g")
	var before LayerStats
	for i := range 2 {
		at := st.Ops().BytesUp
		if err := e.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
		up, s := st.Ops().BytesUp-at, e.Stats().Layer
		if s.Clone <= 0 || s.Seq <= before.Seq || s.Written.NewBytes <= 0 || s.Written.NewBytes > up || s.Written.NewBytes >= s.Written.StoredBytes {
			t.Errorf("layer %d: %+v, %d bytes went up", i, s, up)
		}
		before = s
		must(t, e, "UPDATE t SET g = g + 1 WHERE g = 3")
	}
}
