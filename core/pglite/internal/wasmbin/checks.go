package wasmbin

import (
	"cmp"
	"slices"
)

// GuardBytes is how much larger the memory of a rewritten main module is than the program believes: one page at its end
// that the program never asks for. It allows a bounds check to be raised. A host that grows the memory for the program
// grows it by this much more than the program requests.
const GuardBytes = pageBytes

// pageBytes is the unit of memory sizes.
const pageBytes = 64 << 10

// maxCheckedLocals bounds the number of locals of the functions that the pass looks at; one with more stays as it is.
const maxCheckedLocals = 4000

// checkStats counts the effects of the bounds check pass.
type checkStats struct {
	accesses int // loads and stores in live code
	raised   int // checks raised
	kept     int // locals kept across a merge
	elses    int // else made explicit
	zeroed   int // constant addresses based on the zero local
	skipped  int // functions with something unknown to the pass
}

func (s *checkStats) add(o checkStats) {
	s.accesses += o.accesses
	s.raised += o.raised
	s.kept += o.kept
	s.elses += o.elses
	s.zeroed += o.zeroed
	s.skipped += o.skipped
}

// source is the origin of knowledge about a pointer: a bounds check, a merge of control flow across which the local
// kept its value, or two other sources joined. Sources are made for everything and cost nothing until a later access
// demands them.
type source struct {
	a, b  *source
	kind  sourceKind
	used  bool
	local uint32
	at    int    // check: the access; merge: the end of the block
	ceil  uint64 // check: what the access needs
	want  uint64 // the largest ceiling demanded
	limit uint64 // the largest ceiling allowed
	taken *constant
}

type sourceKind uint8

const (
	sourceJoin sourceKind = iota
	sourceCheck
	sourceMerge
)

// constant is an access whose address is a constant.
type constant struct {
	push   instr // the i32.const
	access instr
	align  uint32
	offset uint32 // of the access based on the zero local
}

// demand notes that an access up to ceil relies on s.
func (s *source) demand(ceil uint64) {
	if s == nil || s.used && s.want >= ceil {
		return
	}
	s.used, s.want = true, max(s.want, ceil)
	s.a.demand(ceil)
	s.b.demand(ceil)
}

// arena allocates sources, and frees them all between functions.
type arena struct {
	chunks [][]source
	n      int
}

const arenaChunk = 4096

func (a *arena) reset() { a.n = 0 }

func (a *arena) new(s source) *source {
	if a.n/arenaChunk == len(a.chunks) {
		a.chunks = append(a.chunks, make([]source, arenaChunk))
	}
	p := &a.chunks[a.n/arenaChunk][a.n%arenaChunk]
	a.n++
	*p = s
	return p
}

// all calls f for each source since the last reset, in order.
func (a *arena) all(f func(*source)) {
	for i := range a.n {
		f(&a.chunks[i/arenaChunk][i%arenaChunk])
	}
}

// join joins two sources; nil stands for none.
func (a *arena) join(x, y *source) *source {
	switch {
	case x == y || y == nil:
		return x
	case x == nil:
		return y
	}
	return a.new(source{a: x, b: y, limit: min(x.limit, y.limit)})
}

// edit replaces bytes start..end of a module; edits at one place are applied in order of rank.
type edit struct {
	start, end int
	rank       int
	with       []byte
}

// Ranks of insertions at one place.
const (
	rankDecl  = iota // after the declarations of locals
	rankKeep         // after the end of a block
	rankRaise        // before an access
	rankPlain
)

func sortEdits(edits []edit) {
	slices.SortStableFunc(edits, func(x, y edit) int {
		return cmp.Or(cmp.Compare(x.start, y.start), cmp.Compare(x.rank, y.rank))
	})
}

// appendEdited appends the length of an edited function body and the body. start is the body's offset in the module;
// the edits are sorted.
func appendEdited(out, body []byte, start int, edits []edit) []byte {
	size := len(body)
	for _, e := range edits {
		size += len(e.with) - (e.end - e.start)
	}
	out = appendU32(out, uint32(size))
	done := 0
	for _, e := range edits {
		out = append(out, body[done:e.start-start]...)
		out = append(out, e.with...)
		done = e.end - start
	}
	return append(out, body[done:]...)
}

// edits turns the demands into changes of the body.
func (f *checkedFunc) edits() []edit {
	zero := uint32(len(f.slots) - 1)
	takeZero := func(c *constant) {
		f.stats.zeroed++
		f.out = append(f.out,
			edit{start: c.push.start, end: c.push.end, rank: rankPlain, with: appendU32([]byte{opLocalGet}, zero)},
			edit{start: c.access.start, end: c.access.end, rank: rankPlain,
				with: appendU32(appendU32([]byte{c.access.op}, c.align), c.offset)})
	}
	for _, c := range f.constants {
		takeZero(c)
	}
	f.sources.all(func(s *source) {
		switch {
		case !s.used:
		case s.kind == sourceMerge:
			f.stats.kept++
			with := appendU32([]byte{opLocalGet}, s.local)
			f.out = append(f.out, edit{start: s.at, end: s.at, rank: rankKeep, with: appendU32(append(with, opLocalSet), s.local)})
		case s.kind == sourceCheck:
			if s.taken != nil {
				takeZero(s.taken)
			}
			if s.want > s.ceil {
				f.stats.raised++
				with := appendU32([]byte{opLocalGet}, s.local)
				with = appendU32(append(with, opI32Load8U, 0), uint32(s.want-1))
				f.out = append(f.out, edit{start: s.at, end: s.at, rank: rankRaise, with: append(with, opDrop)})
			}
		}
	})
	if f.stats.zeroed > 0 {
		f.out = append(f.out,
			edit{start: f.declStart, end: f.declCountEnd, rank: rankPlain, with: appendU32(nil, f.decls+1)},
			edit{start: f.declEnd, end: f.declEnd, rank: rankDecl, with: []byte{1, byte(I32)}})
	}
	return f.out
}
