//go:build unix

package pglite

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"blobpglite/core/pglite/internal/lean"
)

// A memory lies in a reservation of address space without access, of which the memory's own part is opened as it grows. Code that
// is compiled without bounds checks needs lean.GuardBefore and lean.Reach around it: what it reads or writes outside of the
// memory faults, at the byte.

// reservation is address space, and the part of it that a memory may grow to.
type reservation struct{ all, region []byte }

// newReservation reserves size bytes of address space, guarded if code without bounds checks may run on it.
func newReservation(size uint64, guarded bool) (reservation, error) {
	before, reach := uint64(0), size
	if guarded {
		before, reach = lean.GuardBefore, lean.Reach
	}
	all, err := unix.Mmap(-1, 0, int(before+reach), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return reservation{}, fmt.Errorf("reserve %d bytes of address space for an instance's memory: %w", before+reach, err)
	}
	return reservation{all, all[before : before+size : before+size]}, nil
}

func (r reservation) free() { _ = unix.Munmap(r.all) }

// guardable says why a memory cannot be guarded, or code not be compiled without bounds checks.
func guardable() error {
	if err := lean.Available(); err != nil {
		return err
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &limit); err != nil || limit.Cur != unix.RLIM_INFINITY {
		return fmt.Errorf("address space is limited to %d bytes (ulimit -v), and each session needs %d", limit.Cur, lean.GuardBefore+lean.Reach)
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

// reserveFile is for a memory that becomes an image: it is the content of a memory file.
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

// mapFile puts a piece of a file in the place of memory.
func mapFile(at []byte, file *os.File, off int64, protection, kind int) error {
	_, err := unix.MmapPtr(int(file.Fd()), off, firstByte(at), uintptr(len(at)), protection, kind|unix.MAP_FIXED|unix.MAP_NORESERVE)
	return err
}

// mapZeros puts memory of zeros in the place of memory.
func mapZeros(at []byte) error {
	_, err := unix.MmapPtr(-1, 0, firstByte(at), uintptr(len(at)), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED|unix.MAP_NORESERVE)
	return err
}
