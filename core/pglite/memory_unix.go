//go:build unix

package pglite

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"blobpglite/core/pglite/internal/lean"
)

// A memory lies in reserved, inaccessible address space, of which the memory's own part is made accessible as it grows. Code compiled
// without bounds checks needs lean.GuardBefore and lean.Reach around the memory: any access outside it faults, at the byte.

// reservation is address space, and the part of it that a memory may grow into.
type reservation struct{ all, region []byte }

// newReservation reserves size bytes of address space, guarded if code without bounds checks may use it.
func newReservation(size uint64, guarded bool) (reservation, error) {
	before, reach := uint64(0), size
	if guarded {
		before, reach = lean.GuardBefore, lean.Reach
	}
	all, err := unix.Mmap(-1, 0, int(before+reach), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return reservation{}, fmt.Errorf("%w: a process of PostgreSQL reserves %d bytes: %w; %s", ErrAddressSpace, before+reach, err, moreAddressSpace())
	}
	return reservation{all, all[before : before+size : before+size]}, nil
}

func (r reservation) free() { _ = unix.Munmap(r.all) }

// leastAddressSpace is what a program needs, with PostgreSQL's own processes and two clients, for code with bounds checks.
const leastAddressSpace = 6 * maxMemory

// addressSpace returns the limit of a process's address space, in bytes.
func addressSpace() (bytes uint64, limited bool) {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_AS, &limit)
	return limit.Cur, err == nil && limit.Cur != unix.RLIM_INFINITY
}

// moreAddressSpace says what to do when there is not enough.
func moreAddressSpace() string {
	if limit, limited := addressSpace(); limited {
		return fmt.Sprintf("all have %d bytes (ulimit -v): start it under \"ulimit -v unlimited\", or allow fewer clients", limit)
	}
	return "there is no limit (ulimit -v), so it has too many mappings (sysctl vm.max_map_count), or too many clients: allow fewer"
}

// enoughAddressSpace returns an error if PostgreSQL would not start, or would start and then refuse its clients.
func enoughAddressSpace() error {
	if limit, limited := addressSpace(); limited && limit < leastAddressSpace {
		return fmt.Errorf("%w: it is limited to %d bytes (ulimit -v), and PostgreSQL with two clients needs %d, %d for each process: start it under \"ulimit -v unlimited\"",
			ErrAddressSpace, limit, uint64(leastAddressSpace), uint64(maxMemory))
	}
	return nil
}

// guardable says why a memory cannot be guarded, or why code cannot be compiled without bounds checks.
func guardable() error {
	if err := lean.Available(); err != nil {
		return err
	}
	if limit, limited := addressSpace(); limited {
		return fmt.Errorf("address space is limited to %d bytes (ulimit -v), and each session needs %d", limit, lean.GuardBefore+lean.Reach)
	}
	r, err := newReservation(maxMemory, true)
	if err == nil {
		r.free()
	}
	return err
}

// open makes a part of a memory accessible.
func open(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	return unix.Mprotect(b, unix.PROT_READ|unix.PROT_WRITE)
}

// reserve is for a memory of zeros that costs nothing until it is touched.
func (l *linearMemory) reserve(size uint64, guarded bool) error {
	r, err := newReservation(size, guarded)
	if err != nil {
		return err
	}
	preferHugePages(r.region, smallStart)
	l.region, l.free = r.region, r.free
	return nil
}

// reserveFile is for a memory that will become an image: it is backed by a memory file.
func (l *linearMemory) reserveFile(size uint64, guarded bool) error {
	r, err := newReservation(size, guarded)
	if err != nil {
		return err
	}
	file, err := memoryFile("the postmaster")
	if err == nil {
		if err = file.Truncate(int64(size)); err == nil {
			err = mapFile(r.region, file, 0, unix.PROT_NONE, unix.MAP_SHARED)
		}
		if err != nil {
			err = errors.Join(fmt.Errorf("map a memory file of %d bytes: %w", size, err), file.Close())
		}
	}
	if err != nil {
		r.free()
		return err
	}
	l.region, l.free, l.file = r.region, r.free, file
	return nil
}

// mapFile replaces memory with a piece of a file.
func mapFile(at []byte, file *os.File, off int64, protection, kind int) error {
	_, err := unix.MmapPtr(int(file.Fd()), off, firstByte(at), uintptr(len(at)), protection, kind|unix.MAP_FIXED|unix.MAP_NORESERVE)
	return err
}

// mapZeros replaces memory with zeros.
func mapZeros(at []byte) error {
	_, err := unix.MmapPtr(-1, 0, firstByte(at), uintptr(len(at)), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED|unix.MAP_NORESERVE)
	return err
}
