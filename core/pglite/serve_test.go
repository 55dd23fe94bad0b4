package pglite

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// client is the other end of a served connection.
type client struct {
	t      testing.TB
	conn   net.Conn
	front  *pgproto3.Frontend
	served chan error
}

// serve lets an instance serve one connection until the client goes.
func serve(ctx context.Context, t testing.TB, in *Instance) *client {
	t.Helper()
	ours, theirs := net.Pipe()
	if err := ours.SetReadDeadline(time.Now().Add(time.Minute)); err != nil { // rather a failure than a hang
		t.Fatal(err)
	}
	c := &client{t: t, conn: ours, front: pgproto3.NewFrontend(ours, ours), served: make(chan error, 1)}
	go func() {
		err := in.Serve(ctx, theirs)
		_ = theirs.Close()
		c.served <- err
	}()
	t.Cleanup(func() { _ = ours.Close() })
	return c
}

// send writes raw messages.
func (c *client) send(b []byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

// until reads answers up to one that starts with prefix, and returns their lines.
func (c *client) until(prefix string) string {
	c.t.Helper()
	var lines []string
	for {
		m, err := c.front.Receive()
		if err != nil {
			c.t.Fatalf("after %q: %v", lines, err)
		}
		if _, ok := m.(*pgproto3.ParameterStatus); ok {
			continue
		}
		lines = append(lines, line(m))
		if strings.HasPrefix(lines[len(lines)-1], prefix) {
			return strings.Join(lines, "\n")
		}
	}
}

// ask sends messages and reads up to ReadyForQuery.
func (c *client) ask(messages ...pgproto3.FrontendMessage) string {
	c.t.Helper()
	c.send(encode(c.t, messages...))
	return c.until("ReadyForQuery")
}

// leave closes the connection and returns what Serve said.
func (c *client) leave() error {
	_ = c.conn.Close()
	return <-c.served
}

func TestServe(t *testing.T) {
	in := quiet(t)
	c := serve(t.Context(), t, in)
	wantLines(t, c.ask(&pgproto3.Query{String: "SELECT 1"}), "RowDescription ?column?", "DataRow 1", "CommandComplete SELECT 1", "ReadyForQuery I")
	wantLines(t, c.ask(&pgproto3.Query{String: "SELECT 1/0"}), "ErrorResponse ERROR 22012", "ReadyForQuery I")
	// Flush: the answer comes although no Sync does.
	c.send(encode(t, &pgproto3.Parse{Query: "INSERT INTO a VALUES (1)"}, bind("", ""), &pgproto3.Execute{}, &pgproto3.Flush{}))
	wantLines(t, c.until("CommandComplete"), "ParseComplete", "BindComplete", "CommandComplete INSERT 0 1")
	wantLines(t, c.ask(&pgproto3.Sync{}), "ReadyForQuery I")
	// COPY as a conversation.
	c.send(encode(t, &pgproto3.Query{String: "COPY a FROM STDIN"}))
	wantLines(t, c.until("CopyInResponse"), "CopyInResponse")
	for range 3 {
		c.send(encode(t, &pgproto3.CopyData{Data: []byte("2\tx\n")})[:7])
		c.send(encode(t, &pgproto3.CopyData{Data: []byte("2\tx\n")})[7:])
	}
	wantLines(t, c.ask(&pgproto3.CopyDone{}), "ErrorResponse ERROR 23505", "ReadyForQuery I")
	// One byte at a time.
	for _, b := range encode(t, &pgproto3.Query{String: "SELECT count(*) FROM a"}) {
		c.send([]byte{b})
	}
	wantLines(t, c.until("ReadyForQuery"), "RowDescription count", "DataRow 1", "CommandComplete SELECT 1", "ReadyForQuery I")
	c.send(encode(t, &pgproto3.Terminate{}))
	if err := <-c.served; err != nil {
		t.Fatal(err)
	}
	want(t, in, "SELECT 1", "1")
}

// A client that goes away, at whatever moment, leaves nothing behind.
func TestServeClientGone(t *testing.T) {
	insert := []pgproto3.FrontendMessage{&pgproto3.Parse{Query: "INSERT INTO a VALUES (1)"}, bind("", ""), &pgproto3.Execute{}}
	for _, c := range []struct {
		name  string
		leave func(c *client)
		err   error
	}{
		{"at once", func(*client) {}, nil},
		{"in a transaction", func(c *client) {
			c.ask(&pgproto3.Query{String: "BEGIN; INSERT INTO a VALUES (1)"})
		}, nil},
		{"in a failed transaction", func(c *client) {
			c.ask(&pgproto3.Query{String: "BEGIN; INSERT INTO a VALUES (1)"})
			c.ask(&pgproto3.Query{String: "SELECT 1/0"})
		}, nil},
		{"before Sync", func(c *client) {
			c.send(encode(c.t, append(insert, &pgproto3.Flush{})...))
			c.until("CommandComplete")
		}, nil},
		{"before Sync, by Terminate", func(c *client) {
			c.send(encode(c.t, append(insert, &pgproto3.Flush{})...))
			c.until("CommandComplete")
			c.send(encode(c.t, &pgproto3.Terminate{}))
		}, nil},
		{"before Sync, after an error", func(c *client) {
			c.send(encode(c.t, append(insert, &pgproto3.Parse{Query: "SELEC"})...))
			c.until("ErrorResponse")
		}, nil},
		{"before Sync, after an error in a transaction", func(c *client) {
			c.ask(&pgproto3.Query{String: "BEGIN"})
			c.send(encode(c.t, append(insert, &pgproto3.Parse{Query: "SELEC"})...))
			c.until("ErrorResponse")
		}, nil},
		{"within a message", func(c *client) {
			c.ask(&pgproto3.Query{String: "BEGIN; INSERT INTO a VALUES (1)"})
			c.send(encode(c.t, &pgproto3.Query{String: "COMMIT"})[:7])
		}, ErrMessage},
		{"within COPY", func(c *client) {
			c.send(encode(c.t, &pgproto3.Query{String: "COPY a FROM STDIN"}))
			c.until("CopyInResponse")
			c.send(encode(c.t, &pgproto3.CopyData{Data: []byte("1\tx\n")}))
		}, nil},
		{"within COPY, by Terminate", func(c *client) {
			c.send(encode(c.t, &pgproto3.Query{String: "COPY a FROM STDIN"}))
			c.until("CopyInResponse")
			c.send(encode(c.t, &pgproto3.CopyData{Data: []byte("1\tx\n")}, &pgproto3.Terminate{}))
			c.until("ReadyForQuery")
		}, nil},
		{"within a message of COPY", func(c *client) {
			c.send(encode(c.t, &pgproto3.Query{String: "BEGIN; COPY a FROM STDIN"}))
			c.until("CopyInResponse")
			c.send(encode(c.t, &pgproto3.CopyData{Data: []byte("1\tx\n")})[:6])
		}, ErrMessage},
		{"within COPY by the extended protocol", func(c *client) {
			c.send(encode(c.t, &pgproto3.Parse{Query: "COPY a FROM STDIN"}, bind("", ""), &pgproto3.Execute{}, &pgproto3.Flush{}))
			c.until("CopyInResponse")
			c.send(encode(c.t, &pgproto3.CopyData{Data: []byte("1\tx\n")}))
		}, nil},
		{"a query and Terminate in one piece", func(c *client) {
			c.send(encode(c.t, &pgproto3.Query{String: "BEGIN; INSERT INTO a VALUES (1)"}, &pgproto3.Terminate{}))
			c.until("ReadyForQuery")
		}, nil},
		{"garbage behind a query", func(c *client) {
			c.send(append(encode(c.t, &pgproto3.Query{String: "BEGIN; INSERT INTO a VALUES (1)"}), "GET / HTTP/1.1\r\n\r\n"...))
			c.until("ReadyForQuery")
		}, ErrMessage},
		{"garbage", func(c *client) { c.send([]byte("GET / HTTP/1.1\r\n\r\n")) }, ErrMessage},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := quiet(t)
			client := serve(t.Context(), t, in)
			c.leave(client)
			if err := client.leave(); !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if open, err := in.InTransaction(); err != nil || open {
				t.Fatal(open, err)
			}
			next := serve(t.Context(), t, in)
			wantLines(t, next.ask(&pgproto3.Query{String: "SELECT count(*) FROM a"}),
				"RowDescription count", "DataRow 0", "CommandComplete SELECT 1", "ReadyForQuery I")
			if err := next.leave(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A client that stops reading in the middle of a result: the statement ends, its transaction is rolled back.
func TestServeClientGoneWhileReading(t *testing.T) {
	in := quiet(t)
	for _, sql := range []string{
		"BEGIN; INSERT INTO a VALUES (1); SELECT repeat('x', 1000), generate_series(1, 10000000)",
		"BEGIN; INSERT INTO a VALUES (1); COPY (SELECT repeat('x', 1000), generate_series(1, 10000000)) TO STDOUT",
	} {
		c := serve(t.Context(), t, in)
		c.send(encode(t, &pgproto3.Query{String: sql}))
		if _, err := io.ReadFull(c.conn, make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		if err := c.leave(); !errors.Is(err, io.ErrClosedPipe) {
			t.Fatal(err)
		}
		want(t, in, "SELECT count(*) FROM a", "0")
	}
}

func TestServeContext(t *testing.T) {
	in := quiet(t)
	for _, c := range []struct {
		name string
		wait func(c *client)
	}{
		{"idle", func(c *client) { c.ask(&pgproto3.Query{String: "BEGIN; INSERT INTO a VALUES (1)"}) }},
		{"within COPY", func(c *client) {
			c.send(encode(t, &pgproto3.Query{String: "COPY a FROM STDIN"}))
			c.until("CopyInResponse")
		}},
		{"while a client does not read", func(c *client) {
			c.send(encode(t, &pgproto3.Query{String: "SELECT repeat('x', 1000), generate_series(1, 100000)"}))
			c.until("DataRow")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			client := serve(ctx, t, in)
			c.wait(client)
			cancel()
			if err := <-client.served; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			want(t, in, "SELECT count(*) FROM a", "0")
		})
	}
}

func TestServeKilled(t *testing.T) {
	in := quiet(t)
	c := serve(t.Context(), t, in)
	c.ask(&pgproto3.Query{String: "SELECT 1"})
	in.Kill()
	if err := <-c.served; !errors.Is(err, ErrDead) {
		t.Fatal(err)
	}
	wantReleased(t, in)
}

// wantReleased checks that an instance is dead and holds no memory.
func wantReleased(t testing.TB, in *Instance) {
	t.Helper()
	if _, err := in.Query(t.Context(), "SELECT 1"); !errors.Is(err, ErrDead) {
		t.Fatalf("got %v, want %v", err, ErrDead)
	}
	if in.linear.region != nil {
		t.Fatal("its memory was not released")
	}
	if in.Err() == nil {
		t.Fatal("Err says nothing")
	}
	if err := in.Close(t.Context()); err != nil {
		t.Fatalf("close a dead instance: %v", err)
	}
}
