package pglite

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/tetratelabs/wazero/api"

	"blobpglite/core/clock"
	"blobpglite/core/point"
)

// Kinds of processes, named as in pg_stat_activity.
const (
	KindClient     = "client backend"
	KindLauncher   = "autovacuum launcher"
	KindWorker     = "autovacuum worker"
	KindCheckpoint = "checkpointer"
	KindStartup    = "startup"
	KindWalWriter  = "walwriter"
)

// backendTypes returns the numbers of the kinds (BackendType of miscadmin.h), and their main functions.
func backendTypes() map[string]backendType {
	return map[string]backendType{
		KindClient:     {1, "BackendMain"},
		KindLauncher:   {3, "AutoVacLauncherMain"},
		KindWorker:     {4, "AutoVacWorkerMain"},
		KindCheckpoint: {11, "CheckpointerMain"},
		KindStartup:    {13, "StartupProcessMain"},
		KindWalWriter:  {16, "WalWriterMain"},
	}
}

type backendType struct {
	number uint32
	main   string
}

// Process is one process of a cluster's PostgreSQL: an instance of its own, on a goroutine of its own, that shares PostgreSQL's shared
// memory and the files with the others.
type Process struct {
	// Note is free for use by ClusterOptions.Mark and the files' hooks. The lock guards it.
	Note uint64

	hold <-chan struct{} // see Hold; nil: it may run. Under the lock

	c    *Cluster
	in   *Instance
	pid  uint32
	kind string
	slot int // in PostgreSQL's table of the postmaster's children

	queued    atomic.Bool   // waits for the lock
	pending   atomic.Uint32 // signals, one bit each
	wake      chan struct{}
	inHandler bool
	cut       bool // the host ended one of its reads because of a signal; under the lock
	reporting bool // about to report that signal

	interruptWord *uint32 // PostgreSQL's InterruptPending
	beats         int     // interruptions since it got the lock; under the lock
	alarm         alarm
	conn          *Conn // to its client; nil: none
	turns         turns

	lastLSN uint64 // where recovery ended, for the startup process
	code    uint32 // exit code
	err     error  // set if it did not end by itself
	done    chan struct{}
}

// PID returns the number that pg_stat_activity shows.
func (p *Process) PID() uint32 { return p.pid }

// Kind returns what pg_stat_activity calls backend_type.
func (p *Process) Kind() string { return p.kind }

// Logged returns how many bytes of PostgreSQL's log the process has generated, written or not. Call it with the lock.
func (p *Process) Logged() uint64 {
	const walBytes = 16 // of WalUsage (executor/instrument.h)
	return p.in.mem.u64(uint32(p.c.rt.main.consts["pgWalUsage"]) + walBytes)
}

// Committed returns where the process's last commit ends in PostgreSQL's log, written or not. Call it with the lock.
func (p *Process) Committed() uint64 {
	return p.in.mem.u64(p.c.rt.places.layout.Addresses["XactLastCommitEnd"])
}

// inOrder reports whether a process with this exit code leaves the others running; any other code is a crash.
func inOrder(code uint32) bool { return code == 0 || code == 1 }

// body runs in a new process, and returns how the process exited.
type body func(p *Process) (exited bool, code uint32, err error)

// spawn makes a process where a postmaster would fork, and starts it.
func (c *Cluster) spawn(kind string, conn *Conn, run body) (*Process, error) {
	if err := c.addRunning(); err != nil {
		return nil, err
	}
	defer c.running.Done()
	began := c.o.Clock.Monotonic()
	p, err := c.clone(kind)
	if err != nil {
		return nil, fmt.Errorf("start a process (%s): %w", kind, err)
	}
	p.conn = conn
	if conn != nil {
		conn.p = p
	}
	c.stats.spawns.Add(1)
	c.stats.spawnTime.Add(int64(c.o.Clock.Monotonic() - began))
	c.running.Go(func() { p.loop(run) })
	return p, nil
}

// clone makes a process from the image. It does not run yet.
func (c *Cluster) clone(kind string) (*Process, error) {
	p := &Process{c: c, kind: kind, wake: make(chan struct{}, 1), done: make(chan struct{})}
	p.turns.news = make(chan struct{}, 1)
	fs := c.files.sibling(c.o.Random)
	standardFiles(fs, p.line)
	o := c.o.instance()
	if kind != KindClient { // clients are stopped before the directory grows that large
		o.dataLimit = 0
	}
	in, err := c.rt.newInstance(c.rt.main, fs, o, c.image.memory.size)
	if err != nil {
		return nil, err
	}
	in.cluster, in.proc, p.in = c, p, in
	if err := c.image.restore(in); err != nil {
		in.release()
		return nil, err
	}
	p.alarm = alarm{clock: o.clock, ring: func() { p.signal(sigALRM) }}
	p.interruptWord = in.word(uint32(c.rt.main.consts["InterruptPending"]))
	if err := c.enlist(p); err != nil { // from here on other processes can signal it
		in.release()
		return nil, err
	}
	p.begin(fs)
	return p, nil
}

// begin turns the clone into a child of the postmaster.
func (p *Process) begin(fs *files) {
	m, at := p.in.mem, p.c.rt.places
	m.putU8(at.IsUnderPostmaster, 1)
	m.putU8(at.IsPostmasterEnvironment, 1)
	m.putU32(at.PostmasterPid, postmasterPid)
	m.putU32(at.MyProcPid, p.pid)
	m.putU32(at.PGliteActive, 0)
	m.putU8(at.SendReadyForQuery, 1) // PGlite's PostgresMain leaves this to its host
	m.putU32(at.BeforeShmemExit, 0)
	m.putU32(at.OnShmemExit, 0)
	m.putU32(at.OnProcExit, 0)
	m.putU32(at.MyPMChildSlot, uint32(p.slot))
	m.putU64(at.PgStartTime, uint64(p.c.began.Sub(timestampEpoch).Microseconds()))
	// The pipe from the postmaster, which is alive. The image's own latches have the lowest numbers, and a process starts by closing those.
	never, _ := fs.addFrom(&openFile{dev: neverDevice{}}, fs.lowest+inheritedFiles)
	m.putU32(at.PostmasterAliveFds, uint32(never))
}

// inheritedFiles is more than the image has open.
const inheritedFiles = 16

// neverDevice is never ready.
type neverDevice struct{ nullDevice }

func (neverDevice) read([]byte) (int, errno) { return 0, eAGAIN }
func (neverDevice) ready() (bool, bool)      { return false, false }

// auxiliary is the body of a process without a client.
func auxiliary(p *Process) (exited bool, code uint32, err error) {
	_, exited, code, err = p.in.enterGuest(p.in.internal(backendTypes()[p.kind].main), 0, 0)
	if p.kind == KindStartup && err == nil && exited && code == 0 {
		err = p.in.guard(func() { p.lastLSN = p.in.call(p.in.fn.replayed, 0) }) // shared memory has it
	}
	return exited, code, err
}

// run runs a process from start to end.
func (p *Process) run(run body) {
	c, in := p.c, p.in
	c.lock.lock(p)
	exited, code, err := false, uint32(0), error(nil)
	if in.wasKilled() {
		err = errKilled
	} else {
		err = c.o.Hook.Fire(c.ctx, point.ProcessBeforeStart)
	}
	if err == nil {
		_, exited, code, err = in.enterGuest(in.internal("InitStandaloneProcess"), 0)
		if err == nil && exited {
			err = fmt.Errorf("it could not begin: exit code %d", code)
		}
	}
	if err == nil {
		in.mem.putU32(c.rt.places.MyBackendType, backendTypes()[p.kind].number)
		exited, code, err = run(p)
	}
	if err == nil && !exited {
		err = errors.New("its main function returned")
	}
	p.end(code, err)
}

// end removes a process that has ended. It has the lock, and gives it up.
func (p *Process) end(code uint32, err error) {
	c, in := p.c, p.in
	p.alarm.stop()
	if p.conn != nil {
		p.conn.flush(p)
	}
	for fd := range in.files.fds {
		in.files.close(uint32(fd))
	}
	c.shm.leave(in)
	err = errors.Join(err, c.o.Hook.Fire(c.ctx, point.ProcessAfterExit))
	if err == nil && !inOrder(code) {
		err = fmt.Errorf("exit code %d", code)
	}
	if err == nil && p.kind == KindStartup && c.o.Standby && !c.isStopping() {
		err = fmt.Errorf("a standby's recovery has ended: exit code %d", code)
	}
	p.code, p.err = code, err
	if err != nil {
		c.crash(fmt.Errorf("process %d (%s) failed: %w", p.pid, p.kind, err))
	}
	c.discharge(p)
	c.lock.unlock()
	c.lock.beat.quiesce()
	in.release()
	if p.conn != nil {
		p.conn.ended()
	}
	close(p.done)
}

// restore gives a new instance the image's content.
func (img *forkImage) restore(in *Instance) error {
	for k, v := range img.mainSlots {
		in.mainSlots[k] = v
	}
	for k, v := range img.handles {
		in.handles[k] = v
	}
	err := in.guard(func() {
		for _, lib := range img.libraries {
			if err := in.reload(lib); err != nil {
				in.trapf("load %s again: %w", lib.Name, err)
			}
		}
	})
	if err != nil {
		return err
	}
	if err := img.memory.restore(in.linear.region); err != nil {
		return err
	}
	for _, s := range img.shared {
		if err := s.attach(in.linear.region); err != nil {
			return err
		}
	}
	for i, name := range in.program.globals {
		in.module.ExportedGlobal(name).(api.MutableGlobal).Set(img.globals[i])
	}
	state := in.mem.bytes(uint32(in.rt.main.consts["pg_global_prng_state"]), prngState)
	if _, err := io.ReadFull(in.random, state); err != nil {
		return fmt.Errorf("seed the random numbers: %w", err)
	}
	return nil
}

// prngState is the size of PostgreSQL's random number state, which clones would otherwise share.
const prngState = 16

// alarm is setitimer.
type alarm struct {
	clock clock.Clock
	ring  func()
	quit  func()
}

// reload puts a library back in its place; its data and the effects of its constructors come with the memory.
func (in *Instance) reload(lib *library) error {
	side, err := in.rt.prepareSide(lib.Name, lib.File)
	if err != nil {
		return err
	}
	at := in.growTable(side.meta.Dylink.TableSize)
	slots := in.growTable(uint32(len(lib.Slots)))
	if at != lib.TableBase || slots != lib.SlotBase {
		return fmt.Errorf("its table entries are at %d and %d, they were at %d and %d", at, slots, lib.TableBase, lib.SlotBase)
	}
	if _, err := in.instantiateSide(lib, side); err != nil {
		return err
	}
	in.remember(lib)
	return nil
}
