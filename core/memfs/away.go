package memfs

import (
	"errors"
	"fmt"
	"syscall"
)

// Origin says where the chunks of a file are kept: in a layer, for example. It never changes, so any number of trees and goroutines may
// share it. A file has at most one; a clone's file has the same one.
type Origin interface {
	// Address returns where a chunk is kept, as a number that only a Source understands. It identifies 8 KiB of bytes that never change,
	// with zeros after the end of the file. Negative (Nowhere): the chunk is not kept, or was a hole.
	Address(chunk int64) int64
}

// RunOrigin is an Origin that can return the addresses of several chunks in one call.
type RunOrigin interface {
	Origin
	// Run returns the Address of a chunk, and how many chunks from it on, at least one, have consecutive addresses; or how many have none.
	Run(chunk int64) (address, count int64)
}

// addresses looks up the addresses of ascending chunks in an origin.
type addresses struct {
	origin           Origin
	first, count, at int64 // what is known about a RunOrigin
}

// address is Origin.Address; without an origin, Nowhere.
func (p *addresses) address(chunk int64) int64 {
	if d := chunk - p.first; d >= 0 && d < p.count {
		if p.at < 0 {
			return Nowhere
		}
		return p.at + d
	}
	switch o := p.origin.(type) {
	case nil:
		return Nowhere
	case RunOrigin:
		p.first = chunk
		p.at, p.count = o.Run(chunk)
		return max(p.at, Nowhere)
	default:
		return max(o.Address(chunk), Nowhere)
	}
}

// Nowhere is the address of a chunk without one.
const Nowhere int64 = -1

// Away is a chunk whose bytes are not in memory.
type Away struct {
	Chunk   int64 // its index in the file
	Address int64 // where its file's Origin has it; Nowhere: it cannot be fetched
}

// ErrAway: an operation needs chunks whose bytes are away. Every such error is an *AwayError.
var ErrAway = errors.New("its bytes are away")

// AwayError names the chunks that are away and that an operation needs. The operation has changed nothing: fetch the chunks, put them in
// place (File.Fill), and repeat it.
type AwayError struct{ Missing []Away }

func (e *AwayError) Error() string {
	return fmt.Sprintf("%d chunks of the file are away, the first is chunk %d", len(e.Missing), e.Missing[0].Chunk)
}

// Is reports whether target is ErrAway.
func (e *AwayError) Is(target error) bool { return target == ErrAway }

// away is the target of slots whose bytes are away. It is never read or written; its bytes are conspicuous, so that tests would notice.
var away = func() *[ChunkSize]byte {
	var c [ChunkSize]byte
	for i := range c {
		c[i] = 0xa5
	}
	return &c
}()

// resident reports whether the slot has bytes in memory.
func (s slot) resident() bool { return s.data != nil && s.data != away && s.data != spilled }

// notAway accounts for a chunk that is no longer away.
func (f *FS) notAway(in *inode) {
	in.away--
	f.awayChunks--
}

// address returns where the file's origin has a chunk.
func (in *inode) address(chunk int64) int64 {
	if in.origin == nil {
		return Nowhere
	}
	return max(in.origin.Address(chunk), Nowhere)
}

// isAway reports whether a chunk is away.
func (in *inode) isAway(chunk int64) bool {
	return chunk >= 0 && chunk < int64(len(in.table)) && in.table[chunk].data == away
}

// toRead returns the chunks that a read needs and that are away.
func (in *inode) toRead(off, length int64) (missing []Away) {
	if in.away == 0 || off < 0 {
		return nil
	}
	end := min(off+length, in.size)
	for i := off / ChunkSize; i*ChunkSize < end && i < int64(len(in.table)); i++ {
		if in.table[i].data == away {
			missing = append(missing, Away{i, in.address(i)})
		}
	}
	return missing
}

// toWrite returns the chunks that a write needs and that are away: the first and the last, if it covers them only in part.
func (in *inode) toWrite(off, length int64) (missing []Away) {
	if in.away == 0 || off < 0 || length <= 0 {
		return nil
	}
	end := off + length
	first, last := off/ChunkSize, (end-1)/ChunkSize
	if in.isAway(first) && (off > first*ChunkSize || end < min((first+1)*ChunkSize, in.size)) {
		missing = append(missing, Away{first, in.address(first)})
	}
	if last != first && in.isAway(last) && end < min((last+1)*ChunkSize, in.size) {
		missing = append(missing, Away{last, in.address(last)})
	}
	return missing
}

// toTruncate returns the chunk that a truncation needs: the one in which the file is cut.
func (in *inode) toTruncate(size int64) (missing []Away) {
	if at := size / ChunkSize; in.away > 0 && size >= 0 && size < in.size && size%ChunkSize != 0 && in.isAway(at) {
		missing = []Away{{at, in.address(at)}}
	}
	return missing
}

// needs returns an *AwayError if chunks are missing.
func needs(missing []Away) error {
	if len(missing) == 0 {
		return nil
	}
	return &AwayError{missing}
}

// Missing returns the chunks, in order, that are away and that ReadAt of length bytes at byte off needs; nil: none.
func (f *File) Missing(off, length int64) []Away { return f.in.toRead(off, length) }

// MissingWrite is Missing for WriteAt: two chunks at most, because a chunk that is wholly overwritten need not be fetched.
func (f *File) MissingWrite(off, length int64) []Away { return f.in.toWrite(off, length) }

// MissingTruncate is Missing for Truncate: the one chunk in which the file is cut; nil: none.
func (f *File) MissingTruncate(size int64) []Away { return f.in.toTruncate(size) }

// InstallAway makes count chunks from index first on away. The size must be set before (Truncate), and the origin before they are read
// (SetOrigin). They count towards MaxBytes as if they were in memory. Like InstallChunk, it is for loading a tree. Errors: EBADF, EINVAL
// (not a regular file, outside the size), ENOSPC.
func (f *File) InstallAway(first, count int64) error {
	errno := f.canWrite()
	in := f.in
	switch {
	case errno != 0:
	case !in.isRegular() || first < 0 || count < 0 || first+count > chunkCount(in.size):
		errno = syscall.EINVAL
	default:
		f.fs.ownTable(in, first+count)
		errno = f.fs.installAway(in, in.table[first:first+count])
	}
	if errno != 0 {
		return f.fail("install away chunks", errno)
	}
	return nil
}

func (f *FS) installAway(in *inode, slots []slot) syscall.Errno {
	holes := int64(0)
	for _, s := range slots {
		if s.data == nil {
			holes++
		}
	}
	if !f.room(holes) {
		return syscall.ENOSPC
	}
	for i := range slots {
		f.releaseChunk(in, slots[i])
		slots[i] = slot{data: away, gen: f.gen}
	}
	n := int64(len(slots))
	in.chunks += n
	in.away += n
	f.usedBytes += n * ChunkSize
	f.awayChunks += n
	return 0
}

// SetOrigin sets where the file's away chunks are, in a tree that is being loaded. No chunk counts as clean before SettleAll or Settle.
// Errors: EBADF, EINVAL (not a regular file, or the origin lacks an away chunk).
func (f *File) SetOrigin(o Origin) error {
	errno := f.canWrite()
	if errno == 0 && (!f.in.isRegular() || !f.in.has(o)) {
		errno = syscall.EINVAL
	}
	if errno != 0 {
		return f.fail("set the origin", errno)
	}
	f.in.origin, f.in.settled = o, 0
	return nil
}

// has reports whether an origin has every away chunk of the file.
func (in *inode) has(o Origin) bool {
	left, where := in.away, addresses{origin: o}
	for i := int64(0); left > 0; i++ {
		if in.table[i].data != away {
			continue
		}
		if left--; where.address(i) < 0 {
			return false
		}
	}
	return true
}

// Arrived puts a chunk that was fetched from address in place, and reports whether it did: only if the chunk is still away and its origin
// still has it there, not if it was written or cut off in the meantime. If it did, the tree owns data from now on, as with InstallChunk.
// ChangedSince does not count it as a change. Hooks are not called.
func (f *File) Arrived(chunk, address int64, data *[ChunkSize]byte) bool {
	in := f.in
	if f.closed || !in.isAway(chunk) || address < 0 || in.address(chunk) != address {
		return false
	}
	f.fs.ownTable(in, 0)
	if end := in.size - chunk*ChunkSize; end < ChunkSize {
		clear(data[max(end, 0):])
	}
	in.table[chunk].data = data
	f.fs.notAway(in)
	in.unseen(chunk)
	return true
}

// fillGap is how many other chunks of a file may lie between two fetched ones if both are to be put in place.
const fillGap = 32

// Fill puts in place what a Source returned for missing chunks of the file, and their away neighbors that came with it, across gaps of up
// to fillGap chunks. It returns how many chunks it took. The tree owns all bytes of got from now on.
func (f *File) Fill(missing []Away, got []Fetched) int {
	data := make(map[int64]*[ChunkSize]byte, len(got))
	for _, g := range got {
		data[g.Address] = g.Data
	}
	n := 0
	take := func(chunk int64) bool {
		address := Nowhere
		if f.in.isAway(chunk) {
			address = f.in.address(chunk)
		}
		d := data[address]
		if d == nil || !f.Arrived(chunk, address, d) {
			return false
		}
		delete(data, address) // a fetched chunk goes into one slot only
		n++
		return true
	}
	for _, m := range missing {
		take(m.Chunk)
	}
	// Between chunks that came together there may be chunks that were written since, or are in another layer.
	around := func(chunk, step int64) {
		for i, not := chunk+step, 0; len(data) > 0 && not < fillGap; i += step {
			if not++; take(i) {
				not = 0
			}
		}
	}
	for i, m := range missing {
		if i == 0 || missing[i-1].Chunk != m.Chunk-1 {
			around(m.Chunk, -1)
		}
		if i == len(missing)-1 || missing[i+1].Chunk != m.Chunk+1 {
			around(m.Chunk, 1)
		}
	}
	return n
}

// Partial reports whether any of the file's chunks is away.
func (f *File) Partial() bool { return f.in.away > 0 }
