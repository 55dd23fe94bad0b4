package pgwire

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"
)

// answers follows what PostgreSQL answers to a unit, and lets through what is the client's.
type answers struct {
	c        *client
	head     []byte // of the message that is under way, as far as it has come
	whole    []byte // that message, if it has to be looked at
	left     int    // bytes of its body still to come
	look     bool
	out      []byte
	ready    bool           // ReadyForQuery has come
	copyIn   bool           // PostgreSQL waits for COPY data
	uses     hints          // told by command tags
	notified []notification // to be spread when the unit is durable
	err      error
}

// notification is what NOTIFY sends.
type notification struct {
	channel string
	payload string
	from    uint32 // the client
}

// begin makes ready for a unit.
func (a *answers) begin(c *client) {
	*a = answers{c: c, head: a.head[:0], whole: a.whole[:0], out: a.out[:0]}
}

// maxLooked bounds the messages that are looked at; they are short.
const maxLooked = 64 << 20

// filter takes a piece of PostgreSQL's answers and returns what of it is the client's.
func (a *answers) filter(p []byte) []byte {
	a.out = a.out[:0]
	for len(p) > 0 {
		if a.left > 0 {
			n := min(a.left, len(p))
			if a.look {
				a.whole = append(a.whole, p[:n]...)
			} else {
				a.out = append(a.out, p[:n]...)
			}
			a.left -= n
			p = p[n:]
		} else {
			n := min(header-len(a.head), len(p))
			a.head = append(a.head, p[:n]...)
			p = p[n:]
			if len(a.head) < header {
				break
			}
			a.left = int(binary.BigEndian.Uint32(a.head[1:])) - 4
			if a.look = looked(a.head[0]) && a.left <= maxLooked; a.look {
				a.whole = append(a.whole[:0], a.head...)
			} else {
				a.out = append(a.out, a.head...)
			}
		}
		if a.left == 0 && len(a.head) == header {
			if a.look && a.message(a.whole[0], a.whole[header:]) {
				a.out = append(a.out, a.whole...)
			}
			a.head = a.head[:0]
		}
	}
	return a.out
}

// looked says which messages matter here; the others (rows above all) pass.
func looked(kind byte) bool {
	switch kind {
	case 'Z', 'C', 'E', 'N', 'A', '1', '3', 'G':
		return true
	}
	return false
}

// message deals with one message, and says whether it is the client's.
func (a *answers) message(kind byte, body []byte) bool {
	c := a.c
	switch kind {
	case 'Z':
		a.ready = true
		if len(body) == 1 {
			c.status = body[0]
		}
	case 'C':
		a.copyIn = false
		tag, _, _ := cutString(body)
		a.uses |= hintsOfTag(string(tag))
	case 'G':
		a.copyIn = true
	case 'E', 'N':
		if kind == 'E' {
			a.copyIn = false
			c.expect = nil // nothing more is answered up to the Sync
		}
		if prefix := []byte(c.names.prefix); bytes.Contains(body, prefix) {
			a.out = append(a.out, a.rename(kind, body, prefix)...)
			return false
		}
	case '1', '3':
		return c.met()
	case 'A':
		var m pgproto3.NotificationResponse
		if err := m.Decode(body); err != nil {
			a.err = fmt.Errorf("a notification: %w", err)
			return false
		}
		a.notified = append(a.notified, notification{m.Channel, m.Payload, c.id})
		return false
	}
	return true
}

// rename gives statements in a message their clients' names.
func (a *answers) rename(kind byte, body, prefix []byte) []byte {
	var out []byte
	for {
		before, rest, found := bytes.Cut(body, prefix)
		out = append(out, before...)
		if !found {
			break
		}
		name, length := a.c.names.of(rest)
		out, body = append(out, name...), rest[length:]
	}
	message := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(out)+4))
	return append(message, out...)
}
