package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/store/gcs"
)

// everything is a schema with one of each kind of object that a dump must carry.
const everything = `
CREATE EXTENSION pg_trgm;
CREATE SCHEMA shop;
CREATE TYPE shop.state AS ENUM ('new', 'paid', 'it''s "odd"');
CREATE SEQUENCE shop.numbers START 100 INCREMENT 7;
CREATE TABLE shop.customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL CHECK (name <> ''), joined timestamptz NOT NULL);
CREATE TABLE shop.orders (id int PRIMARY KEY DEFAULT nextval('shop.numbers'), customer bigint REFERENCES shop.customers ON DELETE CASCADE,
	state shop.state DEFAULT 'new', price numeric(12,2), tags text[], extra jsonb, twice numeric GENERATED ALWAYS AS (price * 2) STORED);
CREATE TABLE shop.blobs (id int PRIMARY KEY, body bytea, words text);
CREATE TABLE shop.events (at date NOT NULL, n int) PARTITION BY RANGE (at);
CREATE TABLE shop.events_2026 PARTITION OF shop.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX names ON shop.customers USING gin (name gin_trgm_ops);
CREATE UNIQUE INDEX only_paid ON shop.orders (customer, price) WHERE state = 'paid';
CREATE VIEW shop.rich AS SELECT c.name, sum(o.price) AS total FROM shop.customers c JOIN shop.orders o ON o.customer = c.id GROUP BY c.name;
CREATE MATERIALIZED VIEW shop.counted AS SELECT count(*) AS n FROM shop.blobs;
CREATE FUNCTION shop.shout(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN upper(t) || '; -- $not$ the end'; END $$;
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := trim(NEW.name); RETURN NEW; END $$;
CREATE TRIGGER trimmed BEFORE INSERT ON shop.customers FOR EACH ROW EXECUTE FUNCTION shop.touch();
COMMENT ON TABLE shop.orders IS 'line one
line two; \. and ''quotes''';
INSERT INTO shop.customers (name, joined) SELECT 'Näme ' || g, '2026-02-03 04:05:06.789+00'::timestamptz + g * interval '1 hour' FROM generate_series(1, 200) g;
INSERT INTO shop.orders (customer, state, price, tags, extra) SELECT 1 + g % 200, (ARRAY['new', 'paid', 'it''s "odd"'])[1 + g % 3]::shop.state, g / 3.0,
	ARRAY['a' || g, NULL, E'tab\t, back\\slash, "quote"'], jsonb_build_object('k', g, 'text', E'new\nline') FROM generate_series(1, 500) g;
INSERT INTO shop.blobs SELECT g, (SELECT string_agg(sha256((g * 1000 + i)::text::bytea), '') FROM generate_series(1, 3000) i), repeat('große Wörter; ', g * 5000) FROM generate_series(1, 8) g;
INSERT INTO shop.blobs VALUES (100, NULL, E'\\.\n\\N\r\ttext'), (101, '', '');
INSERT INTO shop.events SELECT '2026-01-01'::date + g, g FROM generate_series(0, 300) g;
REFRESH MATERIALIZED VIEW shop.counted;
SELECT nextval('shop.numbers');
`

// fingerprints are queries that tell two databases apart.
var fingerprints = []string{
	"SELECT md5(string_agg(c::text, '|' ORDER BY id)) FROM shop.customers c",
	"SELECT md5(string_agg(o::text, '|' ORDER BY id)) FROM shop.orders o",
	"SELECT md5(string_agg(id || md5(coalesce(body, 'null')) || md5(words), '|' ORDER BY id)) FROM shop.blobs",
	"SELECT count(*) || ' ' || sum(n) FROM shop.events_2026",
	"SELECT md5(string_agg(r::text, '|' ORDER BY name)) FROM shop.rich r",
	"SELECT n::text FROM shop.counted",
	"SELECT nextval('shop.numbers')::text",
	"SELECT shop.shout('x')",
	"SELECT similarity('abcd', 'abce')::text",
	"SELECT string_agg(indexdef, ';' ORDER BY indexdef) FROM pg_indexes WHERE schemaname = 'shop'",
	"SELECT string_agg(conname || pg_get_constraintdef(oid), ';' ORDER BY conname) FROM pg_constraint WHERE connamespace = 'shop'::regnamespace",
	"SELECT obj_description('shop.orders'::regclass)",
	"SELECT pg_get_functiondef('shop.touch'::regproc)",
}

func (c *child) fingerprint(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, sql := range fingerprints {
		all = append(all, sql+": "+c.query(t, sql))
	}
	return all
}

// objects are the names and generations of everything under a prefix.
func objects(t *testing.T, flags []string, prefix string) []string {
	t.Helper()
	st, err := gcs.Open(t.Context(), gcs.Options{Bucket: "bucket", Prefix: prefix, Endpoint: flags[3]})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var all []string
	for a, err := range st.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s#%d", a.Key, a.Gen))
	}
	return all
}

// on gives the flags another prefix.
func on(flags []string, prefix string) []string {
	flags = slices.Clone(flags)
	flags[1] = "gs://bucket/" + prefix
	return flags
}

func (c *child) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", c.pg))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func (c *child) exec(t *testing.T, sql string) {
	t.Helper()
	conn := c.connect(t)
	defer conn.Close(context.Background())
	if _, err := conn.PgConn().Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatal(err)
	}
}

// TestLeaving has a writer that lives and works on, and takes the database out of its bucket in all three ways.
func TestLeaving(t *testing.T) {
	t.Parallel()
	flags := emulator(t)
	c := start(t, flags...)
	c.exec(t, everything)
	lasting := c.connect(t) // a client of the writer, all the while
	defer lasting.Close(context.Background())
	want := c.fingerprint(t)
	before := objects(t, flags, "p")

	dir := t.TempDir()
	sql := filepath.Join(dir, "all.sql")
	admin(t, 0, append([]string{"dump", "-o", sql}, flags...)...)
	archive := filepath.Join(dir, "data.tar")
	if text := admin(t, 0, append([]string{"restore-to", archive}, flags...)...); !strings.Contains(text, "PostgreSQL 18") {
		t.Error(text)
	}
	if text := admin(t, 0, append([]string{"branch", "gs://bucket/other"}, flags...)...); !strings.Contains(text, "a copy of") {
		t.Error(text)
	}
	// Writes that were still pending in its writer may have arrived.
	after := slices.DeleteFunc(objects(t, flags, "p"), func(o string) bool { return strings.HasPrefix(o, "wal/") && !slices.Contains(before, o) })
	if !slices.Equal(before, after) {
		t.Errorf("the prefix that was read has changed:\n%s\nto\n%s", before, after)
	}
	if _, err := lasting.Exec(t.Context(), "INSERT INTO shop.events VALUES ('2026-12-31', 1)"); err != nil {
		t.Errorf("the writer was disturbed: %v", err)
	}
	// nextval runs up to 32 values ahead of what is logged, in a dump as after any crash.
	atRest := func(all []string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return strings.Contains(s, "nextval") })
	}
	t.Run("dump", func(t *testing.T) {
		d := start(t, on(flags, "restored")...)
		d.play(t, sql)
		if got := d.fingerprint(t); !slices.Equal(atRest(got), atRest(want)) {
			t.Errorf("restored:\n%s\nwas:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		first, err := os.ReadFile(sql)
		if err != nil {
			t.Fatal(err)
		}
		second := admin(t, 0, append([]string{"dump"}, on(flags, "restored")...)...)
		if a, b := comparable(string(first)), comparable(second); a != b {
			t.Errorf("the dump of what was restored is another one: %d bytes, %d bytes", len(a), len(b))
		}
	})
	t.Run("branch", func(t *testing.T) {
		d := start(t, on(flags, "other")...)
		if got := d.fingerprint(t); !slices.Equal(atRest(got), atRest(want)) {
			t.Errorf("branch:\n%s\nwas:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		d.exec(t, "DELETE FROM shop.events")
		admin(t, 0, append([]string{"verify"}, on(flags, "other")...)...)
	})
	t.Run("restore-to", func(t *testing.T) { startFromTar(t, archive, strings.TrimPrefix(want[1], fingerprints[1]+": ")) })
	if got := c.query(t, "SELECT count(*)::text FROM shop.events"); got != "302" {
		t.Errorf("the original has %s events", got)
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-c.done
	if code := c.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the writer ended with exit code %d", code)
	}
}

// comparable is a dump without the parts that differ from dump to dump.
func comparable(dump string) string {
	dump = regexp.MustCompile(`(?m)^\\(un)?restrict .*$`).ReplaceAllString(dump, "")
	return regexp.MustCompile(`(?m)^SELECT pg_catalog.setval\(.*$`).ReplaceAllString(dump, "")
}

// play runs a dump as psql does: statements, and the data behind COPY ... FROM stdin.
func (c *child) play(t *testing.T, name string) {
	t.Helper()
	conn := c.connect(t)
	defer conn.Close(context.Background())
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	var pending strings.Builder
	flush := func() {
		if _, err := conn.PgConn().Exec(t.Context(), pending.String()).ReadAll(); err != nil {
			t.Fatalf("%v in %.500s", err, pending.String())
		}
		pending.Reset()
	}
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			flush()
			return
		}
		switch {
		case err != nil:
			t.Fatal(err)
		case strings.HasPrefix(line, `\restrict `), strings.HasPrefix(line, `\unrestrict `):
		case strings.HasPrefix(line, "COPY ") && strings.HasSuffix(line, " FROM stdin;\n"):
			flush()
			var data bytes.Buffer
			for {
				row, err := lines.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				if row == "\\.\n" {
					break
				}
				data.WriteString(row)
			}
			if _, err := conn.PgConn().CopyFrom(t.Context(), &data, line); err != nil {
				t.Fatal(err)
			}
		default:
			pending.WriteString(line)
		}
	}
}

// startFromTar starts PostgreSQL on the files of an archive.
func startFromTar(t *testing.T, name, want string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files := memfs.New(memfs.Options{})
	for archive := tar.NewReader(f); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeDir {
			err = files.MkdirAll(h.Name, uint32(h.Mode))
		} else {
			var body []byte
			if body, err = io.ReadAll(archive); err == nil {
				err = files.WriteFile(h.Name, body, uint32(h.Mode))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	rt, err := pglite.NewRuntime(t.Context(), pglite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	cluster, err := rt.StartCluster(t.Context(), pglite.ClusterOptions{Data: files})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Kill()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go serveOnce(t.Context(), l, cluster)
	conn, err := pgx.Connect(t.Context(), "postgres://postgres@"+l.Addr().String()+"/postgres?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var got string
	if err := conn.QueryRow(t.Context(), fingerprints[1]).Scan(&got); err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

// serveOnce connects the next client of a listener with a process.
func serveOnce(ctx context.Context, l net.Listener, cluster *pglite.Cluster) {
	tcp, err := l.Accept()
	if err != nil {
		return
	}
	defer tcp.Close()
	conn, err := cluster.Connect(ctx, pglite.ConnectOptions{Trusted: true})
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(conn, tcp)
		_ = conn.Close()
	}()
	for {
		a, err := conn.Next(ctx)
		if err != nil {
			return
		}
		if _, err := tcp.Write(a.Bytes); err != nil {
			return
		}
	}
}

// TestDumpBesideABusyWriter: while a writer commits, compacts and collects, each dump holds what was acknowledged before it began, and a
// prefix of what came later; the writer is not disturbed.
func TestDumpBesideABusyWriter(t *testing.T) {
	t.Parallel()
	flags := emulator(t)
	c := start(t, append(slices.Clone(flags), "-restore-budget", "1ms")...)
	c.exec(t, "CREATE TABLE t (n int)")
	conn := c.connect(t)
	defer conn.Close(context.Background())
	var acked atomic.Int64
	enough, written := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := int64(1); ; n++ {
			select {
			case <-enough:
				written <- nil
				return
			default:
			}
			if _, err := conn.Exec(context.Background(), "INSERT INTO t VALUES ($1)", n); err != nil {
				written <- err
				return
			}
			acked.Store(n)
		}
	}()
	for range 4 {
		before := acked.Load()
		text := admin(t, 0, append([]string{"dump"}, flags...)...)
		_, rows, _ := strings.Cut(text, "COPY public.t (n) FROM stdin;\n")
		rows, _, _ = strings.Cut(rows, "\\.\n")
		last := int64(0)
		for row := range strings.Lines(rows) {
			last++
			if row != fmt.Sprintf("%d\n", last) {
				t.Fatalf("row %d of the dump is %q", last, row)
			}
		}
		if last < before {
			t.Errorf("the dump ends at row %d, %d were acknowledged before it began", last, before)
		}
		t.Logf("%d rows acknowledged before the dump, %d in it, %d after it", before, last, acked.Load())
	}
	close(enough)
	if err := <-written; err != nil {
		t.Errorf("the writer was disturbed: %v", err)
	}
}

func TestLeavingRefuses(t *testing.T) {
	t.Parallel()
	flags := emulator(t)
	if text := admin(t, 0, "dump", "-help"); !strings.Contains(text, "pg_dump's own flags") || !strings.Contains(text, "-at") {
		t.Error(text)
	}
	for _, args := range [][]string{{"dump"}, {"restore-to", filepath.Join(t.TempDir(), "x.tar")}, {"branch", "gs://bucket/q"}} {
		if text := admin(t, 1, append(args, flags...)...); !strings.Contains(text, "no database here") {
			t.Errorf("%s of nothing: %s", args[0], text)
		}
	}
	c := start(t, flags...)
	c.exec(t, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
	dir := t.TempDir()
	for _, r := range []struct {
		code int
		args []string
		want string
	}{
		{1, []string{"branch", "gs://bucket/p/below"}, "belongs to it alone"},
		{1, []string{"branch", "gs://bucket/p"}, "belongs to it alone"},
		{1, []string{"branch", "bucket"}, "gs://name/prefix"},
		{2, []string{"branch"}, "needs one argument"},
		{2, []string{"restore-to", "a", "b"}, "needs one argument"},
		{1, []string{"restore-to", "-at", "yesterday", filepath.Join(dir, "a.tar")}, "-at"},
		{1, []string{"dump", "-at", "100000"}, "beyond retention"},
		{1, []string{"restore-to", filepath.Join(dir, "nowhere", "a.tar")}, "nowhere"},
	} {
		if text := admin(t, r.code, append(r.args, flags...)...); !strings.Contains(text, r.want) {
			t.Errorf("%q says %q, not %q", r.args, text, r.want)
		}
	}
	for _, r := range []struct {
		args []string
		want string
	}{
		{[]string{"--no-such-flag"}, "exit code 1"},
		{[]string{"-t", "nothing"}, "exit code 1"},
		{[]string{"-Fd"}, "exit code 1"},
		{[]string{"-f", "x"}, "is refused"},
	} {
		args := append(append([]string{"dump", "-o", filepath.Join(dir, "a.sql")}, flags...), "--")
		if text := admin(t, 1, append(args, r.args...)...); !strings.Contains(text, r.want) {
			t.Errorf("%q says %q, not %q", r.args, text, r.want)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("commands that failed left files: %v, %v", left, err)
	}
	admin(t, 0, append([]string{"branch", "gs://bucket/q"}, flags...)...)
	was := objects(t, flags, "q")
	if text := admin(t, 1, append([]string{"branch", "gs://bucket/q"}, flags...)...); !strings.Contains(text, "not empty") {
		t.Error(text)
	}
	if !slices.Equal(was, objects(t, flags, "q")) {
		t.Error("a branch to a database has changed it")
	}
}
