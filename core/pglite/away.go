package pglite

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"

	"blobpglite/core/memfs"
	"blobpglite/core/pgdata"
)

// A file's bytes may be away (see package memfs). A process waits for them as for a disk, but without the cluster's lock, so all others
// run. Unlike with a disk, a canceled statement does not wait for a fetch that hangs.
//
// PostgreSQL acts on a cancel where it checks for interrupts, which it does not do during a read. EINTR would not help: fd.c and aio_io.c
// either retry the read immediately or take it for a disk failure. So the read fails with EIO, which PostgreSQL turns into an error of the
// statement. Just before PostgreSQL reports that error (CallError), the host makes it check for interrupts, so the client gets 57014, or
// whatever the interrupt is. The host does that only if PostgreSQL could have handled an interrupt just before the read: never while it
// holds a lightweight lock, nor in a critical section, where an error would end all processes.
// lightweight lock, nor within a critical section, in which an error would end all processes.

// fetched is the result of a Source's Fetch.
type fetched struct {
	chunks []memfs.Fetched
	err    error
}

// bring waits until nothing that an operation on a file needs is away. The operation must follow immediately.
func (in *Instance) bring(o *openFile, needs func() []memfs.Away) errno {
	if o.file == nil || !o.file.Partial() {
		return eOK
	}
	for {
		missing := needs()
		if len(missing) == 0 {
			return eOK
		}
		got, err := in.fetch(o, missing)
		switch {
		case err == nil:
			o.file.Fill(missing, got)
		case errors.Is(err, errInterrupted):
			return eIO
		case !slices.Equal(needs(), missing): // their segment is gone: a newer layer has them elsewhere
		default:
			in.say("LOG:  could not fetch " + o.file.Path() + ": " + err.Error()) // PostgreSQL gets only a number
			return eIO
		}
	}
}

// bringRead is bring for a read of n bytes at off.
func (in *Instance) bringRead(o *openFile, off, n int64) errno {
	if o.file == nil || !o.file.Partial() {
		return eOK
	}
	in.runAhead(o, off, n)
	return in.bring(o, func() []memfs.Away { return o.file.Missing(off, n) })
}

// bringWrite is bring for a write.
func (in *Instance) bringWrite(o *openFile, off, n int64) errno {
	return in.bring(o, func() []memfs.Away { return o.file.MissingWrite(off, n) })
}

// bringTruncate is bring for a truncation.
func (in *Instance) bringTruncate(o *openFile, size int64) errno {
	return in.bring(o, func() []memfs.Away { return o.file.MissingTruncate(size) })
}

// source returns the source of chunks that are away; nil if there is none.
func (in *Instance) source() memfs.Source {
	if in.cluster == nil {
		return nil
	}
	return in.cluster.o.Source
}

// fetch fetches chunks. If the source has them in memory, it keeps the lock. Otherwise a process gives the lock up; an instance that is not
// a process of the cluster keeps it, and all others wait.
func (in *Instance) fetch(o *openFile, missing []memfs.Away) ([]memfs.Fetched, error) {
	if got, ok := memfs.Have(in.source(), missing); ok {
		return got, nil
	}
	if in.proc != nil {
		return in.proc.fetch(o, missing)
	}
	ctx, cancel := in.cluster.untilStop()
	defer cancel()
	return memfs.Get(ctx, in.source(), missing)
}

// readFile returns the content of a file of a tree.
func (in *Instance) readFile(fs *memfs.FS, path string) ([]byte, error) {
	b, err := fs.ReadFile(path)
	if !errors.Is(err, memfs.ErrAway) {
		return b, err
	}
	file, err := fs.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b = make([]byte, file.Stat().Size)
	if e := in.bringRead(&openFile{fs: fs, file: file}, 0, int64(len(b))); e != eOK {
		return nil, syscall.EIO
	}
	_, err = file.ReadAt(b, 0)
	return b, err
}

// bringFiles fetches the files of the data directory that the host itself reads when it starts PostgreSQL.
func (o *ClusterOptions) bringFiles(ctx context.Context) error {
	for _, path := range []string{mainConf, "/" + autoConf, "/" + hbaName, pgdata.ControlPath} {
		if err := o.Data.Bring(ctx, o.Source, path); err != nil {
			return err
		}
	}
	return nil
}

// say writes to the server's log.
func (in *Instance) say(line string) {
	if in.files.log != nil {
		in.files.log(line)
	}
}

// untilStop returns a context that ends with the cluster.
func (c *Cluster) untilStop() (context.Context, context.CancelFunc) {
	if c == nil {
		return context.WithCancel(context.Background())
	}
	ctx, cancel := context.WithCancel(c.ctx)
	go func() {
		select {
		case <-c.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// errInterrupted: the fetch is no longer needed.
var errInterrupted = errors.New("nothing waits for it any more")

// fetch waits without the lock until the chunks are there, or something ends the statement or the process.
func (p *Process) fetch(o *openFile, missing []memfs.Away) ([]memfs.Fetched, error) {
	c := p.c
	if p.ends(o) {
		return nil, errInterrupted
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	answer := make(chan fetched, 1)
	c.running.Go(func() { // safe: the process itself is running, so the count is not zero
		chunks, err := memfs.Get(ctx, c.o.Source, missing)
		answer <- fetched{chunks, err}
	})
	began := c.o.Clock.Monotonic()
	defer func() { c.stats.fetchTime.Add(int64(c.o.Clock.Monotonic() - began)) }()
	c.stats.fetches.Add(1)
	for {
		f, ok := p.await(answer)
		p.mustLive()
		if ok {
			return f.chunks, f.err
		}
		if p.ends(o) {
			return nil, errInterrupted
		}
	}
}

// await gives up the lock until there is an answer, or something wakes the process.
func (p *Process) await(answer <-chan fetched) (f fetched, ok bool) {
	p.c.fetching.Add(1)
	p.aside(func() {
		select {
		case f = <-answer:
			ok = true
		case <-p.wake:
		case <-p.in.killed:
		}
	})
	p.c.fetching.Add(-1)
	return f, ok
}

// ends handles signals, and reports whether one of them ends the statement or the process, at a place where PostgreSQL could have handled
// it just before.
func (p *Process) ends(o *openFile) bool {
	for p.deliver() { // a timer's handler sends its process a signal
	}
	m, at := p.in.mem, p.c.rt.places
	holdoff, critical := m.u32(at.InterruptHoldoffCount), m.u32(at.CritSectionCount)
	switch {
	case holdoff == 0 && critical == 0:
	case o.relation && critical < 2 && holdoff == 1+critical: // smgr.c holds interrupts; so does aio.c, in a critical section
	default:
		return false
	}
	if p.kind != KindClient && p.kind != KindWorker { // others have flags of their own
		return false
	}
	p.cut = m.u32(at.ProcDiePending) != 0 || m.u32(at.TransactionTimeoutPending) != 0 ||
		m.u32(at.QueryCancelPending) != 0 && m.u32(at.QueryCancelHoldoffCount) == 0
	return p.cut
}

// line receives what the process writes to the server's log. It drops the report of a read that the host itself ended.
func (p *Process) line(s string) {
	if !p.cut || !strings.Contains(s, "could not read block") {
		p.c.o.Log(s)
	}
}

// raising is called where PostgreSQL begins to report an error. If the host has ended a read, there is a pending interrupt: raising makes
// PostgreSQL check for it and report it instead, and the call does not return. PostgreSQL releases what it held, as after any error.
func (p *Process) raising(level int32) {
	m, at := p.in.mem, p.c.rt.places
	if !p.cut || level != levelError || m.u32(at.CritSectionCount) != 0 {
		return
	}
	p.cut = false
	holdoff := m.u32(at.InterruptHoldoffCount)
	m.putU32(at.InterruptHoldoffCount, 0)
	p.reporting = true
	defer func() { p.reporting = false }()
	p.in.call(p.in.module.ExportedFunction("ProcessInterrupts"))
	m.putU32(at.InterruptHoldoffCount, holdoff)
}
