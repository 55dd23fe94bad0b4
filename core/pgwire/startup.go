package pgwire

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Bounds and request codes of the start of a connection.
// Source: postgresql.org/docs/current/protocol-message-formats.html, and PostgreSQL's MAX_STARTUP_PACKET_LENGTH.
const (
	maxStartup    = 10_000
	maxPassword   = 10_000
	secretBytes   = 4
	codeCancel    = 80877102
	codeSSL       = 80877103
	codeGSS       = 80877104
	protocolMajor = 3
)

// handle serves one connection, from its first byte.
func (s *Server) handle(a *arrival) {
	conn := a.conn
	_ = conn.SetWriteDeadline(s.o.Clock.Now().Add(s.o.StartupTimeout))
	s.setStartupDeadline(a)
	c := &client{
		srv: s, arrival: a, raw: conn, conn: conn, clock: s.o.Clock, statements: map[string]*statement{}, channels: map[string]bool{},
		ending: make(chan struct{}),
	}
	c.ctx, c.cancelCtx = context.WithCancelCause(s.ctx)
	defer c.cancelCtx(nil)
	defer s.givePlace(c)
	start, err := c.startup()
	if err == nil && start == nil {
		return // a cancel request, or nothing
	}
	if err == nil {
		err = c.login(start)
	}
	if err != nil {
		c.refuse(err)
		return
	}
	defer s.unregister(c)
	_ = conn.SetDeadline(time.Time{})
	if err := c.serve(); err != nil {
		s.o.Logger.Info("connection ended", "client", c.id, "user", c.user, "error", err)
	}
}

// setStartupDeadline limits the start-up, unless the arrival has been told to go already.
func (s *Server) setStartupDeadline(a *arrival) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !a.evicted {
		_ = a.conn.SetReadDeadline(s.o.Clock.Now().Add(s.o.StartupTimeout))
	}
}

// startup reads the first packets. It returns nil if there is nothing more to do.
func (c *client) startup() (*pgproto3.StartupMessage, error) {
	for range 3 { // SSL, GSS, start: each once at most
		packet, err := readPacket(c.conn, maxStartup)
		if err != nil {
			return nil, err
		}
		code, start, err := decodeStartup(packet)
		if err != nil {
			return nil, err
		}
		switch code {
		case codeCancel:
			c.srv.cancel(binary.BigEndian.Uint32(packet[4:]), packet[8:])
			return nil, nil
		case codeSSL:
			if err := c.offerTLS(); err != nil {
				return nil, err
			}
		case codeGSS:
			if _, err := c.conn.Write([]byte{'N'}); err != nil {
				return nil, err
			}
		default:
			_, secure := c.conn.(*tls.Conn)
			_, inside := c.raw.(trusted)
			if c.srv.o.RequireTLS && !secure && !inside {
				return nil, failure("28000", "this server takes TLS connections only; set sslmode=require")
			}
			return start, nil
		}
	}
	return nil, failure("08P01", "too many requests before the start-up packet")
}

// offerTLS answers a request for TLS. Nothing beyond the request has been read, so nothing can have been slipped in.
func (c *client) offerTLS() error {
	if c.srv.o.TLS == nil {
		_, err := c.conn.Write([]byte{'N'})
		return err
	}
	if _, ok := c.conn.(*tls.Conn); ok {
		return failure("08P01", "TLS is requested within TLS")
	}
	if _, err := c.conn.Write([]byte{'S'}); err != nil {
		return err
	}
	secure := tls.Server(c.conn, c.srv.o.TLS)
	c.shaking = true
	if err := secure.HandshakeContext(c.ctx); err != nil {
		return fmt.Errorf("%w: TLS handshake: %w", io.EOF, err)
	}
	c.conn, c.shaking = secure, false
	return nil
}

// readPacket reads a packet that begins with its length, without the length.
func readPacket(r io.Reader, limit uint32) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", io.EOF, err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 8 || n > limit {
		return nil, failure("08P01", "invalid length %d of the start-up packet (at most %d)", n, limit)
	}
	packet := make([]byte, n-4)
	if _, err := io.ReadFull(r, packet); err != nil {
		return nil, fmt.Errorf("%w: %w", io.EOF, err)
	}
	return packet, nil
}

// decodeStartup tells what a start-up packet is: a request by its code, or the start itself.
func decodeStartup(packet []byte) (code uint32, start *pgproto3.StartupMessage, err error) {
	if len(packet) < 4 {
		return 0, nil, failure("08P01", "a start-up packet of %d bytes", len(packet))
	}
	code = binary.BigEndian.Uint32(packet)
	switch {
	case code == codeCancel && len(packet) <= 8:
		return code, nil, failure("08P01", "a cancel request of %d bytes", len(packet))
	case code == codeCancel, code == codeSSL, code == codeGSS:
		return code, nil, nil
	case code>>16 != protocolMajor:
		return code, nil, failure("0A000", "unsupported protocol %d.%d: this server supports 3.0", code>>16, code&0xffff)
	}
	// A higher minor version is answered with ours; the parameters have the same form.
	plain := append([]byte{0, protocolMajor, 0, 0}, packet[4:]...)
	start = &pgproto3.StartupMessage{}
	if err := start.Decode(plain); err != nil {
		return code, nil, failure("08P01", "the start-up packet cannot be read: %v", err)
	}
	start.ProtocolVersion = code
	return code, start, nil
}

// login checks who the client is, and gives it its place.
func (c *client) login(start *pgproto3.StartupMessage) error {
	settings, err := c.parameters(start)
	if err != nil {
		return err
	}
	if _, inside := c.raw.(trusted); !inside {
		if err := c.srv.full(); err != nil {
			return err
		}
		if c.srv.verifier != nil {
			if err := c.authenticate(); err != nil {
				return err
			}
		}
	}
	if err := c.srv.takePlace(c); err != nil {
		return err
	}
	c.secret = make([]byte, secretBytes)
	if _, err := rand.Read(c.secret); err != nil {
		return fmt.Errorf("make a cancel key: %w", err)
	}
	_ = c.raw.SetDeadline(time.Time{}) // waking the database may take longer
	e, err := c.srv.o.Source.Engine(c.ctx)
	if err != nil {
		return err
	}
	if err := c.srv.register(c, e); err != nil {
		return failure("57P03", "the server is shutting down")
	}
	c.leftOut = e.Opened().LeftOut
	err = c.welcome(start, e.Parameters(), settings)
	if err != nil {
		c.srv.unregister(c)
	}
	return err
}

// parameters reads who the client is and what it sets.
func (c *client) parameters(start *pgproto3.StartupMessage) (map[string]string, error) {
	settings := map[string]string{}
	database := ""
	for name, value := range start.Parameters {
		switch {
		case name == "user":
			c.user = value
		case name == "database":
			database = value
		case name == "replication":
			if value != "false" && value != "off" && value != "no" && value != "0" {
				return nil, failure("0A000", "replication is not supported")
			}
		case name == "options":
			if err := commandLineOptions(value, settings); err != nil {
				return nil, err
			}
		case name == "client_encoding":
			if !isUTF8(value) {
				return nil, failure("0A000", "client_encoding %q is not supported: this server speaks UTF8 only", value)
			}
		case strings.HasPrefix(name, "_pq_."):
		default:
			settings[strings.ToLower(name)] = value
		}
	}
	if c.user == "" {
		return nil, failure("28000", "no user name in the start-up packet")
	}
	if database == "" {
		database = c.user
	}
	if database != c.srv.o.Database {
		return nil, failure("3D000", "database %q does not exist; there is one: %q", database, c.srv.o.Database)
	}
	return settings, nil
}

func isUTF8(encoding string) bool {
	e := strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(strings.Trim(encoding, "'\""), "-", ""), "_", ""))
	return e == "utf8" || e == "unicode" || e == "auto" || e == "sqlascii"
}

// commandLineOptions reads the start-up parameter `options`: -c name=value, and --name=value.
func commandLineOptions(options string, settings map[string]string) error {
	words := splitOptions(options)
	for i := 0; i < len(words); i++ {
		word := words[i]
		switch {
		case word == "-c" && i+1 < len(words):
			i++
			word = words[i]
		case strings.HasPrefix(word, "-c"):
			word = word[2:]
		case strings.HasPrefix(word, "--"):
			word = word[2:]
		default:
			return failure("22023", "start-up option %q is not supported; use -c name=value", word)
		}
		name, value, ok := strings.Cut(word, "=")
		if !ok {
			return failure("22023", "start-up option %q has no value", word)
		}
		settings[strings.ToLower(strings.ReplaceAll(name, "-", "_"))] = value
	}
	return nil
}

// splitOptions cuts at spaces that no backslash precedes.
func splitOptions(options string) []string {
	var words []string
	word, in := []byte{}, false
	for i := 0; i < len(options); i++ {
		switch ch := options[i]; {
		case ch == '\\' && i+1 < len(options):
			i++
			word, in = append(word, options[i]), true
		case ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r':
			if in {
				words, word, in = append(words, string(word)), word[:0], false
			}
		default:
			word, in = append(word, ch), true
		}
	}
	if in {
		words = append(words, string(word))
	}
	return words
}

// welcome ends the start-up: the session takes over what the client has set, and the client learns what it needs.
func (c *client) welcome(start *pgproto3.StartupMessage, reported, settings map[string]string) error {
	c.startupSettings, c.settings, c.whose = settings, settings, c.user
	if _, inside := c.raw.(trusted); inside && c.user == Superuser {
		c.whose = firstRole
	}
	c.acts = c.whose
	simple := c.user == Superuser
	for name := range settings {
		simple = simple && name == "application_name"
	}
	if simple {
		reported["application_name"] = settings["application_name"]
	} else if err := c.introduce(reported); err != nil {
		return err
	}
	add := func(m pgproto3.BackendMessage) (err error) {
		c.out, err = m.Encode(c.out)
		return err
	}
	if start.ProtocolVersion > pgproto3.ProtocolVersion30 || hasExtensions(start) {
		if err := add(&pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: 0, UnrecognizedOptions: extensions(start)}); err != nil {
			return err
		}
	}
	if err := add(&pgproto3.AuthenticationOk{}); err != nil {
		return err
	}
	for _, name := range sortedKeys(reported) {
		if err := add(&pgproto3.ParameterStatus{Name: name, Value: reported[name]}); err != nil {
			return err
		}
	}
	if c.user == Superuser && len(c.leftOut) > 0 {
		if err := add(&pgproto3.NoticeResponse{
			Severity: "WARNING", SeverityUnlocalized: "WARNING", Code: "01000",
			Message: "PostgreSQL could not start with what is set of " + strings.Join(c.leftOut, ", ") + ", and has started without",
			Detail:  "The server's log says why. The file postgresql.auto.conf is as it was.", Hint: "ALTER SYSTEM RESET, or ALTER SYSTEM SET another value, and restart.",
		}); err != nil {
			return err
		}
	}
	if err := add(&pgproto3.BackendKeyData{ProcessID: c.id, SecretKey: c.secret}); err != nil {
		return err
	}
	if err := add(&pgproto3.ReadyForQuery{TxStatus: 'I'}); err != nil {
		return err
	}
	c.status = 'I'
	return c.flush()
}

func hasExtensions(start *pgproto3.StartupMessage) bool { return len(extensions(start)) > 0 }

// extensions are protocol options that this server does not know.
func extensions(start *pgproto3.StartupMessage) []string {
	var names []string
	for _, name := range sortedKeys(start.Parameters) {
		if strings.HasPrefix(name, "_pq_.") {
			names = append(names, name)
		}
	}
	return names
}

// hasSecret compares a cancel key in constant time.
func (c *client) hasSecret(secret []byte) bool {
	return subtle.ConstantTimeCompare(c.secret, secret) == 1
}
