package engine

import (
	"testing"
	"time"

	"blobpglite/core/pglite"
	"blobpglite/core/store/mem"
)

// TestHold: who says so gets answers before they are durable, and nobody else does.
func TestHold(t *testing.T) {
	slow := &slowLog{Store: mem.New(mem.Options{}), gate: make(chan struct{})}
	e := open(t, slow, inLog, func(o *Options) { o.LeaseTTL = time.Hour })
	c := client(t, e)
	do(t, c, "CREATE TABLE t (a int)")
	before := e.Stats()
	if before.Answers == 0 || before.Restarts != 0 || before.Cluster.Processes[pglite.KindClient] != 1 {
		t.Errorf("%+v", before)
	}
	slow.hold(true)
	c.Conn().(*Conn).Hold(false)
	do(t, c, "INSERT INTO t VALUES (1)")
	if after := e.Stats(); after.Answers != before.Answers {
		t.Errorf("%d answers were held", after.Answers-before.Answers)
	}
	c.Conn().(*Conn).Hold(true)
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
