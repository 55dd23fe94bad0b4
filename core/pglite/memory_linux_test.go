package pglite

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"blobpglite/core/pglite/internal/lean"
)

// addressOf returns where a piece of memory begins.
func addressOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// mapping is a line of /proc/self/maps.
type mapping struct {
	from, to    uintptr
	permissions string
}

func mappings(t testing.TB) (all []mapping) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var m mapping
		if _, err := fmt.Sscanf(line, "%x-%x %s", &m.from, &m.to, &m.permissions); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, m)
	}
	return all
}

// span is a part of a memory, from its start.
type span struct{ from, to int64 }

// spans returns the parts of [from, to), relative to start, that are mapped with some permissions, joined.
func spans(t testing.TB, start uintptr, from, to int64, with func(permissions string) bool) (out []span) {
	t.Helper()
	for _, m := range mappings(t) {
		s := span{max(int64(m.from)-int64(start), from), min(int64(m.to)-int64(start), to)}
		switch {
		case s.from >= s.to || !with(m.permissions):
		case len(out) > 0 && out[len(out)-1].to == s.from:
			out[len(out)-1].to = s.to
		default:
			out = append(out, s)
		}
	}
	return out
}

func anyAccess(permissions string) bool { return permissions[:3] != "---" }
func mapped(string) bool                { return true }

// readable reports whether the system can read a byte.
func readable(t testing.TB, at uintptr) bool {
	t.Helper()
	var b [1]byte
	n, err := unix.ProcessVMReadv(os.Getpid(), []unix.Iovec{{Base: &b[0], Len: 1}}, []unix.RemoteIovec{{Base: at, Len: 1}}, 0)
	if err != nil && !errors.Is(err, unix.EFAULT) {
		t.Fatal(err)
	}
	return n == 1
}

// wantAccess fails unless exactly size bytes from start, of all that is reserved around them, can be read and written.
func wantAccess(t testing.TB, start uintptr, size int64, guarded bool, reserved int64) {
	t.Helper()
	from, to := int64(0), reserved
	if guarded {
		from, to = -lean.GuardBefore, lean.Reach
	}
	want := []span{{0, size}}
	if size == 0 {
		want = nil
	}
	if got := spans(t, start, from, to, anyAccess); !slices.Equal(got, want) {
		t.Errorf("accessible are %v, want %v", got, want)
	}
	if got := spans(t, start, from, to, func(p string) bool { return strings.HasPrefix(p, "rw-") }); !slices.Equal(got, want) {
		t.Errorf("writable are %v, want %v", got, want)
	}
	if got := spans(t, start, from, to, mapped); !slices.Equal(got, []span{{from, to}}) {
		t.Errorf("reserved are %v, want %v", got, span{from, to})
	}
	if !guarded {
		return
	}
	for _, at := range []int64{-lean.GuardBefore, -1, 0, size - 1, size, 4<<30 - 1, 4 << 30, 8 << 30, lean.Reach - 1} {
		if got := readable(t, start+uintptr(at)); got != (at >= 0 && at < size) {
			t.Errorf("the byte at %d of %d is readable: %v", at, size, got)
		}
	}
}

// TestReservation: it is address space without access, and nothing of it remains after it is freed.
func TestReservation(t *testing.T) {
	const size = 3 * wasmPage
	for _, guarded := range []bool{true, false} {
		t.Run(fmt.Sprintf("guarded %v", guarded), func(t *testing.T) {
			r, err := newReservation(size, guarded)
			if err != nil {
				t.Fatal(err)
			}
			start, from, to := addressOf(r.region), int64(0), int64(size)
			if guarded {
				from, to = -lean.GuardBefore, lean.Reach
			}
			if len(r.region) != size || cap(r.region) != size || addressOf(r.all) != start+uintptr(from) || int64(len(r.all)) != to-from {
				t.Errorf("%d bytes, of which %d are the memory's, from %d on", len(r.all), len(r.region), start-addressOf(r.all))
			}
			wantAccess(t, start, 0, guarded, size)
			r.free()
			if got := spans(t, start, from, to, mapped); len(got) > 0 {
				t.Errorf("after it was freed there are %v", got)
			}
		})
	}
}

// memoryKinds are the ways to reserve a memory.
var memoryKinds = map[string]func(l *linearMemory, size uint64, guarded bool) error{
	"memory": (*linearMemory).reserve, "file": (*linearMemory).reserveFile,
}

// newLinear makes a memory of one page.
func newLinear(t testing.TB, kind string, guarded bool) *linearMemory {
	t.Helper()
	l := &linearMemory{limit: maxMemory - wasmPage, view: &memory{}}
	if err := memoryKinds[kind](l, maxMemory, guarded); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Free)
	if b := l.Reallocate(wasmPage); len(b) != wasmPage || cap(b) != wasmPage || addressOf(b) != addressOf(l.region) {
		t.Fatalf("%d bytes, with room for %d", len(b), cap(b))
	}
	return l
}

// TestMemoryGrows: exactly the bytes that a memory has grown to are accessible; it stays in place and keeps its content.
func TestMemoryGrows(t *testing.T) {
	for kind := range memoryKinds {
		for _, guarded := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, guarded %v", kind, guarded), func(t *testing.T) {
				l := newLinear(t, kind, guarded)
				start := addressOf(l.region)
				wantAccess(t, start, wasmPage, guarded, maxMemory)
				last := int64(wasmPage)
				for i, size := range []int64{2 * wasmPage, 2 * wasmPage, 100 * wasmPage, 1 << 30, maxMemory - wasmPage} {
					l.view.b[last-1] = byte(i + 1)
					b := l.Reallocate(uint64(size))
					if int64(len(b)) != size || addressOf(b) != start || len(l.view.b) != len(b) {
						t.Fatalf("grown to %d it has %d bytes", size, len(b))
					}
					if b[last-1] != byte(i+1) || size > last && (b[last] != 0 || b[size-1] != 0) {
						t.Errorf("grown to %d it holds something else", size)
					}
					wantAccess(t, start, size, guarded, maxMemory)
					last = size
				}
				for _, size := range []uint64{maxMemory - wasmPage + 1, maxMemory, maxMemory + 1, 1 << 40} {
					if b := l.Reallocate(size); b != nil {
						t.Errorf("it grew to %d, beyond its limit", size)
					}
				}
				wantAccess(t, start, last, guarded, maxMemory)
				file := l.file
				l.Free()
				if got := spans(t, start, -lean.GuardBefore, lean.Reach, mapped); guarded && len(got) > 0 {
					t.Errorf("after it was freed there are %v", got)
				}
				if got := spans(t, start, 0, maxMemory, mapped); len(got) > 0 || l.region != nil || l.view.b != nil {
					t.Errorf("after it was freed there are %v", got)
				}
				if file != nil {
					if _, err := file.Stat(); !errors.Is(err, os.ErrClosed) {
						t.Errorf("its file is open: %v", err)
					}
				}
				l.Free() // freeing twice is harmless
			})
		}
	}
}

// TestSharedMappingsKeepTheGuard: shared pieces of a memory, pieces no longer shared, and an image's pieces make nothing around them
// accessible.
func TestSharedMappingsKeepTheGuard(t *testing.T) {
	const size, page = 4 * wasmPage, 4096
	for kind := range memoryKinds {
		t.Run(kind, func(t *testing.T) {
			l, other := newLinear(t, kind, true), newLinear(t, "memory", true)
			for _, one := range []*linearMemory{l, other} {
				if one.Reallocate(size) == nil {
					t.Fatal("it does not grow")
				}
			}
			start := addressOf(l.region)
			file, err := memoryFile("a test")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = file.Close() }()
			if err := file.Truncate(3 * page); err != nil {
				t.Fatal(err)
			}
			copy(l.view.b, "start")
			for name, m := range map[string]sharedMapping{
				"at the start":     {addr: 0, size: page},
				"in the middle":    {addr: 5 * page, size: 2 * page, off: page},
				"up to the end":    {addr: size - 2*page, size: 2 * page},
				"the last page":    {addr: size - page, size: page, off: 2 * page},
				"the page it adds": {addr: 3 * wasmPage, size: 3 * page},
			} {
				m.file = file
				for _, one := range []*linearMemory{l, other} {
					if err := m.attach(one.region); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
				}
				wantAccess(t, start, size, true, maxMemory)
				copy(m.of(l.view.b), name)
				if got := m.of(other.view.b)[:len(name)]; string(got) != name {
					t.Errorf("%s: the other memory has %q there", name, got)
				}
				if err := m.detach(l.region); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				wantAccess(t, start, size, true, maxMemory)
				if got := m.of(l.view.b); !bytes.Equal(got, make([]byte, m.size)) {
					t.Errorf("%s: it holds what was shared", name)
				}
				copy(m.of(l.view.b), "mine")
				if got := m.of(other.view.b)[:len(name)]; string(got) != name {
					t.Errorf("%s: what is no longer shared was seen by the other memory: %q", name, got)
				}
			}
			wantAccess(t, addressOf(other.region), size, true, maxMemory)
			image, err := snapshotMemory(l.view.b)
			if err != nil {
				t.Fatal(err)
			}
			if err := image.restore(other.region); err != nil {
				t.Fatal(err)
			}
			wantAccess(t, addressOf(other.region), size, true, maxMemory)
			if !bytes.Equal(other.view.b, l.view.b) {
				t.Error("an image is not what it is of")
			}
		})
	}
}

// TestInstancesAreGuarded: of the memories of PostgreSQL's processes, exactly what they have is accessible.
func TestInstancesAreGuarded(t *testing.T) {
	if err := testRuntime(t).Checked(); err != nil {
		t.Fatalf("code is compiled with bounds checks: %v", err)
	}
	c := startCluster(t, ClusterOptions{})
	conn := dial(t, c)
	value(t, conn, "SET work_mem = '64MB'; SET max_parallel_workers_per_gather = 0; SELECT count(*) FROM (SELECT g FROM generate_series(1, 200000) g ORDER BY g DESC) x")
	looked := 0
	c.Locked(func() {
		for _, p := range c.Processes() {
			if p.in == nil || p.in.linear == nil || p.in.linear.region == nil {
				continue
			}
			looked++
			size := int64(len(p.in.mem.b))
			if size < 16<<20 || size%wasmPage != 0 {
				t.Errorf("%s: a memory of %d bytes", p.kind, size)
			}
			wantAccess(t, addressOf(p.in.linear.region), size, true, maxMemory)
		}
	})
	if looked < 2 {
		t.Errorf("only %d processes had a memory", looked)
	}
	t.Logf("%d processes", looked)
}

// hugePages returns the parts of [0, to) from start where huge pages are requested: the flag "hg" of /proc/self/smaps.
func hugePages(t testing.TB, start uintptr, to int64) (out []span) {
	t.Helper()
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var at mapping
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if first, _, _ := strings.Cut(lines.Text(), " "); strings.Contains(first, "-") {
			if _, err := fmt.Sscanf(lines.Text(), "%x-%x", &at.from, &at.to); err != nil {
				t.Fatal(err)
			}
		}
		flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:")
		s := span{max(int64(at.from)-int64(start), 0), min(int64(at.to)-int64(start), to)}
		if ok && s.from < s.to && slices.Contains(strings.Fields(flags), "hg") {
			out = append(out, s)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// asksForHugePages reports whether huge pages are requested in any of this process's memory.
func asksForHugePages(t testing.TB) bool { return len(hugePages(t, 0, math.MaxInt64)) > 0 }

// hugePagesExist reports whether this kernel has any.
func hugePagesExist(t testing.TB) bool {
	t.Helper()
	r, err := newReservation(maxMemory, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.free()
	return unix.Madvise(r.region, unix.MADV_HUGEPAGE) == nil
}

// TestHugePages: they are requested after the start of a memory; a kernel without them refuses, and nothing changes.
func TestHugePages(t *testing.T) {
	const size = 4 * smallStart
	opened := func() []byte {
		r, err := newReservation(size, true)
		if err == nil {
			t.Cleanup(r.free)
			err = open(r.region)
		}
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < size; at += 1 << 20 {
			r.region[at] = byte(at>>20) + 1
		}
		return r.region
	}
	unchanged := func(region []byte) {
		t.Helper()
		wantAccess(t, addressOf(region), size, true, size)
		for at := 0; at < size; at += 1 << 20 {
			if region[at] != byte(at>>20)+1 {
				t.Errorf("the byte at %d is %d", at, region[at])
			}
		}
	}
	refused := opened()
	if err := unix.Madvise(refused[smallStart+1:], unix.MADV_HUGEPAGE); !errors.Is(err, unix.EINVAL) {
		t.Fatalf("what does not begin with a page is not refused: %v", err)
	}
	preferHugePages(refused[1:], smallStart)
	unchanged(refused)
	if got := hugePages(t, addressOf(refused), size); len(got) > 0 {
		t.Errorf("huge pages in %v", got)
	}
	region := opened()
	var want []span
	if hugePagesExist(t) {
		want = []span{{smallStart, size}}
	}
	preferHugePages(region, smallStart)
	unchanged(region)
	if got := hugePages(t, addressOf(region), size); !slices.Equal(got, want) {
		t.Errorf("huge pages in %v, want %v", got, want)
	}
	t.Logf("huge pages of this kernel: %v", want)
}

// TestBehindAnImage: an image's content is mapped, and what a process had there before is gone; after it comes memory of the process's own,
// in huge pages from where it has grown, and nothing around it becomes accessible.
func TestBehindAnImage(t *testing.T) {
	const size = 32 << 20
	for name, last := range map[string]int{"empty": -1, "one page": 0, "some": 5<<20 + 77, "all but a page": size - 4097, "all": size - 1} {
		t.Run(name, func(t *testing.T) {
			of, l := newLinear(t, "file", true), newLinear(t, "memory", true)
			for _, one := range []*linearMemory{of, l} {
				if one.Reallocate(size) == nil {
					t.Fatal("it does not grow")
				}
			}
			if last >= 0 {
				of.view.b[0], of.view.b[last] = 1, 2
			}
			for at := 0; at < size; at += 1 << 20 {
				l.view.b[at] = 3
			}
			want := slices.Clone(of.view.b)
			image, err := snapshotMemory(want)
			if err != nil {
				t.Fatal(err)
			}
			if err := image.restore(l.region); err != nil {
				t.Fatal(err)
			}
			ends := uint64(last+4096) &^ 4095
			if image.ends != ends || image.size != size {
				t.Errorf("the image ends at %d of %d, want %d", image.ends, image.size, ends)
			}
			start := addressOf(l.region)
			var huge []span
			if from := int64(ends) + smallHeap; from < size && hugePagesExist(t) {
				huge = append(huge, span{from, size})
			}
			if got := hugePages(t, start, size); !slices.Equal(got, huge) {
				t.Errorf("huge pages in %v, want %v", got, huge)
			}
			wantAccess(t, start, size, true, maxMemory)
			if !bytes.Equal(l.view.b, want) {
				t.Error("what is restored is not what was in the image")
			}
			l.view.b[size-1]++
			if other := newLinear(t, "memory", true); other.Reallocate(size) == nil || image.restore(other.region) != nil || !bytes.Equal(other.view.b, want) {
				t.Error("what one process writes, another one sees")
			}
		})
	}
}
