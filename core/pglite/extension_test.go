package pglite

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/memfs"
	"blobpglite/core/pglite/internal/wasmbin"
)

// extensionUse is one use of a bundled extension. Its statements can be repeated on the same database.
type extensionUse struct {
	name      string // of the extension, or of the loaded module
	load      bool   // LOAD instead of CREATE EXTENSION
	setup     string // run once, after the extension is created
	sql, want string
	sqlstate  string // with which the statement fails
}

func extensionUses() []extensionUse {
	return []extensionUse{
		{name: "amcheck", setup: "CREATE TABLE am (i int PRIMARY KEY); INSERT INTO am SELECT generate_series(1, 1000)",
			sql: "SELECT bt_index_check('am_pkey'), (SELECT count(*) FROM verify_heapam('am'))", want: "|0"},
		{name: "auto_explain", load: true, sql: "SET auto_explain.log_min_duration = 0; SELECT 7; SET auto_explain.log_min_duration = -1; SELECT 8", want: "8"},
		{name: "autoinc", setup: "CREATE SEQUENCE inc; CREATE TABLE auto (id int, v text); CREATE TRIGGER t BEFORE INSERT ON auto FOR EACH ROW EXECUTE FUNCTION autoinc(id, inc)",
			sql: "INSERT INTO auto (v) VALUES ('x') RETURNING id > 0", want: "t"},
		{name: "bloom", setup: "CREATE TABLE bl (a int, b int); INSERT INTO bl SELECT g, g % 7 FROM generate_series(1, 1000) g; CREATE INDEX ON bl USING bloom (a, b)",
			sql: "SET enable_seqscan = off; SELECT count(*) FROM bl WHERE a = 70 AND b = 0", want: "1"},
		{name: "btree_gin", setup: "CREATE TABLE bg (a int); INSERT INTO bg SELECT generate_series(1, 100); CREATE INDEX ON bg USING gin (a)",
			sql: "SET enable_seqscan = off; SELECT count(*) FROM bg WHERE a < 10", want: "9"},
		{name: "btree_gist", setup: "CREATE TABLE room (n int, at tsrange, EXCLUDE USING gist (n WITH =, at WITH &&)); INSERT INTO room VALUES (1, '[2026-01-01,2026-01-02)')",
			sql: "INSERT INTO room VALUES (1, '[2026-01-01 12:00,2026-01-03)')", sqlstate: "23P01"},
		{name: "citext", sql: "SELECT 'Ä'::citext = 'ä'::citext, 'a'::citext = 'B'", want: "t|f"},
		{name: "cube", sql: "SELECT cube_distance('(0,0)', '(3,4)')", want: "5"},
		{name: "dict_int", sql: "SELECT ts_lexize('intdict', '12345678')", want: "{123456}"},
		{name: "dict_xsyn", setup: "ALTER TEXT SEARCH DICTIONARY xsyn (RULES = 'xsyn_sample', KEEPORIG = true, MATCHORIG = true)",
			sql: "SELECT ts_lexize('xsyn', 'supernova')", want: "{supernova,sn,sne,1987a}"},
		{name: "earthdistance", sql: "SELECT round((point(8.54, 47.37) <@> point(7.44, 46.95))::numeric)", want: "59"},
		{name: "file_fdw", setup: "CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; COPY (SELECT 5) TO '/tmp/five'; CREATE FOREIGN TABLE five (i int) SERVER files OPTIONS (filename '/tmp/five')",
			sql: "SELECT i FROM five", want: "5"},
		{name: "fuzzystrmatch", sql: "SELECT levenshtein('kitten', 'sitting'), soundex('Anne'), daitch_mokotoff('Meyer')", want: "3|A500|{619000}"},
		{name: "hstore", sql: "SELECT ('a=>1, b=>2'::hstore || 'b=>3')->'b'", want: "3"},
		{name: "insert_username", setup: "CREATE TABLE own (v text, who text); CREATE TRIGGER t BEFORE INSERT ON own FOR EACH ROW EXECUTE FUNCTION insert_username(who)",
			sql: "INSERT INTO own VALUES ('x') RETURNING who", want: "postgres"},
		{name: "intarray", sql: "SELECT '{1,2,3}'::int[] & '{2,3,4}'::int[], '{1,2}'::int[] @@ '1&!3'::query_int", want: "{2,3}|t"},
		{name: "isn", sql: "SELECT isbn('978-0-393-04002-9')", want: "0-393-04002-X"},
		{name: "lo", setup: "CREATE TABLE big (b lo); CREATE TRIGGER t BEFORE UPDATE OR DELETE ON big FOR EACH ROW EXECUTE FUNCTION lo_manage(b)",
			sql: "INSERT INTO big SELECT lo_from_bytea(0, 'xyz'); DELETE FROM big; SELECT count(*) FROM pg_largeobject_metadata", want: "0"},
		{name: "ltree", sql: "SELECT 'Top.Science.Astronomy'::ltree ~ '*.Science.*'::lquery, subpath('a.b.c', 1)", want: "t|b.c"},
		{name: "moddatetime", setup: "CREATE TABLE md (v text, at timestamptz); INSERT INTO md VALUES ('x', NULL); CREATE TRIGGER t BEFORE UPDATE ON md FOR EACH ROW EXECUTE FUNCTION moddatetime(at)",
			sql: "UPDATE md SET v = 'y' RETURNING at = now()", want: "t"},
		{name: "pageinspect", sql: "SELECT (page_header(get_raw_page('pg_class', 0))).pagesize", want: "8192"},
		{name: "passwordcheck", load: true, sql: "CREATE ROLE weak PASSWORD 'short'", sqlstate: "22023"},
		{name: "pg_buffercache", sql: "SELECT count(*) FROM pg_buffercache", want: "2048"},
		{name: "pg_freespacemap", sql: "SELECT count(*) > 0 FROM pg_freespace('pg_class')", want: "t"},
		{name: "pg_logicalinspect", sql: "SELECT count(*) FROM pg_get_logical_snapshot_meta('0-0.snap')", sqlstate: "58P01"},
		{name: "pg_overexplain", load: true, sql: "EXPLAIN (DEBUG, COSTS off) SELECT 1",
			want: "Result\n  Disabled Nodes: 0\n  Parallel Safe: false\n  Plan Node ID: 0\nPlannedStmt:\n  Command Type: select\n  Flags: canSetTag\n  Subplans Needing Rewind: none\n  Relation OIDs: none\n  Executor Parameter Types: none\n  Parse Location: 0 to end"},
		{name: "pg_stat_statements", sql: "SELECT count(*) FROM pg_stat_statements", sqlstate: "55000"}, // must be loaded at start
		{name: "pg_surgery", setup: "CREATE TABLE sick (i int); INSERT INTO sick VALUES (1), (2)",
			sql: "SELECT heap_force_kill('sick', ARRAY['(0,1)']::tid[]); SELECT count(*) FROM sick", want: "1"},
		{name: "pg_trgm", setup: "CREATE TABLE tr (v text); INSERT INTO tr SELECT md5(g::text) FROM generate_series(1, 200) g; INSERT INTO tr VALUES ('postgresql'); CREATE INDEX ON tr USING gin (v gin_trgm_ops)",
			sql: "SET enable_seqscan = off; SELECT v, similarity(v, 'postgres') > 0.5 FROM tr WHERE v LIKE '%tgre%'", want: "postgresql|t"},
		{name: "pg_visibility", sql: "SELECT count(*) FROM pg_check_visible('pg_class')", want: "0"},
		{name: "pg_walinspect", sql: "SELECT count(*) > 0 FROM pg_get_wal_records_info((SELECT redo_lsn FROM pg_control_checkpoint()), pg_current_wal_lsn())", want: "t"},
		{name: "pgcrypto", sql: "SELECT encode(digest('abc', 'sha256'), 'hex'), pgp_sym_decrypt(pgp_sym_encrypt('secret', 'k'), 'k'), crypt('pw', gen_salt('bf', 4)) LIKE '$2a$04$%'",
			want: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad|secret|t"},
		{name: "plpgsql", sql: "DO $$ BEGIN PERFORM 1; END $$", want: ""},
		{name: "refint", setup: "CREATE TABLE pk (i int PRIMARY KEY); CREATE TABLE fk (i int); CREATE TRIGGER t AFTER INSERT ON fk FOR EACH ROW EXECUTE FUNCTION check_primary_key('i', 'pk', 'i')",
			sql: "INSERT INTO fk VALUES (5)", sqlstate: "09000"},
		{name: "seg", sql: "SELECT '1.5 .. 3'::seg @> '2'::seg, '0 .. 1'::seg && '2 .. 3'::seg", want: "t|f"},
		{name: "tablefunc", sql: "SELECT string_agg(a || b, ',') FROM crosstab('SELECT 1, 1, ''x'' UNION ALL SELECT 1, 2, ''y''') AS c(i int, a text, b text)", want: "xy"},
		{name: "tcn", setup: "CREATE TABLE watched (i int PRIMARY KEY); CREATE TRIGGER t AFTER INSERT ON watched FOR EACH ROW EXECUTE FUNCTION triggered_change_notification()",
			sql: "INSERT INTO watched SELECT coalesce(max(i), 0) + 1 FROM watched RETURNING i > 0", want: "t"},
		{name: "tsm_system_rows", sql: "SELECT count(*) FROM pg_class TABLESAMPLE system_rows(10)", want: "10"},
		{name: "tsm_system_time", sql: "SELECT count(*) > 0 FROM pg_class TABLESAMPLE system_time(1000)", want: "t"},
		{name: "unaccent", sql: "SELECT unaccent('Hôtel Zürich')", want: "Hotel Zurich"},
		{name: "uuid-ossp", sql: "SELECT uuid_generate_v5(uuid_ns_dns(), 'example.org'), length(uuid_generate_v4()::text)", want: "aad03681-8b63-5304-89e0-8ca8f49461b5|36"},
	}
}

func (u extensionUse) create(t testing.TB, in *server) {
	t.Helper()
	if u.load {
		rows(t, in, fmt.Sprintf("LOAD '%s'", u.name))
	} else {
		rows(t, in, fmt.Sprintf("CREATE EXTENSION IF NOT EXISTS %q CASCADE", u.name))
	}
	if u.setup != "" {
		rows(t, in, u.setup)
	}
}

// use runs an extension's statement.
func (u extensionUse) use(t testing.TB, in *server) {
	t.Helper()
	if u.sqlstate != "" {
		wantState(t, in, u.sql, u.sqlstate)
		return
	}
	want(t, in, u.sql, u.want)
}

// Every extension that comes with PGlite is created and used, used again in a clone that has all libraries loaded, and dropped.
func TestExtensions(t *testing.T) {
	rt, in := testRuntime(t), start(t, ClusterOptions{})
	uses := extensionUses()
	var covered []string
	for _, u := range uses {
		covered = append(covered, u.name)
		t.Run(u.name, func(t *testing.T) {
			at := time.Now()
			u.create(t, in)
			u.use(t, in)
			t.Logf("%-20s created and used in %v", u.name, time.Since(at).Round(time.Millisecond))
		})
	}
	var bundled []string
	for _, name := range rt.assets.Extensions() {
		files, err := rt.assets.ExtensionFiles(name)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range files {
			if control, ok := strings.CutSuffix(f.Path[strings.LastIndex(f.Path, "/")+1:], ".control"); ok {
				bundled, found = append(bundled, control), true
			}
		}
		if !found {
			bundled = append(bundled, name)
		}
	}
	for _, name := range bundled {
		if !slices.Contains(covered, name) {
			t.Errorf("%s is bundled and not in the table", name)
		}
	}
	other := &server{Cluster: in.Cluster, log: in.log}
	other.login(t, "postgres")
	for _, u := range uses { // another process loads all of it itself
		if u.load {
			rows(t, other, fmt.Sprintf("LOAD '%s'", u.name))
		}
		u.use(t, other)
	}
	for _, u := range uses {
		if !u.load {
			rows(t, other, fmt.Sprintf("DROP EXTENSION IF EXISTS %q CASCADE", u.name))
		}
	}
	want(t, in, "SELECT count(*) FROM pg_extension", "0")
}

// A library may be loaded at the start; its variables survive in a clone.
func TestPreloadedLibrary(t *testing.T) {
	rt := testRuntime(t)
	data, err := rt.Template(t.Context(), memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in := start(t, ClusterOptions{Data: data, Settings: map[string]string{"shared_preload_libraries": "pg_stat_statements"}})
	rows(t, in, "CREATE EXTENSION pg_stat_statements; SELECT 1")
	other := &server{Cluster: in.Cluster, log: in.log}
	other.login(t, "postgres")
	for n, x := range []*server{in, other} { // its counters are in shared memory
		want(t, x, "SELECT 'counted'", "counted")
		want(t, x, "SELECT sum(calls) FROM pg_stat_statements WHERE query LIKE 'SELECT $1'", fmt.Sprint(2+n))
	}
}

// This build of PostgreSQL lacks functions that some modules need. Such modules are not loaded, and using them is an error.
func TestWhatModulesLack(t *testing.T) {
	in := quiet(t)
	for _, c := range []struct{ sql, text string }{
		{"LOAD 'nothing'", "No such file"},
		{"COPY (SELECT 'no module') TO '/tmp/bad.so'; LOAD '/tmp/bad.so'", "magic number"},
		{"LOAD '/pglite/data/PG_VERSION'", "magic number"},
		{"LOAD 'libpqwalreceiver'", "PostgreSQL lacks pg_saslprep"},
		{"LOAD 'pgoutput'", "PostgreSQL lacks"},
		{"SELECT convert_to('ä', 'LATIN1')", "PostgreSQL lacks"},
		{"SELECT convert_from('\\xe4', 'WIN1252')", "PostgreSQL lacks"},
		{"SET client_encoding = 'LATIN1'", "set client_encoding (PGCLIENTENCODING) to UTF8"},
		{"SET client_encoding = 'SJIS'", "set client_encoding (PGCLIENTENCODING) to UTF8"},
		{"SELECT pg_create_logical_replication_slot('x', 'pgoutput')", "max_replication_slots"},
	} {
		var pgErr *pgconn.PgError
		if _, err := in.Query(t.Context(), c.sql); !errors.As(err, &pgErr) || !strings.Contains(pgErr.Message, c.text) {
			t.Errorf("%s: got %v, want %s", c.sql, err, c.text)
		}
		want(t, in, "SELECT chr(228)", "ä")
	}
	want(t, in, "SET client_encoding = 'SQL_ASCII'; SELECT chr(228)", "ä")
}

// Each side module in the installation parses, and says what it needs.
func TestSideModules(t *testing.T) {
	rt := testRuntime(t)
	const dir = pgRoot + "/lib/postgresql"
	list, err := rt.installed().ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, d := range list {
		if !strings.HasSuffix(d.Name, ".so") {
			continue
		}
		n++
		bin, err := rt.installed().ReadFile(dir + "/" + d.Name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := wasmbin.Parse(bin)
		if err != nil {
			t.Errorf("%s: %v", d.Name, err)
			continue
		}
		if m.Dylink == nil || len(m.Dylink.Needed) > 0 {
			t.Errorf("%s: %+v", d.Name, m.Dylink)
		}
	}
	if n < 60 {
		t.Fatalf("only %d side modules in %s", n, dir)
	}
}
