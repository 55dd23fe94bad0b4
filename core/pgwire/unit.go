package pgwire

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/engine"
)

// A unit is what is run at once: a simple query, or the messages of an extended one up to its Sync or Flush.

// statement is a prepared statement of a client.
type statement struct {
	key   string // its name in the session
	parse []byte // the message that makes it
	uses  hints
	made  uint64 // session.wiped when it was
}

// handle deals with one message.
func (c *client) handle(kind byte, body, message []byte) error {
	switch kind {
	case 'Q':
		text, ok := bytes.CutSuffix(body, []byte{0})
		if !ok || bytes.IndexByte(text, 0) >= 0 {
			return failure("08P01", "a query that does not end where it says")
		}
		c.uses |= c.hints(text)
		if renamed, ok := c.deallocate(text); ok {
			message = renamed
		}
		c.begins = len(c.unit) == 0 && begins(text) // behind an extended query without a Sync there is more to tell
		c.unit = append(c.unit, message...)
		return c.run()
	case 'F':
		c.uses |= usesAnything
		c.unit = append(c.unit, message...)
		return c.run()
	case 'P', 'B', 'D', 'E', 'C':
		if err := c.extended(kind, body, message); err != nil {
			return err
		}
		if len(c.unit) < early {
			return nil
		}
		return c.run()
	case 'H', 'S':
		c.asks = kind == 'H'
		c.unit = append(c.unit, message...)
		return c.run()
	case 'd', 'c', 'f':
		return nil // of a COPY that has failed
	}
	return failure("08P01", "unknown message type %q", kind)
}

// hints looks at a text, and notes what it listens to.
func (c *client) hints(text []byte) hints {
	h := hintsOf(text)
	if h&usesListen != 0 {
		c.wanted = append(c.wanted, listens(text)...)
	}
	if h&usesSettings != 0 || startsWithSet(text) {
		c.nameSettings(text)
	}
	return h
}

// nameSettings notes what may be the names of custom settings in a text, or in parameters. They are the unit's until the
// client has its turn: before, whoever has it may be saving the client's state.
func (c *client) nameSettings(text []byte) {
	for _, name := range customName.FindAll(text, maxCustom) {
		if len(c.named) >= maxCustom {
			return
		}
		c.named = append(c.named, string(bytes.ToLower(name)))
	}
}

// keepNames makes the names in the unit the client's, in its turn.
func (c *client) keepNames() {
	for _, name := range c.named {
		if len(c.custom) >= maxCustom {
			break
		}
		if c.custom == nil {
			c.custom = map[string]bool{}
		}
		c.custom[name] = true
	}
	c.named = c.named[:0]
}

// maxCustom bounds how many custom settings of a client are kept for it.
const maxCustom = 100

// extended translates a message of an extended query: the names of statements.
func (c *client) extended(kind byte, body, message []byte) error {
	unreadable := func(err error) error { return failure("08P01", "message %q cannot be read: %v", kind, err) }
	switch kind {
	case 'P':
		var m pgproto3.Parse
		if err := m.Decode(body); err != nil {
			return unreadable(err)
		}
		return c.parse(&m)
	case 'B':
		portal, rest, ok := cutString(body)
		name, rest, ok2 := cutString(rest)
		if !ok || !ok2 {
			return unreadable(errors.New("a name does not end"))
		}
		key := c.names.key(string(name))
		if st := c.lookup(string(name)); st != nil {
			c.remake(st)
			c.remember(string(portal), st.uses)
			if st.uses&usesSettings != 0 {
				c.nameSettings(rest)
			}
		}
		c.addMessage('B', portal, []byte{0}, []byte(key), []byte{0}, rest)
	case 'D', 'C':
		if len(body) < 2 || body[0] != 'S' && body[0] != 'P' || body[len(body)-1] != 0 {
			return unreadable(errors.New("neither a statement nor a portal"))
		}
		if body[0] == 'P' {
			if kind == 'C' {
				c.expect = append(c.expect, expected{shown: true})
			}
			c.unit = append(c.unit, message...)
			return nil
		}
		name := string(body[1 : len(body)-1])
		if kind == 'C' {
			c.expect = append(c.expect, expected{shown: true, closes: true, name: name})
		} else if st := c.lookup(name); st != nil {
			c.remake(st)
		}
		c.addMessage(kind, []byte{'S'}, []byte(c.names.key(name)), []byte{0})
	case 'E':
		portal, _, ok := cutString(body)
		if !ok {
			return unreadable(errors.New("a name does not end"))
		}
		c.uses |= c.portals[string(portal)]
		c.unit = append(c.unit, message...)
	}
	return nil
}

// parse prepares a statement. The unnamed one has a name in the session, since another client may come before it is
// used; so it has to be closed before.
func (c *client) parse(m *pgproto3.Parse) error {
	name := m.Name
	if name != "" && len(c.statements) >= maxStatements && c.statements[name] == nil {
		return failure("53400", "a connection may have %d prepared statements; close some, or connect again", maxStatements)
	}
	key, again := c.names.add(name, c.live)
	st := &statement{key: key, uses: c.hints([]byte(m.Query)), made: c.session.wiped.Load()}
	if name == "" || again {
		c.addMessage('C', []byte{'S'}, []byte(st.key), []byte{0})
		c.expect = append(c.expect, expected{})
	}
	m.Name = st.key
	var err error
	if st.parse, err = m.Encode(nil); err != nil {
		return failure("54000", "a statement that cannot be kept: %v", err)
	}
	c.unit = append(c.unit, st.parse...)
	c.expect = append(c.expect, expected{shown: true, name: name, makes: st})
	return nil
}

// live are the names that are in use, in this unit too.
func (c *client) live() map[string]bool {
	all := map[string]bool{}
	for name := range c.statements {
		all[name] = true
	}
	for _, e := range c.expect {
		all[e.name] = true
	}
	return all
}

// remake parses a statement again that somebody's DISCARD ALL has removed.
func (c *client) remake(st *statement) {
	if now := c.session.wiped.Load(); st.made != now {
		c.addMessage('C', []byte{'S'}, []byte(st.key), []byte{0})
		c.unit = append(c.unit, st.parse...)
		c.expect = append(c.expect, expected{}, expected{makes: st, again: true})
	}
}

// expected is the answer to a Parse or Close of the unit, and what it means.
type expected struct {
	shown  bool // to the client
	name   string
	makes  *statement // of a Parse
	again  bool       // it is the client's already
	closes bool       // of a Close of the client's own
}

// lookup finds a statement, also one that is made in this unit.
func (c *client) lookup(name string) *statement {
	for i := len(c.expect) - 1; i >= 0; i-- {
		if e := c.expect[i]; e.name == name && (e.makes != nil || e.closes) && !e.again {
			return e.makes
		}
	}
	return c.statements[name]
}

// met notes an answer to a Parse or Close, and says whether the client is to see it.
func (c *client) met() bool {
	if len(c.expect) == 0 {
		return true
	}
	e := c.expect[0]
	c.expect = c.expect[1:]
	switch {
	case e.again:
		e.makes.made = c.session.wiped.Load()
	case e.makes != nil:
		e.makes.made = c.session.wiped.Load()
		c.statements[e.name] = e.makes
	case e.closes:
		delete(c.statements, e.name)
	}
	return e.shown
}

func (c *client) remember(portal string, uses hints) {
	if c.portals == nil {
		c.portals = map[string]hints{}
	}
	c.portals[portal] = uses
}

// addMessage adds a message to the unit.
func (c *client) addMessage(kind byte, parts ...[]byte) {
	size := 4
	for _, p := range parts {
		size += len(p)
	}
	c.unit = binary.BigEndian.AppendUint32(append(c.unit, kind), uint32(size))
	for _, p := range parts {
		c.unit = append(c.unit, p...)
	}
}

func cutString(b []byte) (s, rest []byte, ok bool) { return bytes.Cut(b, []byte{0}) }

// deallocate translates `DEALLOCATE name` of a statement that was prepared by the protocol.
func (c *client) deallocate(text []byte) ([]byte, bool) {
	const longest = 200
	if len(text) > longest {
		return nil, false
	}
	words := words(text)
	if len(words) == 3 && words[1] == "prepare" {
		words = append(words[:1], words[2])
	}
	if len(words) != 2 || words[0] != "deallocate" || c.statements[words[1]] == nil {
		return nil, false
	}
	delete(c.statements, words[1])
	message, err := (&pgproto3.Query{String: "DEALLOCATE " + quoteIdent(c.names.key(words[1]))}).Encode(nil)
	return message, err == nil
}

// run runs the unit: in the client's turn, which it takes if it has none and gives up when it is in no transaction.
func (c *client) run() (err error) {
	defer func() {
		c.unit, c.expect, c.uses, c.begins, c.asks, c.named = c.unit[:0], nil, 0, false, false, c.named[:0]
	}()
	if cap(c.unit) > maxKept {
		defer func() { c.unit = nil }()
	}
	if err := c.takeTurn(); err != nil {
		var f *failed
		if errors.As(err, &f) && f.code == waitedTooLong {
			return c.sayBusy(f)
		}
		return err
	}
	c.keepNames()
	c.answers.begin(c)
	given := false
	c.session.running(c)
	answer, err := c.turn.Run(c.ctx, engine.Talk{
		Next: func(flush func() error) ([]byte, error) {
			if !given {
				given = true
				return c.unit, nil
			}
			return c.copyData(flush)
		},
		Filter: c.answers.filter, Out: c, Early: c.begins,
	})
	c.session.running(nil)
	if err != nil {
		return err
	}
	if err := c.answers.err; err != nil {
		return fmt.Errorf("read PostgreSQL's answer: %w", err)
	}
	return c.finish(answer)
}

// finish hands on the answer of a unit, and gives the turn up if no transaction is open.
func (c *client) finish(answer *engine.Answer) error {
	c.dirty |= c.uses | c.answers.uses
	if c.session.risky {
		c.dirty |= usesAnything
	}
	if c.answers.ready && c.status == 'I' {
		c.portals = nil
		if err := c.session.settle(c.ctx, c); err != nil {
			return err
		}
		if c.pinned == "" {
			c.giveTurn()
		}
	}
	if err := answer.Release(c.ctx); err != nil {
		c.out = c.out[:0] // of a success that is none
		return err
	}
	c.session.spread(c.answers.notified)
	c.answers.notified = nil
	if c.turn == nil || c.pinned != "" {
		c.takeNotices()
	}
	if len(c.batch) > 0 && len(c.out) < stallChunk && c.turn != nil && !c.asks {
		return nil // a pipeline: the rest is here already; before the client is waited for, what there is goes out
	}
	return c.flush()
}

// copyData gives PostgreSQL what the client sends in COPY FROM STDIN; otherwise it ends the run.
func (c *client) copyData(flush func() error) ([]byte, error) {
	if !c.answers.copyIn {
		return nil, io.EOF
	}
	if err := flush(); err != nil {
		return nil, err
	}
	if err := c.flush(); err != nil {
		return nil, err
	}
	kind, _, message, err := c.next()
	switch {
	case err != nil:
		if c.readErr == nil && c.ctx.Err() == nil {
			c.cancelCtx(err) // it is our error, and ends the connection
		}
		return nil, err
	case kind == 'X':
		return nil, io.EOF
	case kind == 'd' || kind == 'c' || kind == 'f' || kind == 'H' || kind == 'S':
		return message, nil
	}
	return nil, failure("08P01", "message %q in the middle of COPY FROM STDIN", kind)
}

// sayBusy answers a unit that has waited too long. Its session is as before.
func (c *client) sayBusy(f *failed) error {
	c.out = f.append(c.out, "ERROR")
	last := c.unit[0]
	for at := 0; at < len(c.unit); {
		last = c.unit[at]
		at += int(binary.BigEndian.Uint32(c.unit[at+1:])) + 1
	}
	// What an extended query would still do is passed over up to its Sync, as after any error.
	for last != 'Q' && last != 'S' && last != 'F' {
		if err := c.flush(); err != nil {
			return err
		}
		kind, _, _, err := c.next()
		if err != nil {
			return err
		}
		if kind == 'X' {
			return io.EOF
		}
		last = kind
	}
	var err error
	c.out, err = (&pgproto3.ReadyForQuery{TxStatus: 'I'}).Encode(c.out)
	return errors.Join(err, c.flush())
}

// waitedTooLong is the SQLSTATE of a client that did not get its turn: lock_not_available.
const waitedTooLong = "55P03"

// takeTurn waits for the client's turn, and puts the client's state into the session.
func (c *client) takeTurn() (err error) {
	if c.turn != nil {
		return nil
	}
	turn, free, err := c.session.engine.TryTake()
	if err == nil && !free {
		turn, err = c.waitTurn()
	}
	if err != nil {
		return err
	}
	c.turn = turn
	c.session.held(c)
	return c.session.enter(c.ctx, c)
}

// waitTurn waits in line, up to TurnTimeout.
func (c *client) waitTurn() (*engine.Turn, error) {
	ctx, done := c.queue()
	defer done()
	c.srv.waiting.Add(1)
	turn, err := c.session.engine.Take(ctx)
	c.srv.waiting.Add(-1)
	if err != nil && errors.Is(context.Cause(ctx), errLate) {
		return nil, failure(waitedTooLong, "waited %v for the session (TurnTimeout): %s", c.srv.o.TurnTimeout, c.session.holder())
	}
	return turn, err
}

func (c *client) giveTurn() {
	if c.turn != nil {
		c.session.held(nil)
		c.turn.Give()
		c.turn = nil
	}
}
