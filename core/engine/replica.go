package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pgdata"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/wal"
)

// ErrMoved: a replica has restarted from a newer layer, which ended its sessions. Connect again.
var ErrMoved = errors.New("this replica has moved to a newer layer")

// ErrStale: a replica could not read the log for some time, and its data is older than allowed. Try again later, or ask the writer.
var ErrStale = errors.New("the replica lags more than is allowed")

// ErrPaused: a replica's recovery was paused (pg_wal_replay_pause). pg_wal_replay_resume resumes it.
var ErrPaused = errors.New("recovery is paused")

// ErrStuck: the log that a replica was fed cannot be replayed. It stays where it is; open another one, which begins at the newest layer.
var ErrStuck = errors.New("recovery cannot continue")

// Start is what a replica begins with: a layer, the records after it, and callbacks into the code that feeds it.
type Start struct {
	Manifest manifest.Manifest // its last layer is restored
	Records  []wal.Record      // after that layer, fences included
	// Admit is called before a client's bytes reach PostgreSQL; its error is returned to the client. It may be called concurrently. Nil: no
	// check.
	Admit func(ctx context.Context) error
	// Await waits until the replica has reached a position of PostgreSQL's log.
	Await func(ctx context.Context, position uint64) error
	// Due is called once, with the reason, when the replica should restart from a newer layer: a page is gone from the bucket, or what it
	// has replayed leaves no room in the cache, or the writer has more room for connections. It must not block. Nil: not called.
	Due func(because error)
}

// Replica is an engine whose PostgreSQL is a hot standby. It replays what it is fed, and writes nothing to the store. Only one goroutine at
// a time may call Feed and CatchUp.
type Replica struct {
	*Engine
	f *follower
}

// OpenReplica restores a database to read it and to follow its log. It fences no writer and takes no lease. It returns when everything in s
// has been replayed, so no client sees less. Errors: those of OpenAt.
func OpenReplica(ctx context.Context, o Options, s Start) (*Replica, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	e := newEngine(o)
	f := &follower{e: e, s: s}
	var err error
	if f.cache, err = newCache(e, f.crowded); err == nil {
		err = e.openTempDisk()
	}
	if err != nil {
		return nil, fmt.Errorf("open a replica: %w", err)
	}
	f.life, f.stop = context.WithCancel(context.WithoutCancel(ctx))
	if f.cache != nil {
		e.pages = f.cache.pages
	}
	e.commits, e.follower = f, f
	began := o.Clock.Monotonic()
	op := newOpening(&e.o)
	op.pages = e.pages
	wait := op.prepare(ctx, true)
	err = f.open(ctx, op)
	wait()
	if err != nil {
		f.stop()
		e.temp.close()
		if e.pages != nil {
			e.pages.Close()
		}
		return nil, fmt.Errorf("open a replica: %w", err)
	}
	op.stats.Wall, op.stats.LeftOut = op.since(began), e.server.cluster.LeftOut()
	e.opened = op.stats
	if f.cache != nil {
		f.background.Go(func() { f.cache.run(f.life) })
		f.cache.poke()
		f.background.Go(func() { f.cache.hydrate(f.life) })
	}
	return &Replica{e, f}, nil
}

// follower is the committer of a replica: there is nothing to make durable.
type follower struct {
	noCommits
	e     *Engine
	s     Start
	cache *cache

	life       context.Context
	stop       context.CancelFunc
	background sync.WaitGroup
	saidDue    atomic.Bool

	segment  uint64        // size of a segment of PostgreSQL's log
	end      pgdata.LSN    // place after the last nonzero byte of it that was fed
	final    wal.Op        // that byte
	unfed    int           // bytes fed since the last wait for recovery
	quietAt  atomic.Uint64 // see Reached
	replayed atomic.Uint64 // see Replayed
}

func (f *follower) mayServe(ctx context.Context) error {
	f.cache.statement()
	if f.s.Admit == nil {
		return nil
	}
	return f.s.Admit(ctx)
}

func (f *follower) reached() []wal.Record { return []wal.Record{{Ops: []wal.Op{f.final}}} }

func (f *follower) close(context.Context, bool) error {
	f.stop()
	f.background.Wait()
	return nil
}

// due reports, once, that the replica should restart from a newer layer.
func (f *follower) due(because error) {
	if f.s.Due != nil && !f.saidDue.Swap(true) {
		f.s.Due(because)
	}
}

// errCrowded and errGone are reasons to move.
var (
	errCrowded = errors.New("the pages changed since its layer leave no room in the cache")
	errGone    = errors.New("pages of its layer are gone from the bucket")
)

// ErrCapacity: the writer allows more connections, prepared transactions or locks than the replica. Open the replica again with the
// writer's settings.
var ErrCapacity = errors.New("the writer has higher limits than this replica")

func (f *follower) crowded() { f.due(errCrowded) }

// open restores and starts PostgreSQL.
func (f *follower) open(ctx context.Context, op *opening) error {
	e := f.e
	op.stats.Epoch, op.stats.Records = f.s.Manifest.Epoch, len(f.s.Records)
	if err := e.o.checkVersion(f.s.Manifest); err != nil {
		return err
	}
	r, err := op.readLayer(ctx, f.s.Manifest)
	if err != nil {
		return err
	}
	e.holds(r.taken.layer)
	if f.segment, err = segmentSize(r.data); err != nil {
		return err
	}
	at := e.o.Clock.Monotonic()
	for _, rec := range f.s.Records {
		f.fed(rec)
	}
	if _, err := replay(r.data, f.s.Records); err != nil {
		return err
	}
	op.stats.Replay = op.since(at)
	r.data.SetHooks(memfs.Hooks{Write: func(_ string, _ int64, p []byte) { f.cache.wrote(len(p)) }})
	records := f.s.Records
	f.s.Records = nil
	return e.startOn(ctx, op, r.data, records)
}

// fed records how far a record takes the log.
func (f *follower) fed(rec wal.Record) {
	for _, op := range rec.Ops {
		if op.Kind != wal.OpWrite {
			continue
		}
		if last, ok := reaches(op.Path, op.Offset, op.Data); ok {
			f.final = last
			f.end = pgdata.SegmentStart(segment(op.Path), f.segment) + pgdata.LSN(last.Offset) + 1
		}
	}
}

// follow makes a cluster's options those of a standby.
func (f *follower) follow(o *pglite.ClusterOptions) {
	o.Standby, o.Await = true, f.s.Await
	if f.e.pages != nil {
		o.Source = watchedPages{readPages{f.e.pages, &f.e.readers}, f}
	}
	next := o.Log
	o.Log = func(line string) {
		for _, usual := range usualLines {
			if strings.Contains(line, usual) {
				f.e.o.Logger.Debug("postgres", "line", line)
				return
			}
		}
		next(line)
	}
}

// usualLines are messages that PostgreSQL logs each time it has read its whole log.
var usualLines = []string{
	"invalid record length at", "waiting for WAL to become available", "incorrect resource manager data checksum", "contrecord",
	"record with incorrect prev-link", "invalid magic number", "unexpected pageaddr",
}

// watchedPages reports pages that are gone from the bucket.
type watchedPages struct {
	readPages
	f *follower
}

func (p watchedPages) Fetch(ctx context.Context, addresses []int64) ([]memfs.Fetched, error) {
	got, err := p.readPages.Fetch(ctx, addresses)
	if errors.Is(err, store.ErrNotFound) {
		p.f.due(fmt.Errorf("%w: %w", errGone, err))
	}
	return got, err
}

// feedBytes is how many bytes of the log recovery gets at a time. While it replays them, no client runs.
const feedBytes = 128 << 10

// Feed gives recovery the next record of the commit log. It waits while a lot remains to be replayed. Errors: ErrStuck, ErrPaused,
// ErrCapacity, ErrPoisoned, ErrClosed, ErrStarting, wal.ErrCorrupt, the context's.
func (r *Replica) Feed(ctx context.Context, rec wal.Record) error {
	f := r.f
	for _, op := range rec.Ops {
		for first := true; first || len(op.Data) > 0; first = false {
			piece := op
			if op.Kind == wal.OpWrite {
				n := min(len(op.Data), feedBytes)
				piece.Data = op.Data[:n]
				op.Data, op.Offset = op.Data[n:], op.Offset+int64(n)
			} else {
				op.Data = nil
			}
			if err := f.put(ctx, piece); err != nil {
				return fmt.Errorf("feed record %d: %w", rec.Seq, err)
			}
			f.fed(wal.Record{Ops: []wal.Op{piece}})
			if f.unfed += len(piece.Data); f.unfed < feedBytes {
				continue
			}
			if err := r.CatchUp(ctx); err != nil {
				return fmt.Errorf("feed record %d: %w", rec.Seq, err)
			}
		}
	}
	return nil
}

// put applies one operation to the files, and wakes recovery.
func (f *follower) put(ctx context.Context, op wal.Op) error {
	for {
		c, err := f.e.ready(ctx, startWait)
		if err != nil {
			return err
		}
		crashed := false
		c.Locked(func() {
			if crashed = c.Err() != nil; crashed {
				return
			}
			if err = apply(c.Data(), op, int64(f.segment)); err != nil {
				return
			}
			if op.Kind == wal.OpWrite {
				c.Wake()
			} else {
				c.Reload()
			}
		})
		if !crashed {
			return err
		}
		<-c.Done()
	}
}

// CatchUp waits until recovery has replayed everything it was fed, except for the beginning of a record whose rest is still to come.
// Errors: those of Feed.
func (r *Replica) CatchUp(ctx context.Context) error {
	f := r.f
	f.unfed = 0
	for {
		c, err := f.e.ready(ctx, startWait)
		if err != nil {
			return err
		}
		if err = f.quiet(ctx, c); !errors.Is(err, pglite.ErrDead) {
			return err
		}
		<-c.Done()
	}
}

// quietLook is how often to look at recovery, in case it does not report that it waits.
const quietLook = 20 * time.Millisecond

// quiet waits until recovery has nothing more to replay.
func (f *follower) quiet(ctx context.Context, c *pglite.Cluster) error {
	heard, leave := c.Following()
	defer leave()
	for {
		var now pglite.Recovery
		var err error
		lacks := false
		c.Locked(func() {
			if err = c.Err(); err != nil {
				return
			}
			now, err = c.Recovery()
			switch {
			case err != nil:
			case now.Waits:
				err = f.checkRest(c.Data(), pgdata.LSN(now.Replayed))
			case now.Paused:
				lacks = c.Lacks()
			}
		})
		if err != nil {
			return err
		}
		f.replayed.Store(now.Replayed)
		if now.Waits {
			f.quietAt.Store(max(now.Replayed, uint64(aligned(f.end))))
		}
		switch {
		case now.Waits:
			return nil
		case now.Paused && lacks:
			f.due(ErrCapacity)
			return ErrCapacity
		case now.Paused:
			return ErrPaused
		}
		t := f.e.o.Clock.NewTimer(quietLook)
		select {
		case <-heard:
		case <-t.C():
		case <-c.Done():
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		t.Stop()
	}
}

// caughtUp waits until a newly started cluster has replayed what its files hold.
func (f *follower) caughtUp(ctx context.Context, c *pglite.Cluster, want recovery) error {
	f.end = max(f.end, want.end)
	if err := f.quiet(ctx, c); err != nil {
		return err
	}
	if got := pgdata.LSN(f.replayed.Load()); got < want.end {
		return want.recovered(got)
	}
	return nil
}

// checkRest checks what recovery has left of the log: nothing, or the beginning of a record whose rest is still to come. Otherwise it is
// stuck.
func (f *follower) checkRest(files *memfs.FS, replayed pgdata.LSN) error {
	if replayed >= f.end {
		return nil
	}
	body, err := files.ReadFile(pgdata.ControlPath)
	if err != nil {
		return err
	}
	control, err := pgdata.ParseControl(body)
	if err != nil {
		return err
	}
	log := pgdata.Log{Segment: f.segment, Read: func(name string) ([]byte, error) { return files.ReadFile(walDir + name) }}
	if err := log.Rest(control, replayed, f.end); err != nil {
		return fmt.Errorf("%w: %w", ErrStuck, err)
	}
	return nil
}

// Replayed is the place (LSN) after the last record replayed at the last CatchUp. Clients may see more.
func (r *Replica) Replayed() uint64 { return r.f.replayed.Load() }

// Reached is the end (LSN) of what had been fed and replayed at the last CatchUp. It may lie within a record whose rest is still to come;
// nothing of such a record was acknowledged.
func (r *Replica) Reached() uint64 { return r.f.quietAt.Load() }

// position is how far recovery has got. The cluster's lock is held.
func (f *follower) position() uint64 {
	if c := f.e.server.live.Load(); c != nil {
		if r, err := c.Recovery(); err == nil {
			return r.Replayed
		}
	}
	return f.replayed.Load()
}

// Done is closed when the engine has ended.
func (r *Replica) Done() <-chan struct{} { return r.f.life.Done() }

// Move ends the engine because another one has taken its place: its clients get ErrMoved.
func (r *Replica) Move(because error) { _ = r.fail(fmt.Errorf("%w: %w", ErrMoved, because)) }
