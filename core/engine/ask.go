package engine

import "io"

// Ask is Write that has PostgreSQL run on the caller's goroutine if nobody else needs the processor (pglite.Conn.Run), and then gives w,
// as WriteTo does, what it has answered and may leave at once: no other goroutine is woken for a small statement. The rest is for WriteTo,
// which another goroutine must have called with the same w; they take turns.
func (c *Conn) Ask(b []byte, w io.Writer) (int, error) {
	n, err := c.send(b, c.process.Run)
	if c.process.Answered() && !c.pass(w) {
		c.process.Announce()
	}
	return n, err
}

// pass gives w what PostgreSQL has answered. It does not wait: if it would have to, it says no.
func (c *Conn) pass(w io.Writer) bool {
	if !c.reading.TryLock() {
		return false
	}
	defer c.reading.Unlock()
	for c.process.Answered() {
		if len(c.rest) > 0 || c.failed != nil {
			return false
		}
		if !c.hasAnswer {
			answer, err := c.receive(noWait)
			if err != nil {
				return false
			}
			c.answer, c.hasAnswer = answer, true
		}
		if at := mark(c.answer.Mark); !at.early() && !c.e.commits.mayLeave(at) {
			return false
		}
		if err := c.next(c.read.context()); err != nil {
			return false
		}
		n, err := w.Write(c.rest)
		c.rest = c.rest[n:]
		if err != nil {
			c.rest, c.failed = nil, err
			return false
		}
	}
	return true
}
