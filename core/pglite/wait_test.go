package pglite

import (
	"testing"
	"time"

	"blobpglite/core/clock"
)

// timers is a clock that reports how long each wait will be.
type timers struct {
	*clock.Virtual
	made chan time.Duration
}

func (t timers) NewTimer(d time.Duration) clock.Timer {
	timer := t.Virtual.NewTimer(d)
	t.made <- d
	return timer
}

// await returns the next wait that is as long as a statement's, and not a background process's. It ends those of a first statement, which
// may be woken by what its client sent earlier.
func (t timers) await(test *testing.T) time.Duration {
	test.Helper()
	for {
		select {
		case d := <-t.made:
			switch {
			case d > firstWait && d <= secondWait:
				return d
			case d > firstWait/2 && d <= firstWait:
				t.Advance(firstWait)
			}
		case <-test.Context().Done():
			test.Fatal("nobody waits")
		}
	}
}

const firstWait, secondWait = 16 * time.Second, 50 * time.Second

// A wait after a spurious wake-up continues for the rest of its time, not for all of it again.
func TestWaitGoesOnForWhatIsLeft(t *testing.T) {
	watch := timers{clock.NewVirtual(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)), make(chan time.Duration, 1<<12)}
	c := startCluster(t, ClusterOptions{Clock: watch, Settings: map[string]string{"autovacuum": "off"}})
	conn := dial(t, c)
	value(t, conn, "SELECT 1")
	var sleeper *Process
	for _, p := range c.Processes() {
		if p.kind == KindClient {
			sleeper = p
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := try(conn, "SELECT pg_sleep(16); SELECT pg_sleep(50)")
		done <- err
	}()
	if d := watch.await(t); d != secondWait {
		t.Fatalf("pg_sleep(50) waits %v", d)
	}
	const passed = 30 * time.Second
	watch.Advance(passed)
	d := secondWait
	for n := 0; n < 3 && d != secondWait-passed; n++ { // it may have been woken spuriously, and wait again, before the time passed
		sleeper.signal(sigURG) // a latch might have been set; it was not
		d = watch.await(t)
	}
	if d != secondWait-passed {
		t.Fatalf("%v later it waits another %v", passed, d)
	}
	watch.Advance(secondWait - passed)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A process that wants a lightweight lock that another one has waits until it is free, and all others run.
func TestWaitsForALock(t *testing.T) {
	const transactionIDs, exclusive = 3 * 128, 0 // XidGenLock of MainLWLockArray; LW_EXCLUSIVE
	c := startCluster(t, ClusterOptions{Settings: map[string]string{"autovacuum": "off"}})
	writer, reader := dial(t, c), dial(t, c)
	value(t, writer, "CREATE TABLE t (i int)")
	holder := c.process(KindCheckpoint)
	call := func(name string, args ...uint64) {
		c.lock.lock(holder) // it waits during that
		defer c.lock.unlock()
		lock := uint64(holder.in.mem.u32(uint32(c.rt.main.consts["MainLWLockArray"])) + transactionIDs)
		holder.in.call(holder.in.module.ExportedFunction(name), append([]uint64{lock}, args...)...)
	}
	call("LWLockAcquire", exclusive)
	done := make(chan error, 1)
	go func() {
		_, err := try(writer, "INSERT INTO t VALUES (1)")
		done <- err
	}()
	wants := "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'XidGen'"
	for value(t, reader, wants) != "1" {
		select {
		case err := <-done:
			t.Fatalf("it had not to wait: %v", err)
		default:
		}
	}
	for range 10 {
		if got := value(t, reader, "SELECT count(*) FROM t"); got != "0" {
			t.Error(got)
		}
	}
	call("LWLockRelease")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := value(t, reader, "SELECT count(*) FROM t"); got != "1" {
		t.Error(got)
	}
}

// A process that waits for such a lock can be killed.
func TestWaitForALockEndsWithTheCluster(t *testing.T) {
	c := startCluster(t, ClusterOptions{})
	var p *Process
	conn := dial(t, c)
	value(t, conn, "SELECT 1")
	for _, one := range c.Processes() {
		if one.kind == KindClient {
			p = one
		}
	}
	c.lock.lock(p)
	held := p.in.mem.u32(uint32(c.rt.main.consts["MainLWLockArray"])) + 4*128 + 4 // ProcArrayLock.state
	p.in.mem.putU32(held, p.in.mem.u32(held)|1<<18)                               // LW_VAL_EXCLUSIVE, and never released
	c.lock.unlock()
	done := make(chan error, 1)
	go func() {
		_, err := try(conn, "SELECT 1")
		done <- err
	}()
	for c.lock.switches.Load() < 20 {
		c.Locked(func() {})
	}
	c.Kill()
	if err := <-done; err == nil {
		t.Error("it had not to wait")
	}
}
