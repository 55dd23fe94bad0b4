package layout

import (
	"errors"
	"strings"
	"testing"
)

// memory is a fake process memory: words by address, zero elsewhere.
type memory map[uint32]uint32

func (m memory) read(at uint32) uint32 {
	if v, ok := m[at]; ok || at%4 == 0 {
		return v
	}
	return m[at&^3]>>(8*(at%4)) | m[at&^3+4]<<(32-8*(at%4))
}

func (m memory) text(at uint32, s string) {
	for i := 0; i < len(s); i++ {
		m[(at+uint32(i))&^3] |= uint32(s[i]) << (8 * ((at + uint32(i)) % 4))
	}
}

// healthy returns a memory in which everything is as expected.
func healthy(l *Layout) memory {
	const base, size, text = 1 << 24, 1 << 20, 100 << 20
	a, o, m := l.Addresses, l.Offsets, memory{}
	for name, v := range map[string]uint32{
		"MyProcPid": 42, "MyBackendType": 8, "MyProcNumber": noProcess, "postmaster_alive_fds": noProcess,
		"AnonymousShmem": base, "AnonymousShmemSize": size, "ShmemSegHdr": base, "ShmemBase": base, "ShmemEnd": base + size,
		"TransamVariables": base + 4096, "XLogRecoveryCtl": base + 8192, "MainLWLockArray": base + 12288, "PMSignalState": base + 16384,
		"CheckpointerShmem": base + 20480, "ProcGlobal": base + 24576, "num_pmchild_slots": 30, "on_shmem_exit_index": 2,
		"CurrentTransactionState": a["TopTransactionStateData"],
	} {
		m[a[name]] = v
	}
	m[base], m[base+creatorPID], m[base+o["PGShmemHeader.totalsize"]] = shmemMagic, 42, size
	m[base+12288+lockState] = lockReleased
	m[base+16384+o["PMSignalData.num_child_flags"]] = 30
	m[base+24576+o["PROC_HDR.checkpointerProc"]], m[base+24576+o["PROC_HDR.walwriterProc"]] = noProcess, noProcess
	procs := uint32(base + 32768)
	m[base+24576+o["PROC_HDR.allProcs"]] = procs
	for i := range uint32(3) {
		at := procs + i*l.Sizes["PGPROC"]
		m[at+o["PGPROC.sem"]], m[at+o["PGPROC.procLatch"]+latchShared] = base+65536+i*128, 1
	}
	for i, kind := range processKinds {
		at, name := a["child_process_kinds"]+uint32(i)*kindSize, uint32(text+i*64)
		m[at], m[at+4] = name, l.Slots[kind.main]
		m.text(name, kind.name)
	}
	m[a["on_shmem_exit_list"]+8] = l.Slots["AnonymousShmemDetach"]
	m[a["sigactions"]+15*l.Sizes["sigaction"]] = l.Slots["wrapper_handler"]
	m[a["sigactions"]+13*l.Sizes["sigaction"]] = ignored
	return m
}

func TestCheckMemory(t *testing.T) {
	for _, l := range layouts() {
		if err := l.CheckMemory(healthy(&l).read); err != nil {
			t.Error(err)
		}
		if err := l.CheckMemory(func(uint32) uint32 { return 0 }); !errors.Is(err, ErrWrong) || !strings.Contains(err.Error(), l.SHA256) {
			t.Errorf("a memory of zeros: %v", err)
		}
	}
}

// Each word that is checked matters, and the error says what is wrong.
func TestCheckMemoryTellsWhatIsWrong(t *testing.T) {
	l := pglite0516()
	for at := range healthy(&l) {
		m := healthy(&l)
		m[at] ^= 0x5a5a5a5a
		if err := l.CheckMemory(m.read); !errors.Is(err, ErrWrong) {
			t.Errorf("the word at %d is wrong, and nobody says so: %v", at, err)
		}
	}
	for name, want := range map[string]string{
		"MyProcPid": "MyProcPid at 2875608 is 77, 42 expected", "IsUnderPostmaster": "IsUnderPostmaster", "MyProc": "MyProc at",
		"CritSectionCount": "CritSectionCount", "before_shmem_exit_index": "before_shmem_exit_index", "AnonymousShmem": "shared memory is at 77",
		"ProcGlobal": "ProcGlobal is at 77, which is not in the shared memory", "PMSignalState": "PMSignalState is at 77",
		"child_process_kinds": `kind 0 of processes is "" with slot 0, "invalid" with 0 expected`, "on_shmem_exit_index": "AnonymousShmemDetach (slot 1329)",
	} {
		m := healthy(&l)
		m[l.Addresses[name]&^3] = 77 << (8 * (l.Addresses[name] % 4))
		if err := l.CheckMemory(m.read); !errors.Is(err, ErrWrong) || !strings.Contains(err.Error(), want) && name != "on_shmem_exit_index" {
			t.Errorf("%s is 77: %v", name, err)
		}
	}
	m := healthy(&l)
	m[l.Addresses["sigactions"]+2*l.Sizes["sigaction"]] = 99
	if err := l.CheckMemory(m.read); !errors.Is(err, ErrWrong) || !strings.Contains(err.Error(), "signal 2 is handled by slot 99") {
		t.Errorf("a handler that is none: %v", err)
	}
}
