package memfs

// How often a chunk was read since it came, two bits for each chunk of a file that has an origin: whoever is read a second time is wanted
// again, and is passed over once. What is read once, as all of a large table is by a scan, goes when its turn comes.
const (
	seenOnce  = 1
	seenAgain = 2

	seenBits    = 2
	seenPerWord = 64 / seenBits
	seenMask    = 1<<seenBits - 1
)

// see notes that a chunk was read. It is inlined, and nothing for files that are not evicted from.
func (in *inode) see(chunk int64) {
	if w := uint64(chunk) / seenPerWord; w < uint64(len(in.seen)) {
		shift := uint64(chunk) % seenPerWord * seenBits
		if in.seen[w]>>shift&seenMask < seenAgain {
			in.seen[w] += 1 << shift
		}
	}
}

// unseen begins anew for a chunk that came.
func (in *inode) unseen(chunk int64) {
	in.watch()
	in.seen[chunk/seenPerWord] &^= seenMask << (chunk % seenPerWord * seenBits)
}

// pass takes one turn off a chunk that was read again; false: it has none.
func (in *inode) pass(chunk int64) bool {
	w, shift := chunk/seenPerWord, chunk%seenPerWord*seenBits
	if w >= int64(len(in.seen)) || in.seen[w]>>shift&seenMask < seenAgain {
		return false
	}
	in.seen[w] -= 1 << shift
	return true
}

// watch has all chunks of the file noted.
func (in *inode) watch() {
	if n := (len(in.table) + seenPerWord - 1) / seenPerWord; n > len(in.seen) {
		in.seen = append(in.seen, make([]uint64, n-len(in.seen))...)
	}
}

// Eviction says what Evict is to do.
type Eviction struct {
	// Budget is how many bytes of the tree may be resident.
	Budget int64
	// Steps is at most how many chunks are looked at, so that the tree's owner is not held up; 0: as many as it takes, which is all of
	// the tree twice. The next call goes on from there.
	Steps int64
	// Keep names files that are left in memory, by their paths: those that the host reads by itself, say, or that PostgreSQL must not
	// fail to read. Nil: none. A file without a name is kept.
	Keep func(path string) bool
}

// hand is where the next eviction begins: a file's number, and a chunk of it.
type hand struct {
	ino   int
	chunk int64
}

// Evict turns chunks away until the budget is kept, in turn, as a clock's hand goes over them: those that the origins of their files have
// as they are, and that were not written since (see Settle). What was read more than once since it came, or since the hand passed, is
// passed over. It returns how many bytes it has turned away; where all that is resident is new (UnsettledBytes) it goes over all for nothing. Views that Extents gave are not valid any more.
func (f *FS) Evict(e Eviction) (freed int64) {
	left := e.Steps
	if left <= 0 {
		left = 2*f.slots() + 2
	}
	for range 2*len(f.inodes) + 2 { // a file that is gone or has nothing is no step
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

// slots is how many chunks an eviction may look at.
func (f *FS) slots() (n int64) {
	for _, in := range f.inodes {
		if in != nil && in.origin != nil {
			n += int64(len(in.table))
		}
	}
	return n
}

// evictable says whether there may be something to turn away in a file.
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
