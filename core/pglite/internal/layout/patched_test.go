package layout

import (
	"maps"
	"slices"
	"testing"

	"blobpglite/core/pglite/internal/wasmbin"
)

// Every binary with a table can be patched for many processes: nothing moves, and the edited code calls the host.
func TestRealPatched(t *testing.T) {
	for _, l := range layouts() {
		bin := realWasm(t, l.PGlite)
		places := wasmbin.Places{Functions: l.Functions, Addresses: l.Addresses}
		patched, err := wasmbin.PatchProcesses(bin, places, slices.Sorted(maps.Keys(l.Functions)))
		if err != nil {
			t.Errorf("PGlite %s: %v", l.PGlite, err)
			continue
		}
		p, err := readProgram(patched)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.CheckProgram(p.module); err != nil {
			t.Error(err)
		}
		known := (&finder{p: p, out: &l}).known
		check := func(f uint32, name, text string) {
			s, err := parseShape(text)
			if err != nil {
				t.Fatal(err)
			}
			row, err := p.code.Tree(f)
			if err != nil {
				t.Error(err)
			}
			if n := len((&matcher{p: p, known: known}).search(s, row)); n != 1 {
				t.Errorf("PGlite %s: %s has the shape %q %d times", l.PGlite, name, text, n)
			}
		}
		for name, text := range map[string]string{
			"kill":              `^end(f$__syscall_connect(-63, %pid, %sig, 0, 0, 0))`,
			"RequestCheckpoint": `^drop(f$__syscall_connect(-61, %flags, 0, 0, 0, 0)); end`,
			"pg_usleep":         `^drop(f$__syscall_connect(-59, %microseconds, 0, 0, 0, 0)); end`,
			"InitProcess":       `^drop(f$__syscall_connect(-62, 0, 0, 0, 0, 0)); global.set; block`,
			"ProcessInterrupts": `^drop(f$__syscall_connect(-60, 0, 0, 0, 0, 0))`,
			"proc_exit":         `if(i32.eq(i32.load($MyProcPid), i32.load($MyProcPid)))`,
			"wrapper_handler":   `if(i32.ne(i32.load($MyProcPid), i32.load($MyProcPid)))`,
			"ProcKill":          `if(i32.eq(i32.load+$PGPROC.pid(i32.load($MyProc)), i32.load($MyProcPid)))`,
			"AuxiliaryProcKill": `if(i32.eq(i32.load+$PGPROC.pid(i32.load($MyProc)), i32.load($MyProcPid)))`,
			"WaitEventSetWait": `^set %left(%timeout); ...; set %timeout(tee %left(0)); ...;
				if(i32.lt_s(tee(f$__syscall_poll(i32.load+$WaitEventSet.pollfds(%set), i32.load+$WaitEventSet.nevents(%set), %left)), 0)); ...;
				br_if(i32.gt_s(tee %left(i32.sub(%timeout, _)), 0))`,
		} {
			check(l.Functions[name], name, text)
		}
		for _, e := range p.module.Exports {
			if e.Name == "errstart" || e.Name == "errstart_cold" {
				check(e.Index, e.Name, `^if(i32.gt_s(%level, 20)); drop(f$__syscall_connect(-57, %level, 0, 0, 0, 0)); end`)
			}
		}
		for _, w := range semaphoreWaits() {
			check(l.Functions[w.function], w.function, `loop; drop(i32.load+$PGPROC.sem(_)); drop(f$__syscall_connect(-58, 0, 0, 0, 0, 0)); set(i32.add(_, 1)); br_if(i32.load8_u+$PGPROC.`+w.field+`(_))`)
		}
	}
}
