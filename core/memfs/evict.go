package memfs

// How often a chunk was read since it arrived, two bits for each chunk of a file that has an origin. A chunk that was read a second time is
// spared once. A chunk that was read once, like all of a large table by a scan, is evicted when the hand first reaches it.
const (
	seenOnce  = 1
	seenAgain = 2

	seenBits    = 2
	seenPerWord = 64 / seenBits
	seenMask    = 1<<seenBits - 1
)

// see notes that a chunk was read. It is inlined, and does nothing for files without an origin.
func (in *inode) see(chunk int64) {
	if w := uint64(chunk) / seenPerWord; w < uint64(len(in.seen)) {
		shift := uint64(chunk) % seenPerWord * seenBits
		if in.seen[w]>>shift&seenMask < seenAgain {
			in.seen[w] += 1 << shift
		}
	}
}

// unseen resets the count of a chunk that has arrived.
func (in *inode) unseen(chunk int64) {
	in.watch()
	in.seen[chunk/seenPerWord] &^= seenMask << (chunk % seenPerWord * seenBits)
}

// pass reports whether a chunk was read again; it is then spared, once.
func (in *inode) pass(chunk int64) bool {
	w, shift := chunk/seenPerWord, chunk%seenPerWord*seenBits
	if w >= int64(len(in.seen)) || in.seen[w]>>shift&seenMask < seenAgain {
		return false
	}
	in.seen[w] -= 1 << shift
	return true
}

// watch begins to count the reads of the file's chunks.
func (in *inode) watch() {
	if n := (len(in.table) + seenPerWord - 1) / seenPerWord; n > len(in.seen) {
		in.seen = append(in.seen, make([]uint64, n-len(in.seen))...)
	}
}

// Eviction holds the options of Evict.
type Eviction struct {
	// Budget is how many bytes of the tree may be resident.
	Budget int64
	// Steps bounds how many chunks one call looks at, so that the tree's owner is not held up; the next call continues from there. 0: as
	// many as it takes, at most the whole tree twice.
	Steps int64
	// Keep says, by path, which files stay in memory: those that the host itself reads, or that PostgreSQL must always be able to read.
	// Nil: none. A file without a name always stays.
	Keep func(path string) bool
}

// hand is where the next eviction begins: a file's number, and a chunk in it.
type hand struct {
	ino   int
	chunk int64
}

// Evict drops the bytes of chunks, in turn, like the hand of a clock, until the tree is within the budget. It drops chunks that their
// files' origins have and that were not written since (see Settle), and spares a chunk that was read more than once since it arrived, or
// since the hand last passed. It returns how many bytes it dropped. If everything resident is new (UnsettledBytes), it looks at all of it
// in vain. Views returned by Extents are no longer valid.
func (f *FS) Evict(e Eviction) (freed int64) {
	left := e.Steps
	if left <= 0 {
		left = 2*f.slots() + 2
	}
	for range 2*len(f.inodes) + 2 { // a file that is gone or empty does not count as a step
		if f.ResidentBytes() <= e.Budget || left <= 0 {
			break
		}
		if f.hand.ino >= len(f.inodes) {
			f.hand = hand{}
		}
		if in := f.inodes[f.hand.ino]; in != nil && f.evictable(in, e.Keep) {
			freed += f.sweep(in, e.Budget, &left)
			if f.hand.chunk < int64(len(in.table)) {
				continue
			}
		}
		f.hand = hand{ino: f.hand.ino + 1}
	}
	return freed
}

// slots returns how many chunks an eviction may look at.
func (f *FS) slots() (n int64) {
	for _, in := range f.inodes {
		if in != nil && in.origin != nil {
			n += int64(len(in.table))
		}
	}
	return n
}

// evictable reports whether a file may have chunks to evict.
func (f *FS) evictable(in *inode, keep func(string) bool) bool {
	if in.origin == nil || in.settled == 0 || in.chunks == in.away {
		return false
	}
	if keep == nil {
		return true
	}
	return !f.left(in, keep)
}

// sweep moves the hand over a file.
func (f *FS) sweep(in *inode, budget int64, left *int64) (freed int64) {
	in.watch()
	for ; f.hand.chunk < int64(len(in.table)) && *left > 0 && f.ResidentBytes() > budget; f.hand.chunk++ {
		*left--
		i := f.hand.chunk
		if !in.table[i].resident() {
			continue
		}
		if _, ok := in.clean(i); !ok || in.pass(i) {
			continue
		}
		f.ownTable(in, 0)
		s := &in.table[i]
		f.keepForReuse(*s)
		s.data = away
		in.away++
		f.awayChunks++
		freed += ChunkSize
	}
	return freed
}
