package pgwire

import (
	"context"
	"sync/atomic"
	"testing"
)

func TestBegins(t *testing.T) {
	for text, want := range map[string]bool{
		"BEGIN": true, "begin;": true, " Begin ; ": true, "BEGIN WORK": true, "start transaction": true, "START  TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE": true,
		"BEGIN; SELECT 1": false, "BEGIN /* */": false, "START": false, "start transactions": false, "STARTED": false, "COMMIT": false, "": false,
		"begin;;": false, "SELECT 1": false, "START x": false, "BEGINS": false, `BEGIN "x"`: false,
	} {
		if got := begins([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestBeginDoesNotWait: while a commit is on its way BEGIN is answered, and what follows, which may tell of it, is not.
func TestBeginDoesNotWait(t *testing.T) {
	var armed, released atomic.Bool
	putting, gate := make(chan struct{}, 100), make(chan struct{})
	d := openDoorOn(t, func() error {
		if armed.Load() {
			putting <- struct{}{}
			<-gate
		}
		return nil
	}, 0)
	a, b := d.connect(), d.connect()
	exec(t, a, "CREATE TABLE t (a int)")
	armed.Store(true)
	committed := make(chan error, 1)
	go func() {
		_, err := a.Exec(context.Background(), "INSERT INTO t VALUES (1)")
		committed <- err
	}()
	<-putting
	exec(t, b, "BEGIN")
	read := make(chan string, 1)
	go func() {
		var n string
		if err := b.QueryRow(context.Background(), "SELECT count(*)::text FROM t").Scan(&n); err != nil {
			n = err.Error()
		}
		if !released.Load() {
			n = "before the row was durable"
		}
		read <- n
	}()
	d.await(func() bool { return d.count(stageBusy) == 2 })
	if len(committed) > 0 {
		t.Error("a commit was acknowledged while its record was on its way")
	}
	released.Store(true)
	close(gate)
	if err := <-committed; err != nil {
		t.Error(err)
	}
	if got := <-read; got != "1" {
		t.Errorf("the row was read: %s", got)
	}
	exec(t, b, "COMMIT")
}
