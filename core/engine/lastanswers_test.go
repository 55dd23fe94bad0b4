package engine

import (
	"testing"

	"blobpglite/core/store/mem"
)

// TestAnswersWhileItEnds: in durability sleep answers do not wait, but an answer that leaves while the engine ends may lie beyond what the
// end makes durable: it waits, and learns how that ended.
func TestAnswersWhileItEnds(t *testing.T) {
	t.Parallel()
	e := open(t, mem.New(mem.Options{}), inLog, func(o *Options) { o.Durability = Sleep })
	must(t, e, "CREATE TABLE t (a int)")
	m := e.commits.(*logMode)
	if m.log.allDurable() {
		t.Fatal("everything is durable: there is nothing to wait for")
	}
	if m.awaited(mark(m.log.lastAwaited())) != nil {
		t.Fatal("an answer waits")
	}
	e.closed.Store(true)
	waits := m.awaited(mark(m.log.lastAwaited()))
	e.closed.Store(false)
	if waits == nil {
		t.Error("an answer leaves while the engine ends, and waits for nothing")
	}
}
