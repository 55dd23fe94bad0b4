package engine

import "io"

// Ask is a Write that runs PostgreSQL on the caller's goroutine if nobody else needs the processor (pglite.Conn.Run), and then writes to w
// what it has answered and may leave at once: for a small statement no other goroutine is woken. The rest is written by WriteTo, which
// another goroutine must have called with the same w; the two never write at once.
func (c *Conn) Ask(b []byte, w io.Writer) (int, error) {
	n, err := c.send(b, c.process.Run)
	if c.process.Answered() && !c.pass(w) {
		c.process.Announce()
	}
	return n, err
}

// pass writes to w what PostgreSQL has answered. It never waits: if it would have to, it returns false.
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
