package engine

import "blobpglite/core/pglite"

// mark is what an answer waits for. It is made where PostgreSQL gives the answer, and travels with it. A client's answers leave in order,
// so a mark need not repeat what an earlier one has waited for.
type mark uint64

const (
	// early: the answer reports nothing but an open transaction, and waits for nothing.
	early mark = 1 << 63
	// wrote: the process itself has written something since its last answer: a commit, for example.
	wrote mark = 1 << 62
	// number is the rest: the committer's number of an operation of the log, or of a sync.
	number = wrote - 1
)

func (m mark) early() bool    { return m&early != 0 }
func (m mark) wrote() bool    { return m&wrote != 0 }
func (m mark) number() uint64 { return uint64(m & number) }

// with returns the mark of two answers that leave together.
func (m mark) with(n mark) mark {
	return m&n&early | (m|n)&wrote | max(m&number, n&number)
}

// sight knows what processes can have seen of each other. The cluster's lock guards it.
//
// A process sees what others have committed, and nothing else of what they write. PostgreSQL counts the transactions that have ended. It
// makes one visible when the committing process has written and synced its record (or earlier with synchronous_commit=off, which promises
// less), while no other process runs. So when the count has risen, everything that clients' processes have written so far may have been
// seen; while it has not, nothing new has been seen. So a session that loads gigabytes in one transaction delays no other session's
// answers.
type sight struct {
	completions uint64
	visible     uint64 // the last number that may have been seen
}

// notice is called before something new is written, and before an answer is marked. written is the last number so far.
func (s *sight) notice(c *pglite.Cluster, written uint64) {
	if n := c.Completions(); n != s.completions {
		s.completions, s.visible = n, written
	}
}

// answer marks an answer. Process.Note is the number of what the process itself wrote last, since its last answer outside a block. That
// counts too, because PostgreSQL also promises durability for things that are not transactions.
func (s *sight) answer(p *pglite.Process, inBlock bool, answers Answers) mark {
	m := mark(max(s.visible, p.Note))
	if inBlock {
		if answers == AnswersEarly {
			m |= early
		}
		return m
	}
	if p.Note != 0 {
		m |= wrote
	}
	p.Note = 0
	return m
}

// background says whether no answer has to wait for what a process writes, because none of it becomes visible to others. Commits with
// synchronous_commit=off that such a process writes become durable a moment after PostgreSQL's walwriter has written them.
func background(p *pglite.Process) bool {
	return p == nil || p.Kind() != pglite.KindClient && p.Kind() != pglite.KindWorker
}
