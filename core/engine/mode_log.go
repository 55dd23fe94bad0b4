package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/clock"
	"blobpglite/core/gc"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pgdata"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
)

// logMode is the mode that commits by appending to the log.
type logMode struct {
	o       *Options
	e       *Engine
	opened  *takeover.Opened
	log     *logWriter
	flusher *flusher
	budget  *budget
	fence   uint64      // seq of our fence: everything we append comes after it
	hasBase atomic.Bool // the manifest names a layer, on which records can be replayed
	initial cut         // of a new database: what its first layer holds
	cache   *cache      // nil: everything is in memory
	taken   layerMoment // the last layer this writer restored or took; owned by the goroutine that takes layers

	lastTaken atomic.Pointer[LayerStats] // nil: this writer took none

	shown, durable       atomic.Uint64 // see Engine.Position: written, and durable
	from                 pgdata.LSN    // where the restored log ended
	capturing, appending places        // one for captured, one for append

	// Under the cluster's lock.
	sight      sight
	written    wal.Op // the last operation on PostgreSQL's log
	born       uint64 // transactions that had ended when PostgreSQL last started
	toldCommit uint64 // end position of the last commit reported by an answer, even if it is still in PostgreSQL's buffers
	room       <-chan struct{}
	logged     map[*pglite.Process]uint64 // how much each had logged when the log was full, until room is closed

	compacting atomic.Bool
	settleLast func() error // settles the layer taken at the end; see publish. Nil: none was taken
	undecided  bool         // the manifest may yet name the last layer whose publishing failed; owned by the goroutine that takes layers
	renewing   atomic.Bool
	background sync.WaitGroup
	ctx        context.Context // of background work
	stop       context.CancelFunc
	layers     sync.WaitGroup  // of layers that came due
	layerCtx   context.Context // within ctx
	stopLayer  context.CancelFunc

	collected uint64    // everything before this number is collected
	learnt    gc.Learnt // what collections have learnt about the log
}

// openLog opens in mode log.
func (e *Engine) openLog(ctx context.Context, op *opening) error {
	m := &logMode{o: &e.o, e: e}
	var err error
	if m.cache, err = newCache(e, m.consider); err != nil {
		return err
	}
	m.budget = &budget{budgetEnv: budgetEnv{
		clock: e.o.Clock, restore: e.o.RestoreBudget, record: e.o.RecordTime, cache: e.o.Cache, crowded: m.cache.isCrowded,
	}}
	if m.cache != nil {
		e.pages, op.pages = m.cache.pages, m.cache.pages
	}
	if err = e.openLogWith(ctx, op, m); err != nil && e.pages != nil {
		e.pages.Close()
	}
	return err
}

func (e *Engine) openLogWith(ctx context.Context, op *opening, m *logMode) error {
	opened, err := takeover.Open(ctx, takeover.Options{
		Store: e.o.Store, Writer: e.o.Writer, Process: e.o.process(), Address: e.o.Address, LeaseTTL: e.o.LeaseTTL, AcquireTimeout: e.o.AcquireTimeout,
		Create: e.o.Create, Postgres: pglite.PostgresVersion, Retain: e.o.Retain, BeforeCreate: op.beforeCreate, Check: e.o.checkVersion,
		LeaseDamaged: func(err error) {
			e.o.Logger.Error("the lease was overwritten by another program, and is damaged", "error", err)
		},
		LeaseWaits: func(held *lease.LockedError, atMost time.Duration) {
			e.o.Logger.Info("another process has the database: waiting for its lease to expire or to be released",
				"holder", held.Holder, "address", held.Address, "until", held.ExpiresAt.UTC().Format(time.RFC3339Nano), "at_most", atMost.String())
		},
		Deadline: e.o.CommitDeadline, Clock: e.o.Clock, Hook: e.o.Hook,
		OnManifest: func(m manifest.Manifest) {
			if n := len(m.Layers); n > 0 {
				op.newest.begin(ctx, op, m.Layers[n-1], base.Expected(m, m.Layers[n-1]))
			}
		},
	})
	defer op.newest.drop()
	switch {
	case errors.Is(err, store.ErrNotFound) && !e.o.Create:
		return fmt.Errorf("%w: %w", ErrNoDatabase, err)
	case errors.Is(err, manifest.ErrNewer) || errors.Is(err, wal.ErrNewer):
		return fmt.Errorf("%w: %w", ErrVersion, err)
	case errors.Is(err, wal.ErrFenced), errors.Is(err, takeover.ErrRival):
		return fmt.Errorf("%w: %w", ErrFenced, err)
	case err != nil:
		return err
	}
	op.stats.Created, op.stats.Epoch = opened.Created, opened.Epoch
	if kept, said := opened.Manifest.Retain(); said && e.o.Retain > 0 && e.o.Retain != kept && e.o.Retain != manifest.DefaultRetain {
		e.o.Logger.Warn("the database keeps its own retention, which differs from the one given; change it with pgserve retain",
			"kept", kept.String(), "given", e.o.Retain.String())
	}
	op.stats.Lease, op.stats.Manifest, op.stats.Claim = opened.LeaseTime, opened.ReadTime, opened.FenceTime
	m.opened, m.fence = opened, opened.Log.Tail().Seq
	m.ctx, m.stop = context.WithCancel(context.WithoutCancel(ctx))
	m.layerCtx, m.stopLayer = context.WithCancel(m.ctx)
	m.log = newLogWriter(e.o.Clock, opened.Log.Tail(), m.append)
	m.log.before = m.firstLayer
	m.flusher = newFlusher(flusherEnv{
		clock: e.o.Clock, durability: e.o.Durability, every: e.o.FlushInterval, idle: e.o.IdleFlush, allDurable: m.log.allDurable,
		flush:      func(ctx context.Context) { _ = m.log.flush(ctx, m.log.lastAdded()) }, // a failure has poisoned the engine
		background: func(f func(context.Context)) { m.background.Go(func() { f(m.ctx) }) },
	})
	e.commits = m
	e.unlogged.logger = e.o.Logger
	if err = m.restore(ctx, op); err != nil {
		m.stop()
		return errors.Join(err, opened.Lease.Release(context.WithoutCancel(ctx)))
	}
	opened.Records = nil
	m.flusher.opened()
	m.background.Go(func() { m.log.ship(m.ctx, func(err error) { _ = e.fail(fmt.Errorf("commit: %w", err)) }) })
	if m.cache != nil {
		m.background.Go(func() { m.cache.run(m.ctx) })
		m.cache.poke()
		m.background.Go(func() { m.cache.hydrate(m.ctx) })
	}
	return nil
}

// restore puts the layer and the records together and starts PostgreSQL, which recovers as after a crash.
func (m *logMode) restore(ctx context.Context, op *opening) error {
	e := m.e
	layers := len(m.opened.Manifest.Layers)
	m.hasBase.Store(layers > 0)
	if layers == 0 {
		for _, r := range m.opened.Records {
			if r.Kind == wal.Data {
				return fmt.Errorf("record %d: %w: there is no layer before it", r.Seq, wal.ErrCorrupt)
			}
		}
		return e.startNew(ctx, op, func(data *memfs.FS) {
			m.initial = cutOf(data) // publish makes it say that PostgreSQL runs
			m.setHooks(data)
		})
	}
	r, err := op.readLayer(ctx, m.opened.Manifest)
	if err != nil {
		return err
	}
	data := r.data
	m.taken = r.taken
	e.holds(r.taken.layer)
	m.learnt.Layer(r.taken.layer.Key(), r.taken.layer.Segments())
	at := e.o.Clock.Monotonic()
	if err := m.replay(op, data); err != nil {
		return err
	}
	op.stats.Replay = op.since(at)
	m.setHooks(data) // before the start: what recovery writes at its end goes into the log, too
	m.cache.starts()
	if err := e.startOn(ctx, op, data, m.opened.Records); err != nil {
		return err
	}
	m.from = e.recovered
	e.unlogged.begin(data, e.o.Logger)
	m.budget.opened(m.opened.Manifest.Layers[layers-1].RawBytes, op.stats.Restore)
	return nil
}

// replay applies the records' operations to the files.
func (m *logMode) replay(op *opening, data *memfs.FS) error {
	bytes, err := replay(data, m.opened.Records)
	m.budget.bytes.Store(bytes)
	m.budget.records.Store(int64(len(m.opened.Records)))
	op.stats.Records = len(m.opened.Records)
	return err
}

// replay applies the records' operations to files, in order, and returns how many bytes they carry. It removes them from the records, where
// they would be in memory twice, except for those that shipped looks at.
func replay(data *memfs.FS, records []wal.Record) (int64, error) {
	size, err := segmentSize(data)
	if err != nil {
		return 0, err
	}
	bytes, last := int64(0), -1 // the last record that brought a piece of PostgreSQL's log
	for i := range records {
		r := &records[i]
		for _, op := range r.Ops {
			if err := apply(data, op, int64(size)); err != nil {
				return bytes, fmt.Errorf("replay record %d: %w", r.Seq, err)
			}
			bytes += int64(len(op.Data))
		}
		if shipped(records[i:i+1], size) == 0 {
			r.Ops = nil
			continue
		}
		if last >= 0 {
			records[last].Ops = nil
		}
		last = i
	}
	return bytes, nil
}

// setHooks connects the files to the log. Whichever process writes calls the hooks, under the cluster's lock.
func (m *logMode) setHooks(data *memfs.FS) {
	if size, err := segmentSize(data); err == nil { // otherwise PostgreSQL does not start
		m.capturing.size, m.appending.size = size, size
	}
	c := newWALShipper(data, m.captured)
	data.SetHooks(memfs.Hooks{
		Write: func(name string, off int64, p []byte) {
			m.e.countLog(name, off, p)
			m.cache.wrote(len(p))
			m.holdWriter()
			c.write(name, off, p)
		},
		Rename: c.rename,
		Unlink: c.unlink,
		Create: m.e.unlogged.created,
	})
}

// captured takes an operation that a process has just made. While PostgreSQL starts, nothing waits for what it writes: there are no
// clients, and another recovery would write it again.
func (m *logMode) captured(op wal.Op) {
	c := m.e.server.live.Load()
	var p *pglite.Process
	if c != nil {
		p = c.Current()
		m.sight.notice(c, m.log.lastAwaited())
	}
	unawaited := background(p)
	n := m.log.add(op, unawaited)
	if !unawaited {
		p.Note = n
	}
	if c != nil {
		if room := cmp.Or(m.log.full(), m.cache.full()); room != nil {
			m.holdWriters(c, room)
		}
		m.flusher.wrote(unawaited)
	}
	if op.Kind != wal.OpWrite { // ALTER SYSTEM: visible to others without a transaction
		m.sight.visible = n
	} else if last, ok := reaches(op.Path, op.Offset, op.Data); ok {
		m.written = last
		m.shown.Store(uint64(m.capturing.behind(last)))
	}
}

// holdWriter stops the process that has just written to a file until there is room in memory. It may be one that logs nothing, such as a
// reader that sets hint bits.
func (m *logMode) holdWriter() {
	room := m.cache.full()
	if room == nil {
		return
	}
	if c := m.e.server.live.Load(); c != nil {
		if p := c.Current(); !background(p) {
			p.Hold(room)
		}
	}
}

// holdWriters stops processes that write faster than the bucket takes, until room is closed. Which process writes to the file does not
// matter, as PostgreSQL's log buffers are shared; what counts is how much each has put there since the log was full. A process that writes
// little continues, unless so many of them write that memory runs short (severeBytes).
func (m *logMode) holdWriters(c *pglite.Cluster, room <-chan struct{}) {
	clients := slices.DeleteFunc(c.Processes(), background)
	if room != m.room {
		m.room, m.logged = room, map[*pglite.Process]uint64{}
		for _, p := range clients {
			m.logged[p] = p.Logged()
		}
	}
	for _, p := range clients {
		if p.Logged()-m.logged[p] > excessBytes {
			p.Hold(room)
		}
	}
	if p := c.Current(); m.log.pending() > severeBytes && !background(p) {
		p.Hold(room)
	}
}

// mark returns what an answer waits for. It is called under the cluster's lock.
func (m *logMode) mark(p *pglite.Process, inBlock bool) mark {
	if c := m.e.server.live.Load(); c != nil {
		m.sight.notice(c, m.log.lastAwaited())
	}
	m.toldCommit = max(m.toldCommit, p.Committed())
	return m.sight.answer(p, inBlock, m.o.Answers)
}

// started reports, under the cluster's lock, that PostgreSQL runs. After a crash everything in its files was recovered, including what no
// answer had waited for: from now on clients may see it.
func (m *logMode) started(c *pglite.Cluster, again bool) {
	m.born, m.toldCommit = c.Completions(), 0
	m.sight.completions = m.born
	if again {
		m.sight.visible = m.log.lastAdded()
	}
}

// reached is the end of what was captured of PostgreSQL's log, which its recovery must reach. No process runs.
func (m *logMode) reached() []wal.Record { return []wal.Record{{Ops: []wal.Op{m.written}}} }

// mayServe renews an expired lease before anything is served, and in the background one that will soon expire.
func (m *logMode) mayServe(ctx context.Context) error {
	m.cache.statement()
	if err := m.opened.Lease.Ensure(ctx); err != nil {
		return err
	}
	if !m.opened.Lease.Fresh() && m.renewing.CompareAndSwap(false, true) {
		m.background.Go(func() {
			defer m.renewing.Store(false)
			if err := m.opened.Lease.Renew(m.ctx); err != nil {
				m.o.Logger.Warn("the lease could not be renewed", "error", err)
			}
		})
	}
	return nil
}

func (m *logMode) idle() bool { return m.log.allDurable() }

func (m *logMode) last() CommitStats { return CommitStats{} }

// force waits for everything.
func (m *logMode) force(ctx context.Context) (CommitStats, error) {
	at := m.o.Clock.Monotonic()
	err := m.flushed(ctx)
	bytes := m.log.pending()
	if err == nil {
		err = m.log.flush(ctx, m.log.lastAdded())
	}
	return CommitStats{Wall: m.o.Clock.Monotonic() - at, RawBytes: int64(bytes)}, err
}

// flushed makes PostgreSQL write out buffered log of commits with synchronous_commit=off. It does nothing if no transaction has ended since
// PostgreSQL started.
func (m *logMode) flushed(ctx context.Context) error {
	if !m.changed() {
		return nil
	}
	return m.e.checkpoint(ctx)
}

// changed says whether transactions have ended since PostgreSQL started. Another recovery would write again everything else it has written.
func (m *logMode) changed() bool {
	changed := true
	_ = m.e.server.locked(func(c *pglite.Cluster) { changed = c.Completions() != m.born })
	return changed
}

// leastUnwritten is the least distance, in bytes, between the end of what was written and the end of a commit's record that was not: the
// record has 34 bytes, or its rest follows a page header of 24. A smaller difference is the zeros at the end of a record, which look like
// nothing.
const leastUnwritten = 32

// lastCommit is the end position of the last commit that an orderly end keeps, even if it is still in PostgreSQL's buffers.
func (m *logMode) lastCommit() (last uint64) {
	_ = m.e.server.locked(func(c *pglite.Cluster) {
		last = m.toldCommit
		for _, p := range c.Processes() { // a procedure that commits has not answered yet
			last = max(last, p.Committed())
		}
	})
	return last
}

// lastLooks bounds how often an orderly end looks for commits made while it flushed. It does not wait for a statement that keeps writing.
const lastLooks = 8

// leaveLease is how long an engine that failed or was abandoned tries to release its lease.
const leaveLease = 2 * time.Second

// close flushes, ends all background work and releases the lease. Then it takes a layer that was put off, and collects if it is this
// engine's turn (tidy). With abandon it neither flushes nor takes a layer.
func (m *logMode) close(ctx context.Context, abandon bool) error {
	var err error
	var layer func(context.Context)
	if !abandon {
		layer, err = m.finish(ctx)
	}
	m.stop()
	m.log.close()
	m.background.Wait()
	m.layers.Wait()
	switch {
	case !abandon:
		err = errors.Join(err, m.opened.Lease.Release(ctx))
	case !errors.Is(m.e.Err(), ErrFenced): // so that the next writer need not wait; safety does not depend on the lease
		bounded, cancel := clock.WithTimeout(ctx, m.o.Clock, leaveLease)
		defer cancel()
		if left := m.opened.Lease.Release(bounded); left != nil {
			m.o.Logger.Warn("the lease could not be released: other processes wait until it expires", "error", left)
		}
	}
	if !abandon && err == nil {
		bounded, cancel := clock.WithTimeout(ctx, m.o.Clock, finalLayerLimit)
		defer cancel()
		if layer != nil {
			layer(bounded)
		}
		m.tidy(bounded)
	}
	return err
}

// finish makes everything durable that an orderly end keeps, and cuts the final layer.
func (m *logMode) finish(ctx context.Context) (layer func(context.Context), err error) {
	runs := true // false: PostgreSQL was ended, or has crashed, so it writes nothing more
	if _, err := m.e.server.running(); err != nil || m.e.halted.Load() {
		runs = false
	}
	// Statements that were already running may commit during this, and their answers wait for that: so look again. No new ones begin.
	for range lastLooks {
		last := m.lastCommit()
		if runs && last >= m.shown.Load()+leastUnwritten { // committed with synchronous_commit=off, and still in buffers
			if err := m.flushed(ctx); err != nil {
				return nil, err
			}
		}
		// The next recovery does not need what PostgreSQL wrote on its own after the last commit, so it is not worth a request.
		if runs && m.log.isDurable(m.log.lastAwaited()) && last <= m.durable.Load() {
			break
		}
		if err := m.log.flush(ctx, m.log.lastAdded()); err != nil {
			return nil, err
		}
	}
	if !runs {
		return nil, nil
	}
	return m.finalLayer(ctx), nil
}

// append makes operations durable as one record, and starts a layer if one is then due.
func (m *logMode) append(ctx context.Context, ops []wal.Op) (wal.Position, error) {
	began := m.o.Clock.Monotonic()
	at, err := m.opened.Log.Append(ctx, ops)
	if err == nil {
		took, bytes := m.o.Clock.Monotonic()-began, int64(0)
		for _, op := range ops {
			bytes += int64(len(op.Data))
		}
		m.budget.appended(bytes, took)
		if to := m.appending.last(ops); to > 0 {
			m.durable.Store(uint64(to))
		}
		m.consider()
		if m.o.Durable != nil {
			m.o.Durable()
		}
	}
	return at, err
}

// LogStats returns what the engine has appended to the log since it was opened; zero in mode snapshot.
func (e *Engine) LogStats() LogStats {
	if m, ok := e.commits.(*logMode); ok {
		return m.log.counts()
	}
	return LogStats{}
}

// Confirm renews an expired lease, as the first bytes of a client do. If another writer has taken the database meanwhile, the engine is
// poisoned before a client relies on it. While the lease is held it sends nothing. Errors: ErrFenced, ErrPoisoned, the context's, the store's.
func (e *Engine) Confirm(ctx context.Context) error {
	m, ok := e.commits.(*logMode)
	if !ok || e.serves() != nil { // whoever connects is told
		return nil
	}
	err := m.opened.Lease.Ensure(ctx)
	if errors.Is(err, lease.ErrLost) {
		return e.fail(err)
	}
	return err
}

// Leased says whether the lease is held now, by this process's own clock. It expires while the database is idle, and the next request
// renews it. False in mode snapshot, which has no lease.
func (e *Engine) Leased() bool {
	m, ok := e.commits.(*logMode)
	return ok && m.opened.Lease.Valid()
}
