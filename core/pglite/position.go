package pglite

import (
	"context"
	"fmt"
	"strings"

	"blobpglite/core/pgdata"
	"blobpglite/core/pglite/internal/wasmbin"
)

// Two settings let a client read here what it wrote on another server:
//
//	SHOW blobpglite.position                  a place in the log that covers everything in this server's answers so far
//	SET blobpglite.wait_for = '0/1A2B3C'      waits until this server has reached it; RESET does not wait
//
// They are custom settings, defined in the image of all processes, with hooks in the host: so every database has them, without an object in
// its catalogs.
const (
	positionSetting = "blobpglite.position"
	waitSetting     = "blobpglite.wait_for"
)

// notReached is SQLSTATE 55000 (object_not_in_prerequisite_state), as PostgreSQL packs it.
const notReached = ('5' - '0') | ('5'-'0')<<6

// positionCallbacks are the hooks, in the order of their table entries.
func positionCallbacks() []callback {
	i32 := wasmbin.I32
	show := wasmbin.FuncType{Results: []wasmbin.ValType{i32}}
	check := wasmbin.FuncType{Params: []wasmbin.ValType{i32, i32, i32}, Results: []wasmbin.ValType{i32}}
	return []callback{
		{"show_position", show, func(in *Instance, s []uint64) { s[0] = in.showPosition() }},
		{"check_wait_for", check, func(in *Instance, s []uint64) { s[0] = in.checkWait(uint32(s[0]), uint32(s[2])) }},
	}
}

// firstOfPosition is their index among the callbacks.
const firstOfPosition = 5

// definePosition defines the settings. Call it within guard, after PostgreSQL has read its own.
func (in *Instance) definePosition() {
	text := func(s string) uint64 {
		at := uint32(in.call(in.fn.malloc, uint64(len(s)+1)))
		in.mem.putCstr(at, s)
		return uint64(at)
	}
	variable := func() uint64 {
		at := uint32(in.call(in.fn.malloc, 4))
		in.mem.putU32(at, 0)
		return uint64(at)
	}
	const internal, userset = 0, 6 // PGC_INTERNAL, PGC_USERSET
	show := uint64(in.firstCallback + firstOfPosition)
	define := in.module.ExportedFunction("DefineCustomStringVariable")
	if define == nil {
		in.trapf("PostgreSQL does not export DefineCustomStringVariable: this PGlite needs another host")
	}
	in.call(define, text(positionSetting), text("Shows the position in the log that this server has reached."), 0, variable(), text(""), internal, 0, 0, 0, show)
	in.call(define, text(waitSetting), text("Waits until this server has reached a position in the log."), 0, variable(), text(""), userset, 0, show+1, 0, 0)
}

// showPosition is the show hook.
func (in *Instance) showPosition() uint64 {
	said := ""
	if in.cluster != nil && in.cluster.o.Position != nil {
		own := in.mem.u64(in.rt.places.layout.Addresses["XactLastCommitEnd"]) // this session's
		said = pgdata.LSN(max(in.cluster.o.Position(), own)).String()
	}
	at := uint32(in.call(in.fn.palloc, uint64(len(said)+1)))
	in.mem.putCstr(at, said)
	return uint64(at)
}

// checkWait is the check hook: 0 refuses the value.
func (in *Instance) checkWait(value, source uint32) uint64 {
	at := in.mem.u32(value)
	if at == 0 || in.mem.cstr(at) == "" {
		return 1
	}
	lsn, err := pgdata.ParseLSN(strings.TrimSpace(in.mem.cstr(at)))
	if err != nil {
		in.refuse(waitSetting + " takes a position as " + positionSetting + " shows it, such as 0/1A2B3C.")
		return 0
	}
	const client, session = 9, 13 // PGC_S_CLIENT, PGC_S_SESSION: other sources only announce what will be set
	if in.proc == nil || in.cluster.o.Await == nil || source != client && source != session || !in.proc.safe() {
		return 1
	}
	if err := in.proc.awaitPosition(uint64(lsn)); err != nil {
		in.raise(notReached, fmt.Sprintf("waiting for position %s failed: %v", lsn, err))
	}
	return 1
}

// refuse sets the reason for which a check hook refuses a value.
func (in *Instance) refuse(detail string) {
	text := uint32(in.call(in.fn.palloc, uint64(len(detail)+1)))
	in.mem.putCstr(text, detail)
	in.mem.putU32(uint32(in.rt.main.consts["GUC_check_errdetail_string"]), text)
}

// awaitPosition waits without the lock. Whatever ends the statement or the process ends the wait.
func (p *Process) awaitPosition(lsn uint64) error {
	ctx, cancel := context.WithCancel(p.c.ctx)
	defer cancel()
	answer := make(chan error, 1)
	p.c.running.Go(func() { answer <- p.c.o.Await(ctx, lsn) }) // safe: the process itself is running, so the count is not zero
	for {
		var err error
		over := false
		p.aside(func() {
			select {
			case err = <-answer:
				over = true
			case <-p.wake:
			case <-p.in.killed:
			}
		})
		p.mustLive()
		for p.deliver() {
		}
		m, at := p.in.mem, p.c.rt.places
		switch {
		case over:
			return err
		case m.u32(at.ProcDiePending) != 0, m.u32(at.QueryCancelPending) != 0, m.u32(at.TransactionTimeoutPending) != 0:
			p.in.call(p.in.module.ExportedFunction("ProcessInterrupts")) // it reports the interrupt, and does not return
			return nil
		}
	}
}
