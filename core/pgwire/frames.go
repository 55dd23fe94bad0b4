package pgwire

import "encoding/binary"

// frames follows a backend's messages by their lengths, to know where each one ends, and to read the few kinds that matter to this server.
// It keeps nothing of the others.
type frames struct {
	head [header]byte // of the current message
	have int          // bytes of head received; 0: between messages
	left uint64       // bytes of the body still to come
	body [peek]byte   // its beginning, where it matters
	want int
	seen int
	at   int // offset of its start in the bytes being followed; negative: it began before them
}

const (
	header = 5  // a type, and a length that counts itself
	peek   = 64 // enough for the severity and the code of an error
)

// Types of messages that matter here.
const (
	kindAuthentication = 'R'
	kindReady          = 'Z'
	kindError          = 'E'
	kindParameter      = 'S'
)

// whole says whether the last message is complete, so that another one may begin.
func (f *frames) whole() bool { return f.have == 0 }

// message is a message of a kind that matters.
type message struct {
	kind byte
	body []byte // its beginning; not to be kept
	at   int    // offset of its start in the bytes being followed; negative: it began before them
}

// follow takes the next bytes. It calls meet for each message that matters.
func (f *frames) follow(p []byte, meet func(message)) {
	f.at = -1
	for total := len(p); len(p) > 0; {
		if f.have < header {
			if f.have == 0 {
				f.at = total - len(p)
			}
			n := copy(f.head[f.have:], p)
			f.have += n
			if p = p[n:]; f.have < header {
				return
			}
			f.begin()
		}
		if f.seen < f.want {
			n := copy(f.body[f.seen:f.want], p)
			f.seen += n
			f.left -= uint64(n)
			if p = p[n:]; f.seen < f.want {
				return
			}
			meet(message{f.head[0], f.body[:f.want], f.at})
		}
		n := min(f.left, uint64(len(p)))
		f.left -= n
		if p = p[n:]; f.left == 0 {
			f.have = 0
		}
	}
}

// begin reads a header.
func (f *frames) begin() {
	f.left = uint64(max(binary.BigEndian.Uint32(f.head[1:]), header-1) - (header - 1))
	f.want, f.seen = 0, 0
	switch f.head[0] {
	case kindAuthentication, kindReady, kindError, kindParameter:
		f.want = int(min(f.left, peek))
	}
}

// errorCode is the SQLSTATE in the first bytes of an ErrorResponse's body; empty: it is not in them.
func errorCode(body []byte) string {
	for len(body) > 0 && body[0] != 0 {
		field := body[0]
		end := 1
		for end < len(body) && body[end] != 0 {
			end++
		}
		if end == len(body) {
			return ""
		}
		if field == 'C' {
			return string(body[1:end])
		}
		body = body[end+1:]
	}
	return ""
}
