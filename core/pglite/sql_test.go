package pglite

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/clock"
)

func TestVersionAndZone(t *testing.T) {
	in := start(t, ClusterOptions{})
	want(t, in, "SHOW server_version", PostgresVersion)
	want(t, in, "SHOW server_encoding", "UTF8")
	want(t, in, "SHOW TimeZone", "UTC")
	want(t, in, "SELECT '2026-07-01 12:00+00'::timestamptz AT TIME ZONE 'Europe/Zurich'", "2026-07-01 14:00:00")
	want(t, in, "SELECT current_user, current_database()", "postgres|postgres")
	want(t, in, "SELECT 'ä' < 'b' COLLATE \"und-x-icu\", upper('straße' COLLATE \"und-x-icu\"), 'ä' < 'b' COLLATE \"C\"", "t|STRASSE|f")
}

func TestTimeIsTheClocks(t *testing.T) {
	in := start(t, ClusterOptions{Clock: clock.NewVirtual(time.Date(2026, 7, 1, 12, 0, 0, 123_456_000, time.UTC))})
	want(t, in, "SELECT clock_timestamp(), now()", "2026-07-01 12:00:00.123456+00|2026-07-01 12:00:00.123456+00")
}

func TestSchemaAndData(t *testing.T) {
	in := start(t, ClusterOptions{})
	for _, c := range []struct{ sql, tag string }{
		{"CREATE TABLE item (id bigserial PRIMARY KEY, name text UNIQUE, price numeric(10,2) CHECK (price >= 0))", "CREATE TABLE"},
		{"INSERT INTO item (name, price) SELECT 'n' || g, g / 4.0 FROM generate_series(1, 1000) g", "INSERT 0 1000"},
		{"UPDATE item SET price = price + 1 WHERE id <= 10", "UPDATE 10"},
		{"DELETE FROM item WHERE id > 900", "DELETE 100"},
		{"MERGE INTO item i USING (VALUES ('n1'), ('new')) v(name) ON i.name = v.name " +
			"WHEN MATCHED THEN UPDATE SET price = 0 WHEN NOT MATCHED THEN INSERT (name, price) VALUES (v.name, 7)", "MERGE 2"},
		{"INSERT INTO item (name, price) VALUES ('new', 1) ON CONFLICT (name) DO UPDATE SET price = excluded.price", "INSERT 0 1"},
		{"CREATE INDEX ON item (price)", "CREATE INDEX"},
		{"ALTER TABLE item ADD COLUMN tags jsonb DEFAULT '{\"a\": [1, 2]}'", "ALTER TABLE"},
		{"CREATE VIEW dear AS SELECT name FROM item WHERE price > 200", "CREATE VIEW"},
		{"CREATE MATERIALIZED VIEW total AS SELECT sum(price) FROM item", "SELECT 1"},
		{"VACUUM ANALYZE item", "VACUUM"},
		{"CHECKPOINT", "CHECKPOINT"},
	} {
		wantLines(t, exchange(t, in, &pgproto3.Query{String: c.sql}), "CommandComplete "+c.tag, "ReadyForQuery I")
	}
	want(t, in, "SELECT count(*), sum(price) FROM item", "901|101372.25")
	want(t, in, "SELECT tags->'a'->>1 FROM item WHERE name = 'n1'", "2")
	want(t, in, "SELECT string_agg(name, ',' ORDER BY name) FROM (SELECT * FROM dear ORDER BY name LIMIT 2)", "n801,n802")
	want(t, in, "WITH RECURSIVE f(a, b) AS (VALUES (0, 1) UNION ALL SELECT b, a + b FROM f WHERE b < 50) SELECT max(a) FROM f", "34")
	want(t, in, "DROP TABLE item CASCADE; SELECT count(*) FROM pg_class WHERE relname IN ('item', 'dear', 'total')", "0")
}

func TestErrorsAndRecovery(t *testing.T) {
	in := start(t, ClusterOptions{})
	rows(t, in, "CREATE TABLE a (id int PRIMARY KEY)")
	for _, c := range []struct{ sql, state string }{
		{"SELEC 1", "42601"},
		{"SELECT 1/0", "22012"},
		{"SELECT * FROM nothing", "42P01"},
		{"INSERT INTO a VALUES (1), (1)", "23505"},
		{"SELECT 'x'::int", "22P02"},
		{"SELECT pg_read_file('/none')", "58P01"},
		{"BEGIN; SELECT 1/0", "22012"},
		{"COPY a FROM PROGRAM 'ls'", "42501"},
		{"COPY a TO PROGRAM 'cat'", "42501"},
		{"CREATE SUBSCRIPTION s CONNECTION 'host=x' PUBLICATION p", "58P01"}, // libpqwalreceiver cannot be loaded
		{"LOAD 'nothing'", "58P01"},
	} {
		wantState(t, in, c.sql, c.state)
	}
	want(t, in, "SELECT count(*) FROM a", "0")
	wantState(t, in, "BEGIN; INSERT INTO a VALUES (1); SELECT 1/0; COMMIT", "22012")
	want(t, in, "SELECT count(*) FROM a", "0")
}

func TestFailedTransaction(t *testing.T) {
	in := start(t, ClusterOptions{})
	rows(t, in, "CREATE TABLE a (id int)")
	q := func(sql string) string { return exchange(t, in, &pgproto3.Query{String: sql}) }
	wantLines(t, q("BEGIN"), "CommandComplete BEGIN", "ReadyForQuery T")
	wantLines(t, q("INSERT INTO a VALUES (1)"), "CommandComplete INSERT 0 1", "ReadyForQuery T")
	wantLines(t, q("SELECT 1/0"), "ErrorResponse ERROR 22012", "ReadyForQuery E")
	wantLines(t, q("SELECT 1"), "ErrorResponse ERROR 25P02", "ReadyForQuery E")
	wantLines(t, q("COMMIT"), "CommandComplete ROLLBACK", "ReadyForQuery I")
	want(t, in, "SELECT count(*) FROM a", "0")
}

func TestNestedSavepoints(t *testing.T) {
	in := start(t, ClusterOptions{})
	rows(t, in, "CREATE TABLE a (id int PRIMARY KEY)")
	fails := func(sql, state string) {
		t.Helper()
		_, err := in.Query(t.Context(), sql)
		wantPgError(t, err, state)
	}
	rows(t, in, "BEGIN; INSERT INTO a VALUES (1); SAVEPOINT x; INSERT INTO a VALUES (2)")
	rows(t, in, "SAVEPOINT y; INSERT INTO a VALUES (3)")
	fails("INSERT INTO a VALUES (3)", "23505")
	fails("INSERT INTO a VALUES (4)", "25P02")
	rows(t, in, "ROLLBACK TO y")
	want(t, in, "SELECT string_agg(id::text, ',' ORDER BY id) FROM a", "1,2")
	rows(t, in, "INSERT INTO a VALUES (5); RELEASE y; SAVEPOINT z")
	fails("SELECT 1/0", "22012")
	rows(t, in, "ROLLBACK TO z; INSERT INTO a VALUES (6)")
	fails("ROLLBACK TO nothing", "3B001")
	rows(t, in, "ROLLBACK TO x")
	want(t, in, "SELECT string_agg(id::text, ',' ORDER BY id) FROM a", "1")
	rows(t, in, "INSERT INTO a VALUES (7); COMMIT")
	want(t, in, "SELECT string_agg(id::text, ',' ORDER BY id) FROM a", "1,7")
	// More of them than a transaction keeps in shared memory.
	want(t, in, `DO $$ BEGIN FOR i IN 100..400 LOOP
		BEGIN INSERT INTO a VALUES (i); IF i % 3 = 0 THEN RAISE division_by_zero; END IF;
		EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$;
		SELECT count(*), sum(id) FROM a`, "203|50208")
}

func TestSeveralStatementsInOneQuery(t *testing.T) {
	in := start(t, ClusterOptions{})
	rows(t, in, "CREATE TABLE a (id int)")
	wantLines(t, exchange(t, in, &pgproto3.Query{String: "INSERT INTO a VALUES (1); SELECT 2 AS b, NULL; ; SELECT 1/0; INSERT INTO a VALUES (3)"}),
		"CommandComplete INSERT 0 1", "RowDescription b ?column?", "DataRow 2|NULL", "CommandComplete SELECT 1",
		"ErrorResponse ERROR 22012", "ReadyForQuery I")
	want(t, in, "SELECT count(*) FROM a", "0") // they were one transaction
	wantLines(t, exchange(t, in, &pgproto3.Query{String: ""}), "EmptyQueryResponse", "ReadyForQuery I")
	wantLines(t, exchange(t, in, &pgproto3.Query{String: "SELECT 1"}, &pgproto3.Query{String: "SELECT 2"}),
		"RowDescription ?column?", "DataRow 1", "CommandComplete SELECT 1", "ReadyForQuery I",
		"RowDescription ?column?", "DataRow 2", "CommandComplete SELECT 1", "ReadyForQuery I")
	if got := exchange(t, in); got != "" {
		t.Fatalf("no message was answered by %s", got)
	}
}

func TestProceduralLanguage(t *testing.T) {
	in := start(t, ClusterOptions{})
	want(t, in, `CREATE FUNCTION safe(a int, b int) RETURNS text LANGUAGE plpgsql AS $$
		BEGIN
			RETURN a / b;
		EXCEPTION
			WHEN division_by_zero THEN RETURN 'caught ' || SQLSTATE;
		END $$;
		SELECT safe(6, 3), safe(1, 0)`, "2|caught 22012")
	wantState(t, in, "DO $$ BEGIN RAISE EXCEPTION 'mine' USING ERRCODE = 'XX123'; END $$", "XX123")
	want(t, in, `CREATE FUNCTION nested(depth int) RETURNS int LANGUAGE plpgsql AS $$
		BEGIN
			IF depth = 0 THEN RAISE EXCEPTION 'bottom'; END IF;
			RETURN nested(depth - 1);
		EXCEPTION WHEN OTHERS THEN
			IF depth % 2 = 0 THEN RAISE; END IF;
			RETURN depth;
		END $$;
		SELECT nested(20)`, "1")
	want(t, in, `CREATE PROCEDURE twice() LANGUAGE plpgsql AS $$
		BEGIN CREATE TABLE p (i int); COMMIT; INSERT INTO p VALUES (1); ROLLBACK; INSERT INTO p VALUES (2); END $$;`, "")
	want(t, in, "CALL twice()", "")
	want(t, in, "SELECT i FROM p", "2")
}

func TestTriggers(t *testing.T) {
	in := start(t, ClusterOptions{})
	want(t, in, `CREATE TABLE a (id int, changed int DEFAULT 0); CREATE TABLE log (what text);
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF TG_OP = 'INSERT' AND NEW.id < 0 THEN RAISE EXCEPTION 'negative' USING ERRCODE = '23514'; END IF;
			INSERT INTO log VALUES (TG_OP || ' ' || coalesce(NEW.id, OLD.id));
			IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
			NEW.changed := coalesce(NEW.changed, 0) + 1; RETURN NEW;
		END $$;
		CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON a FOR EACH ROW EXECUTE FUNCTION note();
		INSERT INTO a VALUES (1), (2); UPDATE a SET id = 3 WHERE id = 2; DELETE FROM a WHERE id = 1;
		SELECT a.*, (SELECT string_agg(what, ',') FROM log) FROM a`, "3|2|INSERT 1,INSERT 2,UPDATE 3,DELETE 1")
	wantState(t, in, "INSERT INTO a VALUES (4), (-1)", "23514")
	want(t, in, "SELECT count(*) FROM a", "1")
}

func TestFullTextSearch(t *testing.T) {
	in := start(t, ClusterOptions{})
	want(t, in, `CREATE TABLE doc (body text, v tsvector GENERATED ALWAYS AS (to_tsvector('english', body)) STORED);
		CREATE INDEX ON doc USING gin (v);
		INSERT INTO doc SELECT 'filler number ' || g FROM generate_series(1, 200) g;
		INSERT INTO doc VALUES ('The quick brown foxes were jumping'), ('A lazy dog sleeps');
		SET enable_seqscan = off;
		SELECT body, ts_headline('english', body, q) FROM doc, to_tsquery('english', 'jump & fox') q WHERE v @@ q`,
		"The quick brown foxes were jumping|The quick brown <b>foxes</b> were <b>jumping</b>")
	want(t, in, "SELECT to_tsvector('german', 'Die Häuser der Städte')", "'haus':2 'stadt':4")
}

func TestListenNotify(t *testing.T) {
	in := start(t, ClusterOptions{})
	rows(t, in, "LISTEN news")
	wantLines(t, exchange(t, in, &pgproto3.Query{String: "NOTIFY news, 'one'"}),
		"CommandComplete NOTIFY", "NotificationResponse news one", "ReadyForQuery I")
	wantLines(t, exchange(t, in, &pgproto3.Query{String: "BEGIN; NOTIFY news, 'two'; ROLLBACK"}),
		"CommandComplete BEGIN", "CommandComplete NOTIFY", "CommandComplete ROLLBACK", "ReadyForQuery I")
	wantLines(t, exchange(t, in, &pgproto3.Query{String: "SELECT pg_notify('news', 'three'), pg_notify('other', 'x')"}),
		"RowDescription pg_notify pg_notify", "DataRow |", "CommandComplete SELECT 1", "NotificationResponse news three", "ReadyForQuery I")
	rows(t, in, "UNLISTEN *")
	wantLines(t, exchange(t, in, &pgproto3.Query{String: "NOTIFY news"}), "CommandComplete NOTIFY", "ReadyForQuery I")
}
