package pgwire

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// Bounds and request codes of the start of a connection.
// Source: postgresql.org/docs/current/protocol-message-formats.html, and PostgreSQL's MAX_STARTUP_PACKET_LENGTH.
const (
	minStartup = 8
	maxStartup = 10_000
	codeCancel = 80877102
	codeSSL    = 80877103
	codeGSS    = 80877104
	// recordHandshake is the first byte of TLS without a preceding request: no startup packet is long enough to begin with it.
	recordHandshake = 0x16
	// goodbye is how a Terminate message begins. node-postgres sends one if it is ended before it has connected, and expects no answer.
	goodbye = 'X' << 24
)

// hello is the result of greet.
type hello struct {
	conn   net.Conn // with TLS, if that was agreed on
	packet []byte   // what follows, for PostgreSQL: the startup packet or a cancel request, including its length
	cancel bool
}

// errHandshake: the TLS handshake failed, so no message can be sent to the client.
var errHandshake = errors.New("TLS handshake")

// greet reads what precedes a session: requests for encryption, which it answers, and the startup packet or cancel request, of which it
// looks at the length and the first number. After an error, hello.conn is the connection for telling the client.
func greet(ctx context.Context, raw net.Conn, config *tls.Config, required bool) (hello, error) {
	h := hello{conn: raw}
	for range 3 { // SSL, GSS, start: each at most once
		packet, err := readPacket(h.conn)
		if errors.Is(err, errDirect) && config != nil && h.conn == raw {
			if err = h.secure(ctx, &unread{raw, packet}, config, true); err != nil {
				return h, err
			}
			packet, err = readPacket(h.conn)
		}
		if errors.Is(err, errDirect) {
			err = fmt.Errorf("%w: %w", errHandshake, err)
		}
		if err != nil {
			return h, err
		}
		switch code := binary.BigEndian.Uint32(packet[4:]); code {
		case codeCancel:
			h.packet, h.cancel = packet, true
			if len(packet) <= minStartup+4 {
				return h, failure("08P01", "invalid length %d of a cancel request", len(packet))
			}
			return h, nil
		case codeSSL:
			if err := h.offer(ctx, raw, config); err != nil {
				return h, err
			}
		case codeGSS:
			if _, err := h.conn.Write([]byte{'N'}); err != nil {
				return h, gone(err)
			}
		default:
			h.packet = packet
			if required && h.conn == raw {
				return h, failure("28000", "this server accepts only TLS connections: set sslmode=require")
			}
			return h, nil
		}
	}
	return h, failure("08P01", "too many requests before the startup packet")
}

// offer answers a request for TLS. Nothing beyond the request has been read, so no plaintext can have been injected before TLS.
func (h *hello) offer(ctx context.Context, raw net.Conn, config *tls.Config) error {
	if h.conn != raw {
		return failure("08P01", "TLS was requested within TLS")
	}
	if config == nil {
		_, err := h.conn.Write([]byte{'N'})
		return gone(err)
	}
	if _, err := h.conn.Write([]byte{'S'}); err != nil {
		return gone(err)
	}
	return h.secure(ctx, raw, config, false)
}

// secure begins TLS. direct: without a preceding request; the client must then name PostgreSQL's protocol through ALPN.
func (h *hello) secure(ctx context.Context, on net.Conn, config *tls.Config, direct bool) error {
	secure := tls.Server(on, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("%w: %w", errHandshake, err)
	}
	h.conn = secure
	if direct && secure.ConnectionState().NegotiatedProtocol != alpn {
		return failure("08P01", "direct TLS needs the ALPN protocol %q", alpn)
	}
	return nil
}

// errDirect: what should be a packet is the beginning of TLS.
var errDirect = errors.New("TLS starts without a request for it")

// readPacket reads a packet that begins with its length. If TLS begins instead (errDirect), it returns the bytes it has read.
func readPacket(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, gone(err)
	}
	if head[0] == recordHandshake {
		return head[:], errDirect
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == goodbye {
		_, err := io.ReadFull(r, head[:1]) // closing with unread bytes would reset the connection
		return nil, gone(errors.Join(io.EOF, err))
	}
	if n < minStartup || n > maxStartup {
		return nil, failure("08P01", "invalid length %d of the startup packet (at most %d)", n, maxStartup)
	}
	packet := make([]byte, n)
	copy(packet, head[:])
	if _, err := io.ReadFull(r, packet[4:]); err != nil {
		return nil, gone(err)
	}
	return packet, nil
}

// unread is a connection whose first bytes have already been read, and are returned again.
type unread struct {
	net.Conn
	first []byte
}

func (u *unread) Read(p []byte) (int, error) {
	if len(u.first) > 0 {
		n := copy(p, u.first)
		u.first = u.first[n:]
		return n, nil
	}
	return u.Conn.Read(p)
}
