package replica

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/engine"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// pretender is a writer that writes to the log without the right to: from a position on, in an epoch.
func (s *stand) pretender(at wal.Position, epoch uint64) *wal.Log {
	s.t.Helper()
	m, _, err := manifest.Load(s.t.Context(), s.all)
	if err != nil {
		s.t.Fatal(err)
	}
	at.Epoch = epoch
	log, err := wal.NewLog(s.all, at, wal.Options{Epoch: epoch, DatabaseID: m.DatabaseID, Writer: "pretender", Clock: clock.System()})
	if err != nil {
		s.t.Fatal(err)
	}
	return log
}

// applied is the last record that the replica has.
func (s *stand) applied() wal.Position {
	l := s.r.current()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.applied
}

// TestRecordBehindItsFence: a fenced writer's records are not replayed, whenever the replica reaches them.
func TestRecordBehindItsFence(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	s.same("at the beginning")
	s.writer.Abandon()
	want := s.read(digest)
	fence, err := s.pretender(s.applied(), 9).Fence(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.until("the fence is read", func() bool { s.read("SELECT 1"); return s.r.Status().Seq == fence.Seq })
	if _, err := s.pretender(fence, 8).Append(t.Context(), []wal.Op{{Kind: wal.OpReplace, Path: "/postgresql.auto.conf", Data: []byte("random_page_cost = 9\n")}}); err != nil {
		t.Fatal(err)
	}
	s.until("it stops", func() bool { s.read("SELECT 1"); return s.r.Status().Stopped != "" })
	if got := s.read(digest) + s.read("SHOW random_page_cost"); got != want+"4" {
		t.Errorf("it shows %s, and had %s", got, want)
	}
}

// TestFenceOfAStalledOpener: a fence at a position where the log was collected leads nowhere. The manifest shows that, and the replica
// moves.
func TestFenceOfAStalledOpener(t *testing.T) {
	t.Parallel()
	s := newStand(t, func(o *Options) { o.Poll = time.Minute })
	s.keep(0)
	s.same("at the beginning")
	at := s.applied()
	for range 3 {
		s.write("INSERT INTO t VALUES (1, 'y')")
		if err := s.writer.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.pretender(at, 7).Fence(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.same("behind a dead fence")
	if st := s.r.Status(); st.Moves == 0 {
		t.Errorf("it has not moved: %+v", st)
	}
}

// TestBusyLogIsNotMissing: records that are written between the look at the log and the one next to it leave no gap.
func TestBusyLogIsNotMissing(t *testing.T) {
	t.Parallel()
	s := newStand(t, func(o *Options) { o.Poll = time.Minute })
	s.keep(time.Second) // the manifest is looked at four times in that
	s.same("at the beginning")
	_ = s.r.clock.Sleep(t.Context(), 400*time.Millisecond) // a look that is under way ends, and the next one includes the manifest
	next := s.applied().Seq + 1
	absent, done, written := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var once sync.Once
	s.st.mu.Lock()
	s.st.hook = func(key string, err error) {
		if key == wal.Key(next) && errors.Is(err, store.ErrNotFound) {
			once.Do(func() { close(absent) })
		}
	}
	s.st.before = func(key string) { // the other objects are read when the records are written
		if key == manifest.Key || key == wal.Key(next+1) {
			<-done
		}
	}
	s.st.mu.Unlock()
	go func() {
		<-absent
		var err error
		for range 2 {
			_, failed := ask(t, s.writer, "INSERT INTO t VALUES (1, 'meanwhile')")
			err = errors.Join(err, failed)
		}
		written <- errors.Join(err, s.writer.Compact(t.Context()))
		close(done)
	}()
	signal(s.r.current().kick)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	s.until("it has them", func() bool { return s.applied().Seq >= next+1 })
	_ = s.r.clock.Sleep(t.Context(), 700*time.Millisecond) // a move would be over
	if st := s.r.Status(); st.Stopped != "" || st.Moves != 0 {
		t.Errorf("%+v", st)
	}
}

// TestCollectedMeanwhileIsNotMissing: a record that is collected after the look at the manifest, and before its own reading, is no damage.
func TestCollectedMeanwhileIsNotMissing(t *testing.T) {
	t.Parallel()
	s := newStand(t, func(o *Options) { o.Poll = time.Minute })
	s.keep(0) // each look includes the manifest
	s.same("at the beginning")
	next := s.applied().Seq + 1
	for range 2 {
		s.write("INSERT INTO t VALUES (1, 'y')")
	}
	collected := make(chan struct{})
	seen := map[string]chan struct{}{manifest.Key: make(chan struct{}), wal.Key(next + 1): make(chan struct{})}
	var once [2]sync.Once
	s.st.mu.Lock()
	s.st.hook = func(key string, _ error) {
		for i, k := range []string{manifest.Key, wal.Key(next + 1)} {
			if key == k {
				once[i].Do(func() { close(seen[k]) })
			}
		}
	}
	s.st.before = func(key string) {
		if key == wal.Key(next) {
			<-collected
		}
	}
	s.st.mu.Unlock()
	l := s.r.current()
	l.mu.Lock()
	looked := l.changed
	l.mu.Unlock()
	signal(l.kick)
	for _, there := range seen {
		<-there
	}
	for range 3 {
		s.write("INSERT INTO t VALUES (1, 'z')")
		if err := s.writer.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.all.Get(t.Context(), wal.Key(next)); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("the record was not collected: %v", err)
	}
	close(collected)
	<-looked
	if err := l.stoppedBy(); err != nil {
		t.Errorf("it stops: %v", err)
	}
	s.same("behind what was collected")
}

// TestNobodyGoesBack: the engine that a replica moves to gets as far as its predecessor, whatever the latter has read in the meantime.
func TestNobodyGoesBack(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	s.same("at the beginning")
	if err := s.writer.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	next, err := s.r.begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer next.engine.Abandon()
	s.st.down.Store(true) // the next engine sees nothing new, and the replica does
	s.write("INSERT INTO t VALUES (1, 'seen')")
	s.st.down.Store(false)
	s.same("one that is ahead")
	l := s.r.current()
	if err := s.r.overtake(t.Context(), next, l); err != nil {
		t.Fatal(err)
	}
	if next.engine.Position() < l.engine.Position() {
		t.Errorf("the next one is at %x, the one before at %x", next.engine.Position(), l.engine.Position())
	}
}

// TestMoreRoomThanBefore: a writer with more connections than the replica has been started for.
func TestMoreRoomThanBefore(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	s.same("at the beginning")
	s.writer.Abandon()
	e, err := engine.Open(t.Context(), engine.Options{
		Runtime: runtime, Store: s.all, MaxClients: 300, Process: "one", RestoreBudget: -1, LeaseTTL: 500 * time.Millisecond, AcquireTimeout: time.Minute,
		Settings: map[string]string{"max_prepared_transactions": "10"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Abandon()
	s.writer = e
	s.write("INSERT INTO t VALUES (1, 'x')")
	s.until("it moves", func() bool { s.read("SELECT 1"); return s.r.Status().Moves == 1 })
	s.same("with more room")
	if got := s.read("SHOW max_connections"); got != "311" {
		t.Errorf("max_connections is %s", got)
	}
}

// TestPausedReplay: PostgreSQL's own pause holds it where it is, and it says so.
func TestPausedReplay(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	s.same("at the beginning")
	want := s.read(digest)
	s.read("SELECT pg_wal_replay_pause()")
	s.write("INSERT INTO t VALUES (1, 'x')")
	s.until("it says so", func() bool { s.read("SELECT 1"); return strings.Contains(s.r.Status().Trouble, "paused") })
	if got := s.read(digest); got != want {
		t.Errorf("it shows %s, and had %s", got, want)
	}
	s.read("SELECT pg_wal_replay_resume()")
	s.same("behind it")
}

// TestCrowdedCache: what a replica has replayed is in no layer, and fills its cache. It moves when there is a newer layer, and fetches
// those of the writer's pages that it does not have in memory.
func TestCrowdedCache(t *testing.T) {
	t.Parallel()
	s := newStand(t, func(o *Options) { o.Engine.Cache, o.Engine.TempDir = engine.LeastCache, t.TempDir() }) // same sorts all of it
	s.write("INSERT INTO t SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, 100000) g")
	if err := s.writer.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.same("at the beginning")
	s.read("CHECKPOINT") // whatever changed in its buffers would be written
	_ = s.r.clock.Sleep(t.Context(), 300*time.Millisecond)
	if c := s.engine().Stats().Cache; c.Unsettled > 1<<20 { // hint bits, which with checksums of pages a standby does not write
		t.Errorf("a reader has changed %d bytes of pages", c.Unsettled)
	}
	s.write("UPDATE t SET b = repeat(md5(b), 20) WHERE a % 2 = 0")
	s.same("behind an update of much")
	s.until("it is crowded", func() bool { s.read("SELECT 1"); return s.engine().Stats().Cache.Unsettled > engine.LeastCache/4 })
	if err := s.writer.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.until("it moves", func() bool { s.read("SELECT 1"); return s.r.Status().Moves > 0 })
	s.same("at the newer layer")
	s.until("it keeps its budget", func() bool { c := s.engine().Stats().Cache; return c.Resident > 0 && c.Resident <= c.Budget })
}

// TestPositionWithinARecord: the log may end, for a while, in the middle of a record that was not acknowledged. A client that waits for
// that position has everything that was acknowledged before it.
func TestPositionWithinARecord(t *testing.T) {
	t.Parallel()
	s := newStand(t, func(o *Options) { o.WaitLimit = 3 * time.Second })
	s.same("at the beginning")
	s.writer.Abandon()
	l := s.r.current()
	end := l.engine.Reached()
	size, begun := uint64(1<<20), []byte{200, 1, 0, 0, 9, 9, 9, 9} // the first bytes of a record of 456
	name := fmt.Sprintf("/pg_wal/00000001%08X%08X", end>>32, end&0xFFFFFFFF/size)
	if _, err := s.pretender(s.applied(), s.applied().Epoch).Append(t.Context(), []wal.Op{{Kind: wal.OpWrite, Path: name, Offset: int64(end%size+7) &^ 7, Data: begun}}); err != nil {
		t.Fatal(err)
	}
	if err := s.engine().Await(t.Context(), (end+7)&^7+8); err != nil {
		t.Error(err)
	}
}

var errTest = errors.New("a test")

// TestEndOfTheEngine: a waiting caller is told of the end.
func TestEndOfTheEngine(t *testing.T) {
	t.Parallel()
	s := newStand(t, func(o *Options) { o.Poll, o.WaitLimit = time.Minute, time.Minute })
	e := s.engine()
	waited := make(chan error, 1)
	go func() { waited <- e.Await(t.Context(), 1<<60) }()
	s.r.End(errTest)
	if err := <-waited; !errors.Is(err, engine.ErrMoved) || !errors.Is(err, errTest) {
		t.Errorf("it hears %v", err)
	}
}

// TestEndWhileItMoves: a replica that is replaced leaves no engine behind that it was about to move to.
func TestEndWhileItMoves(t *testing.T) {
	t.Parallel()
	s := newStand(t, nil)
	s.same("at the beginning")
	l := s.r.current()
	reading, goOn, moved := make(chan struct{}), make(chan struct{}), make(chan bool, 1)
	var once sync.Once
	s.st.mu.Lock()
	s.st.before = func(key string) {
		if key == manifest.Key {
			once.Do(func() {
				close(reading)
				<-goOn
			})
		}
	}
	s.st.mu.Unlock()
	go func() { moved <- s.r.moveFrom(t.Context(), l, engine.ErrCapacity) }()
	<-reading
	s.r.End(errors.New("something else is there"))
	close(goOn)
	<-moved
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if s.r.next != nil {
		t.Error("the engine that it was about to move to is still there")
	}
}
