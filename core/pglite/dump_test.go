package pglite

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// door answers a start-up packet and serves the instance behind it.
func door(ctx context.Context, in *Instance, conn net.Conn) error {
	backend := pgproto3.NewBackend(conn, conn)
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return err
	}
	backend.Send(&pgproto3.AuthenticationOk{})
	for name, value := range in.Parameters() {
		backend.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if err := backend.Flush(); err != nil {
		return err
	}
	return in.Serve(ctx, conn)
}

// dump runs pg_dump on an instance.
func dump(t *testing.T, in *Instance, args ...string) (string, error) {
	t.Helper()
	server, client := net.Pipe()
	served := make(chan error, 1)
	go func() {
		defer server.Close()
		served <- door(t.Context(), in, server)
	}()
	var out bytes.Buffer
	err := testRuntime(t).Dump(t.Context(), DumpOptions{Args: args, Conn: client, Out: &out, Log: func(line string) { t.Log(line) }})
	if err := <-served; err != nil {
		t.Log("the server:", err)
	}
	return out.String(), err
}

func TestDump(t *testing.T) {
	in := start(t, InstanceOptions{})
	rows(t, in, "CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT g, repeat('x', g) FROM generate_series(1, 100) g")
	text, err := dump(t, in)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text, "CREATE TABLE public.t (") {
		t.Error(text)
	}
	t.Log(len(text), text[:1500])
}
