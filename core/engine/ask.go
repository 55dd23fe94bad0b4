package engine

import "io"

// Ask is a Write that runs PostgreSQL on the caller's goroutine if nothing else needs the processor (pglite.Conn.Run), then writes to w
// whatever PostgreSQL has answered that may leave right away. So a small statement wakes no other goroutine. WriteTo, which another
// goroutine must have called with the same w, writes the rest; the two never write at the same time.
func (c *Conn) Ask(b []byte, w io.Writer) (int, error) {
	n, err := c.send(b, c.process.Run)
	if c.process.Answered() && !c.pass(w) {
		c.process.Announce()
	}
	return n, err
}

// pass writes PostgreSQL's answers to w. It never waits: where it would have to, it returns false.
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
