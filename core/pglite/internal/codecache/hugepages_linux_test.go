package codecache

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// advised returns how many bytes of a mapping are marked for huge pages, and how many of them begin off a huge page boundary.
func advised(t *testing.T, of []byte) (n, astray uint64) {
	t.Helper()
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	start := uint64(address(of))
	var from, to uint64
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if first, _, _ := strings.Cut(lines.Text(), " "); strings.Contains(first, "-") {
			if _, err := fmt.Sscanf(lines.Text(), "%x-%x", &from, &to); err != nil {
				t.Fatal(err)
			}
		}
		flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:")
		if from, to := max(from, start), min(to, start+uint64(len(of))); ok && from < to && slices.Contains(strings.Fields(flags), "hg") {
			n += to - from
			if from%hugePage != 0 {
				astray++
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return n, astray
}

// TestHugePages: the code read is what was written, and lies in huge pages as far as they fit; smaller code does not.
func TestHugePages(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	mapped := func(size int) []byte {
		b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Munmap(b) })
		return b
	}
	supported := unix.Madvise(mapped(hugePage), unix.MADV_HUGEPAGE) == nil
	t.Logf("this kernel has huge pages: %v", supported)
	room := mapped(8 * hugePage)
	aligned := room[-address(room)&(hugePage-1):]
	for _, test := range []struct{ at, size, want int }{
		{0, 100, 0},
		{0, hugePage - 1, 0},
		{4096, hugePage, 0},
		{4096, 2*hugePage - 4096, hugePage},
		{3 * hugePage, hugePage, hugePage},
		{5*hugePage - 4096, 2*hugePage + 8191, 2 * hugePage},
	} {
		part := aligned[test.at:][:test.size]
		code := make([]byte, test.size)
		_, _ = random.Read(code)
		// wazero reads what precedes the code piecewise.
		c := &content{before: []byte("before"), file: io.NopCloser(bytes.NewReader(code))}
		before := make([]byte, 6)
		if _, err := io.ReadFull(c, before); err != nil || string(before) != "before" {
			t.Fatalf("read %q, %v", before, err)
		}
		if _, err := io.ReadFull(c, part); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(part, code) {
			t.Errorf("%d bytes at %d are others than were written", test.size, test.at)
		}
		n, astray := advised(t, part)
		if want := test.want; supported && n != uint64(want) || !supported && n != 0 || astray > 0 {
			t.Errorf("%d bytes at %d: huge pages for %d, want %d; %d begin elsewhere", test.size, test.at, n, want, astray)
		}
		if err := unix.Madvise(aligned[:7*hugePage], unix.MADV_NOHUGEPAGE); supported && err != nil {
			t.Fatal(err)
		}
	}
}
