package pglite

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// dumpTo runs pg_dump on a database.
func dumpTo(t testing.TB, in *server, out io.Writer, args ...string) error {
	t.Helper()
	conn, err := in.Connect(t.Context(), ConnectOptions{Trusted: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return testRuntime(t).Dump(t.Context(), DumpOptions{Args: args, Conn: &netConn{Conn: conn}, Out: out})
}

func dump(t testing.TB, in *server, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := dumpTo(t, in, &out, args...); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return out.String()
}

// dumped returns an instance with something to dump; its large text fills many buffers.
func dumped(t testing.TB) *server {
	in := start(t, ClusterOptions{})
	rows(t, in, `CREATE TABLE t (a int PRIMARY KEY, b text);
		INSERT INTO t SELECT g, repeat('large and dull ', g * 100) FROM generate_series(1, 300) g;
		CREATE VIEW v AS SELECT count(*) FROM t`)
	return in
}

func TestDumpAsSQL(t *testing.T) {
	in := dumped(t)
	text := dump(t, in)
	for _, part := range []string{"CREATE TABLE public.t (", "CREATE VIEW public.v AS", "ADD CONSTRAINT t_pkey PRIMARY KEY", "PostgreSQL database dump complete"} {
		if !strings.Contains(text, part) {
			t.Errorf("the dump lacks %q", part)
		}
	}
	if n := strings.Count(text, "large and dull "); n != 100*300*301/2 {
		t.Errorf("the dump has %d repetitions", n)
	}
	if text := dump(t, in, "--schema-only"); strings.Contains(text, "dull") || !strings.Contains(text, "CREATE TABLE public.t") {
		t.Error("--schema-only:", len(text))
	}
	if text := dump(t, in, "--inserts", "-t", "t"); !strings.Contains(text, "INSERT INTO public.t VALUES (7, 'large") || strings.Contains(text, "VIEW") {
		t.Error("--inserts -t t:", len(text))
	}
	if text := dump(t, in, "--version"); !strings.HasPrefix(text, "pg_dump (PostgreSQL) 18") {
		t.Error(text)
	}
	want(t, in, "SELECT count(*) FROM t", "300") // the instance still works
}

func TestDumpAsAnArchive(t *testing.T) {
	in := dumped(t)
	if custom := dump(t, in, "-Fc"); !strings.HasPrefix(custom, "PGDMP") {
		t.Errorf("-Fc gives %.20q", custom)
	}
	var names []string
	for archive := tar.NewReader(strings.NewReader(dump(t, in, "-Ft"))); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if !slices.Contains(names, "toc.dat") || !slices.Contains(names, "restore.sql") {
		t.Errorf("-Ft gives %q", names)
	}
}

func TestDumpErrors(t *testing.T) {
	in := dumped(t)
	for _, c := range []struct{ args, said string }{
		{"--no-such-flag", "no-such-flag"},
		{"-t nothing", "no matching tables"},
		{"-Fd", "output directory"},
		{"-d template1 -E LATIN9 extra arguments", "too many"},
	} {
		var refusal *DumpError
		if err := dumpTo(t, in, io.Discard, strings.Fields(c.args)...); !errors.As(err, &refusal) || refusal.Code != 1 || !strings.Contains(refusal.Said, c.said) {
			t.Errorf("%s: %v", c.args, err)
		}
	}
	for _, args := range []string{"-f x", "-fx", "-vf x", "--file=x", "--fil x", "-h here", "--host here", "-p 1", "--port=1", "-j 2", "-t a -j2"} {
		if err := dumpTo(t, in, io.Discard, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: %v", args, err)
		}
	}
	full := errors.New("the disk is full")
	if err := dumpTo(t, in, failingWriter{full}); !errors.Is(err, full) {
		t.Errorf("an output that fails: %v", err)
	}
	if text := dump(t, in, "-tt", "-e", "plpgsql"); !strings.Contains(text, "public.t") {
		t.Error("afterwards:", text)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// TestDumpOfAServerThatGoes: a dump fails if the server goes away at any point, or if its context ends.
func TestDumpOfAServerThatGoes(t *testing.T) {
	server, client := net.Pipe()
	_ = server.Close()
	var refusal *DumpError
	err := testRuntime(t).Dump(t.Context(), DumpOptions{Conn: client, Out: io.Discard})
	if !errors.As(err, &refusal) || !strings.Contains(refusal.Said, "connection to server") {
		t.Errorf("gone at once: %v", err)
	}
	for _, cancel := range []bool{false, true} {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		server, client := net.Pipe()
		go func() {
			backend := pgproto3.NewBackend(server, server)
			if _, err := backend.ReceiveStartupMessage(); err != nil {
				t.Error(err)
			}
			if cancel {
				stop() // and send nothing
				return
			}
			_ = server.Close()
		}()
		err := testRuntime(t).Dump(ctx, DumpOptions{Conn: client, Out: io.Discard})
		if cancel && !errors.Is(err, context.Canceled) || !cancel && !errors.As(err, &refusal) {
			t.Errorf("gone in the middle (by the context: %v): %v", cancel, err)
		}
	}
}

func BenchmarkDump(b *testing.B) {
	in := start(b, ClusterOptions{})
	rows(b, in, "CREATE TABLE t (a int, b text); INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 500000) g")
	var n countingWriter
	if err := dumpTo(b, in, &n); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(n))
	for b.Loop() {
		if err := dumpTo(b, in, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

type countingWriter int64

func (n *countingWriter) Write(p []byte) (int, error) {
	*n += countingWriter(len(p))
	return len(p), nil
}
