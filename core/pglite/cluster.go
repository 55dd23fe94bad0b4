package pglite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/memfs"
	"blobpglite/core/point"
)

// ClusterOptions configures a cluster.
type ClusterOptions struct {
	// Data is the data directory; the cluster owns it from now on.
	Data *memfs.FS
	// MemoryLimit bounds the linear memory of each process, in bytes: queries that need more fail with SQLSTATE 53200. Zero or above 2 GiB
	// means 2 GiB. Below 128 MiB PostgreSQL does not start.
	MemoryLimit int64
	// DataLimit bounds the data directory, in bytes: statements that need more fail with SQLSTATE 53100. The log may exceed it by what was
	// written since the last checkpoint. Zero: no limit.
	DataLimit int64
	// Temporary says where the temporary files of queries are kept.
	Temporary Temporary
	// Settings are server parameters in addition to the host's own, as on the postgres command line.
	Settings map[string]string
	// Prefetch is how many pages recovery, maintenance and bitmap scans may request ahead, unless maintenance_io_concurrency or
	// effective_io_concurrency is set: PostgreSQL's default of 16 is meant for disks, and a bucket takes some 40 ms to answer. Zero:
	// PostgreSQL's default.
	Prefetch int
	// MaxClients is the maximum number of concurrent clients, not counting superusers and the host itself, if Settings has no
	// max_connections. Zero: 100.
	MaxClients int
	// Rules replace pg_hba.conf, in its format, as long as that file is as initdb wrote it. Empty: initdb's rules, which let in every
	// client on this machine (trust).
	Rules string
	// Mark is called, under the lock, whenever a client's process passes answers on; its result travels with them (Answer). inBlock: they
	// concern only an open transaction block, which may still fail. Nil: zero.
	Mark func(p *Process, inBlock bool) uint64
	// Position returns what blobpglite.position shows, unless the session itself has committed beyond it: a place in the log that covers
	// everything in this server's answers. Await waits until the server has reached a position (SET blobpglite.wait_for); its error becomes
	// the statement's. Nil: nothing is shown, and nothing waits.
	Position func() uint64
	Await    func(ctx context.Context, position uint64) error
	// Source fetches the chunks of Data that are away. A process that needs some waits without the cluster's lock. An error of the source
	// is an I/O error of the statement (SQLSTATE 58030). In a critical section it is an error of PostgreSQL, which ends all processes, so
	// keep the files that it reads there, which are small, in memory (see KeepResident). Nil: reading anything that is away is such an
	// error.
	Source memfs.Source
	// Standby makes PostgreSQL a hot standby: it recovers indefinitely, from what its host writes to the files of pg_wal (Wake); all
	// transactions are read-only, and nothing is written to the log. It accepts clients as soon as its files are consistent.
	Standby bool
	// Clock is the guest's clock; nil: the system's.
	Clock clock.Clock
	// Random is the guest's source of randomness; nil: the operating system's.
	Random io.Reader
	// Log is called with each line of the server log. Nil: it is dropped.
	Log func(line string)
	// Hook is called at the points process/...; nil: not called. An error makes the process at that point fail, so PostgreSQL crashes.
	Hook point.Hook
}

// Cluster is a running PostgreSQL: one process per client, and background processes. The host is their postmaster and kernel. It is safe
// for concurrent use, except for methods whose docs require the lock.
type Cluster struct {
	rt    *Runtime
	o     ClusterOptions
	files *files // the files each process starts with
	lock  hostLock
	image *forkImage    // under the lock
	once  sync.Once     // of hot
	hot   chan struct{} // closed when a standby takes clients
	began time.Time
	shm   sharedFiles

	diskWaits atomic.Bool // see onDisk

	mu       sync.Mutex // guards the fields below
	procs    map[uint32]*Process
	slots    []bool // taken; the first is never used
	nextPID  uint32
	err      error // why the cluster has ended or is ending
	stopping bool  // orderly shutdown: processes that end are not started again
	named    map[string]*Process

	checkpoints waiters
	recovery    waiters      // see Following
	fetching    atomic.Int32 // processes that wait for bytes that are away
	replayed    uint64
	leftOut     []string
	stats       clusterCounts
	ctx         context.Context // of work that lives as long as the cluster
	running     sync.WaitGroup  // goroutines of processes
	stop        chan struct{}   // closed with err
	done        chan struct{}
}

// timestampEpoch is the time from which PostgreSQL counts microseconds.
var timestampEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// postmasterPid is the host's own ID among the processes.
const postmasterPid = 1

// firstPid is the first process's ID; only PostgreSQL sees these IDs.
const firstPid = 1001

const exitForked = 77 // the postmaster's own instance stops here

// StartCluster starts PostgreSQL on a data directory; after a crash it recovers first. When StartCluster returns, the cluster accepts
// clients. ALTER SYSTEM settings that prevent a start are left out, see Cluster.LeftOut. An error of PostgreSQL itself quotes the last
// lines of its log.
func (rt *Runtime) StartCluster(ctx context.Context, o ClusterOptions) (*Cluster, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Data == nil {
		return nil, errors.New("start PostgreSQL: no data directory given")
	}
	if err := CheckSettings(o.Settings); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	o.fill()
	if err := o.bringFiles(ctx); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	tellIgnored(o.Data, o.Log)
	if o.Standby {
		if err := o.makeStandby(); err != nil {
			return nil, fmt.Errorf("start PostgreSQL: make it a standby: %w", err)
		}
	}
	c, err := rt.tryCluster(ctx, trial{o: o})
	for o.Standby && err != nil && ctx.Err() == nil && o.raise(err) {
		c, err = rt.tryCluster(ctx, trial{o: o})
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, errNotStarted) {
		c, err = rt.again(ctx, o, err)
	}
	if err == nil {
		sayOverridden(o.Data, o.settings(), o.Log)
	}
	return c, err
}

func (o *ClusterOptions) fill() {
	if o.Clock == nil {
		o.Clock = clock.System()
	}
	if o.Random == nil {
		o.Random = defaultRandom
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if o.Mark == nil {
		o.Mark = func(*Process, bool) uint64 { return 0 }
	}
	if o.MaxClients == 0 {
		o.MaxClients = defaultClients
	}
}

// defaultClients is PostgreSQL's default max_connections. hostSessions is the number of the host's own sessions, beyond the clients';
// reserved is the number reserved for superusers (superuser_reserved_connections).
const (
	defaultClients = 100
	hostSessions   = 8
	reserved       = 3
)

// naptime is how often autovacuum looks into a database by default: PostgreSQL's own default, a minute, is longer than many servers here
// live.
const naptimeSetting, naptime = "autovacuum_naptime", "5s"

// prefetchSettings are the settings that ClusterOptions.Prefetch sets.
var prefetchSettings = []string{"maintenance_io_concurrency", "effective_io_concurrency"}

// settings returns the settings PostgreSQL is started with.
func (o *ClusterOptions) settings() map[string]string {
	all := map[string]string{"max_connections": strconv.Itoa(o.MaxClients + reserved + hostSessions)}
	all[naptimeSetting] = naptime
	if o.Prefetch > 0 {
		for _, name := range prefetchSettings {
			all[name] = strconv.Itoa(o.Prefetch)
		}
	}
	maps.Copy(all, HostSettings())
	// These give way to ALTER SYSTEM: on the command line they would take precedence.
	for _, name := range append(prefetchSettings, naptimeSetting, "work_mem") {
		if o.Data != nil && inConf(o.Data, name) { // during preparation there is no data yet
			delete(all, name)
		}
	}
	maps.Copy(all, o.Settings)
	if o.Standby {
		maps.Copy(all, standbySettings())
	}
	return all
}

// instance returns the options of a process's instance.
func (o *ClusterOptions) instance() instanceOptions {
	return instanceOptions{memoryLimit: o.MemoryLimit, dataLimit: o.DataLimit, clock: o.Clock, random: o.Random, log: o.Log}
}

// tryCluster starts PostgreSQL in one way. What it writes to files before it fails remains for the next try, as after a crash.
func (rt *Runtime) tryCluster(ctx context.Context, t trial) (*Cluster, error) {
	o := t.o
	tail := &logTail{next: o.Log}
	dropSlots(o.Data, o.Log)
	var c *Cluster
	var err error
	if t.conf == nil {
		c = rt.adopt(ctx, o, tail.line)
	}
	if c == nil {
		told := o
		told.Log = tail.line
		if c, err = rt.newCluster(ctx, told, t.conf); err != nil {
			return nil, err
		}
		err = c.main(ctx)
	}
	c.keepTemporary()
	if err == nil && o.Standby {
		err = c.bootStandby(ctx)
	} else if err == nil {
		err = c.boot(ctx)
	}
	if err != nil {
		c.Kill()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("start PostgreSQL: %w%s", err, tail.text())
	}
	return c, nil
}

// newCluster returns a cluster in which nothing runs yet. Files in conf are read instead of the data directory's.
func (rt *Runtime) newCluster(ctx context.Context, o ClusterOptions, conf *memfs.FS) (*Cluster, error) {
	fs := newFiles(rt.installed(), o.Data, o.Random)
	standardFiles(fs, o.Log)
	fs.replaced = conf
	c := &Cluster{
		rt: rt, o: o, files: fs, procs: map[uint32]*Process{}, named: map[string]*Process{}, nextPID: firstPid,
		stop: make(chan struct{}), done: make(chan struct{}), hot: make(chan struct{}), ctx: context.WithoutCancel(ctx), began: o.Clock.Now(),
	}
	c.lock.clock = o.Clock
	var err error
	if c.lock.beat, err = newBeat(sliceTime); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotStarted, err)
	}
	return c, nil
}

// main runs PostgreSQL's main up to the point where its postmaster would first fork, and takes the image.
func (c *Cluster) main(ctx context.Context) error {
	o := c.o.instance()
	o.imaged = true
	in, err := c.rt.newInstance(c.rt.main, c.files, o, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotStarted, err)
	}
	defer in.release()
	in.cluster = c
	c.lock.lock(nil)
	defer c.lock.unlock()
	if err = in.prepare(); err == nil {
		_, _, _, err = in.enterGuest(in.fn.setActive, 1)
	}
	var code uint32
	if err == nil {
		code, err = in.main(commandLine(c.o.settings(), ""))
	}
	if err == nil && code != exitForked {
		err = fmt.Errorf("PostgreSQL ended with exit code %d", code)
	}
	if err == nil && c.image == nil {
		err = errors.New("PostgreSQL did not reach the point at which it starts processes")
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	c.shm.leave(in)
	c.slots = make([]bool, c.image.children+1)
	return nil
}

// boot starts the background processes; recovery ends before it returns.
func (c *Cluster) boot(ctx context.Context) error {
	if _, err := c.start(KindCheckpoint); err != nil {
		return err
	}
	startup, err := c.start(KindStartup)
	if err != nil {
		return err
	}
	select {
	case <-startup.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if startup.err != nil || startup.code != 0 {
		if err := c.Err(); err != nil {
			return err
		}
		return fmt.Errorf("recovery failed: exit code %d", startup.code)
	}
	c.replayed = startup.lastLSN
	c.files.replaced = nil
	if _, err := c.start(KindWalWriter); err != nil {
		return err
	}
	if set := c.turnsAway(); set != "" || len(readConf(c.files.data)) > 0 {
		if err := c.probe(ctx); err != nil {
			return fmt.Errorf("%s%w", set, err)
		}
	}
	c.later(c.launchLate)
	return nil
}

// launcherDelay is how long after the start autovacuum begins, to not delay the first clients.
const launcherDelay = time.Second

// launchLate starts the autovacuum launcher, if enabled, a moment after the start.
func (c *Cluster) launchLate() {
	t := c.o.Clock.NewTimer(launcherDelay)
	defer t.Stop()
	select {
	case <-t.C():
	case <-c.stop:
		return
	}
	wanted := false
	c.Locked(func() { wanted = c.image.autovacuum })
	if wanted && c.process(KindLauncher) == nil {
		c.warn(c.start(KindLauncher))
	}
}

// start starts a process without a client, and registers it by its kind.
func (c *Cluster) start(kind string) (*Process, error) { return c.spawn(kind, nil, auxiliary) }

// addRunning keeps the cluster's resources until the caller calls running.Done. Errors: ErrDead.
func (c *Cluster) addRunning() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return fmt.Errorf("%w: %w", ErrDead, c.err)
	}
	c.running.Add(1)
	return nil
}

// enlist gives a process its ID and slot.
func (c *Cluster) enlist(p *Process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return fmt.Errorf("%w: %w", ErrDead, c.err)
	}
	slot := slices.Index(c.slots[1:], false) + 1
	if slot == 0 {
		return ErrTooManyProcesses
	}
	c.slots[slot] = true
	p.slot, p.pid = slot, c.nextPID
	c.nextPID++
	c.procs[p.pid] = p
	if p.kind != KindClient && p.kind != KindWorker {
		c.named[p.kind] = p
	}
	return nil
}

// ErrTooManyProcesses: the cluster has no slot for another process. That limit is far above max_connections. Try again later.
var ErrTooManyProcesses = errors.New("too many processes")

// discharge takes a process off the list, and does what a postmaster does when a child has ended.
func (c *Cluster) discharge(p *Process) {
	c.mu.Lock()
	delete(c.procs, p.pid)
	c.slots[p.slot] = false
	if c.named[p.kind] == p {
		delete(c.named, p.kind)
	}
	again := c.err == nil && !c.stopping
	launcher := c.named[KindLauncher]
	c.mu.Unlock()
	switch {
	case !again:
	case p.kind == KindWorker && launcher != nil:
		launcher.signal(sigUSR2)
	case p.kind == KindWalWriter, p.kind == KindLauncher && c.image.autovacuum:
		c.later(func() { c.warn(c.start(p.kind)) })
	}
	c.checkpoints.wake()
}

// later runs f on a goroutine of its own: f takes the lock, which the caller holds now.
func (c *Cluster) later(f func()) {
	if c.addRunning() == nil {
		go func() {
			defer c.running.Done()
			f()
		}()
	}
}

// warn logs that a process could not be started.
func (c *Cluster) warn(_ *Process, err error) {
	if err != nil && !errors.Is(err, ErrDead) {
		c.o.Log("WARNING:  " + err.Error())
	}
}

// process returns the process of a kind; nil if there is none.
func (c *Cluster) process(kind string) *Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.named[kind]
}

// Processes returns the current processes.
func (c *Cluster) Processes() []*Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Collect(maps.Values(c.procs))
}

// crash ends all processes because one failed, which may have damaged shared memory. It may be called under the lock.
func (c *Cluster) crash(err error) {
	if c.finish(err) {
		c.o.Log("LOG:  " + err.Error() + "; all processes are ended")
	}
}

// finish ends everything immediately; the first reason counts.
func (c *Cluster) finish(err error) (first bool) {
	c.mu.Lock()
	first = c.err == nil
	if first {
		c.err = err
		close(c.stop)
	}
	c.mu.Unlock()
	if !first {
		return false
	}
	for _, p := range c.Processes() {
		p.kill()
	}
	go func() {
		c.running.Wait()
		c.lock.lock(nil)
		c.shm.close()
		c.lock.retire()
		c.lock.unlock()
		close(c.done)
	}()
	return true
}

// Kill ends all processes immediately, like kill -9: nothing is flushed. It returns when nothing runs any more.
func (c *Cluster) Kill() {
	c.finish(errKilled)
	<-c.done
}

// Shutdown ends PostgreSQL in an orderly way: no new processes start, clients get 57P01, a checkpoint is written. If ctx ends first, it
// kills what still runs and returns ctx's error. Either way nothing runs any more when it returns.
func (c *Cluster) Shutdown(ctx context.Context) error {
	defer c.Kill()
	c.mu.Lock()
	c.stopping = true
	c.mu.Unlock()
	for _, p := range c.Processes() {
		if p.kind != KindCheckpoint {
			p.signal(sigTERM)
		}
	}
	for _, p := range c.Processes() {
		if p.kind == KindCheckpoint {
			continue
		}
		if err := c.await(ctx, p); err != nil {
			return err
		}
	}
	p := c.process(KindCheckpoint)
	if p == nil {
		return c.Err()
	}
	p.signal(sigINT)  // the checkpoint
	p.signal(sigUSR2) // the end
	if err := c.await(ctx, p); err != nil {
		return err
	}
	if p.err != nil || p.code != 0 {
		return fmt.Errorf("shut down: the checkpointer failed: exit code %d: %w", p.code, errors.Join(p.err, c.Err()))
	}
	return nil
}

func (c *Cluster) isStopping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopping
}

// await waits for a process to end.
func (c *Cluster) await(ctx context.Context, p *Process) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Done returns a channel that is closed when the cluster has ended and nothing of it runs any more: after Kill, Shutdown, or because a
// process failed.
func (c *Cluster) Done() <-chan struct{} { return c.done }

// Err returns why the cluster has ended, or is ending; nil while it runs. It wraps ErrDead.
func (c *Cluster) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrDead, c.err)
}

// Data returns the data directory. While the cluster runs, use it only with the lock: in Locked, or in a hook.
func (c *Cluster) Data() *memfs.FS { return c.files.data }

// Locked runs f while no process runs. f must not call methods of the cluster that take the lock or wait.
func (c *Cluster) Locked(f func()) {
	c.lock.lock(nil)
	defer c.lock.unlock()
	f()
}

// Current returns the process that has the lock, for hooks of the files, which are called under it. Nil: the host has it, or PostgreSQL's
// main before there are processes.
func (c *Cluster) Current() *Process { return c.lock.current.Load() }

// Replayed returns how far the recovery at the start got: the place in PostgreSQL's log after the last record replayed, or after its
// checkpoint. Zero: there was no recovery, because it had been shut down.
func (c *Cluster) Replayed() uint64 { return c.replayed }

// LeftOut returns the parameters whose values, from ALTER SYSTEM or the command line, kept PostgreSQL from starting.
func (c *Cluster) LeftOut() []string { return c.leftOut }

// TransactionAge returns how many transaction IDs were assigned since the oldest one that a table of some database may still hold. Near
// 2^31 PostgreSQL assigns no more.
func (c *Cluster) TransactionAge() (age uint32) {
	c.Locked(func() {
		if t := c.transactions(); t != nil {
			age = binary.LittleEndian.Uint32(t[nextTransactionAt:]) - binary.LittleEndian.Uint32(t[oldestTransactionAt:])
		}
	})
	return age
}
