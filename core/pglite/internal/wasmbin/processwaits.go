package wasmbin

import (
	"fmt"
	"slices"
)

// waitEvents makes PGlite's poll, which was inlined as "rc = nevents", call the host: poll(set->pollfds, set->nevents,
// cur_timeout). cur_timeout, what remains of the timeout after a spurious wake-up, was unused, so the compiler left it
// out: here it is a new local. Local 0 is the set, local 1 the timeout, local 2 where events go.
func (p *processPatcher) waitEvents(b []byte) ([]byte, error) {
	const pollfds, nevents, eventSize = 28, 4, 16
	f := p.m.Funcs[p.at.Functions["WaitEventSetWait"]]
	b, n, err := addLocal(b, len(f.Params), []byte{opLocalGet, 1, opLocalSet})
	if err != nil {
		return nil, err
	}
	left := appendU32(nil, n)
	load := func(at byte) []byte { return []byte{opLocalGet, 0, opI32Load, 2, at} }
	rc := []byte{opI32Load, 2, pollfds, opDrop, opBlock, blockEmpty}
	for _, e := range [][2][]byte{
		{
			join(rc, load(nevents), []byte{opLocalTee}),
			join(rc, load(pollfds), load(nevents), []byte{opLocalGet}, left, []byte{opCall}, appendU32(nil, p.poll), []byte{opLocalTee}),
		},
		{ // cur_timeout = timeout - elapsed; if (cur_timeout <= 0) break;
			join([]byte{opI32Sub}, i32Const(0), []byte{opI32GtS, opBrIf}),
			join([]byte{opI32Sub, opLocalTee}, left, i32Const(0), []byte{opI32GtS, opBrIf}),
		},
		{ // the latch is set: occurred_events++; cur_timeout = 0; timeout = 0;
			join(i32Const(eventSize), []byte{opI32Add, opLocalSet, 2}, i32Const(0), []byte{opLocalSet, 1}),
			join(i32Const(eventSize), []byte{opI32Add, opLocalSet, 2}, i32Const(0), []byte{opLocalTee}, left, []byte{opLocalSet, 1}),
		},
	} {
		if b, err = once(e[0], e[1])(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// semaphore asks the host in the loop of a function that waits for a semaphore:
//
//	for (;;) { PGSemaphoreLock(proc->sem); if (!proc->flag) break; extraWaits++; }
//
// Only a load of proc->sem is left of PGSemaphoreLock; the instructions after it compute extraWaits + 1.
func (p *processPatcher) semaphore(b []byte) ([]byte, error) {
	const semAt = 12 // PGPROC.sem
	r := &reader{buf: b, end: len(b), section: sectionName(secCode)}
	var row []instr
	r.walkBody(func(in instr) { row = append(row, in) })
	if r.err != nil {
		return nil, r.err
	}
	at, found := 0, 0
	for i := 2; i < len(row); i++ {
		// loop; a local; i32.load+12; drop; a local; perhaps local.tee; i32.const 1; i32.add
		ops := row[i:min(i+6, len(row))]
		if len(ops) > 3 && ops[3].op == opLocalTee {
			ops = slices.Delete(slices.Clone(ops), 3, 4)
		}
		if row[i-2].op == opLoop && len(ops) >= 5 && ops[0].op == opI32Load && operands(ops[0], b).Off == semAt && ops[1].op == opDrop &&
			ops[2].op == opLocalGet && ops[3].op == opI32Const && operands(ops[3], b).Value == 1 && ops[4].op == opI32Add {
			at, found = ops[1].end, found+1
		}
	}
	if found != 1 {
		return nil, fmt.Errorf("%w: it waits for a semaphore in %d places", ErrFormat, found)
	}
	return join(b[:at], p.hostCall(CallSemaphore, 0), []byte{opDrop}, b[at:]), nil
}

// addLocal adds an i32 local to a body, and begins the body with code followed by the local's index.
func addLocal(b []byte, params int, code []byte) (_ []byte, index uint32, err error) {
	r := &reader{buf: b, end: len(b), section: sectionName(secCode)}
	groups := r.count(maxVectorLen, "groups of locals")
	start, index := r.pos, uint32(params)
	for range groups {
		index += r.u32("locals")
		r.byte("type of locals")
	}
	if r.err != nil {
		return nil, 0, r.err
	}
	return join(appendU32(nil, uint32(groups)+1), b[start:r.pos], []byte{1, byte(I32)}, code, appendU32(nil, index), b[r.pos:]), index, nil
}
