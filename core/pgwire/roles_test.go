package pgwire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/engine"
)

// waysOut are ways to gain rights without having any, as SQL of a role that owns a database and nothing else. Each fails with an SQLSTATE,
// or succeeds (empty) and gains nothing.
func waysOut() map[string]string {
	const denied = "42501"
	ways := map[string]string{
		// To become another role.
		"SET ROLE postgres": denied, "SET SESSION AUTHORIZATION postgres": denied, "SET LOCAL ROLE postgres": denied,
		"SELECT set_config('role', 'postgres', false)": denied, "SELECT set_config('session_authorization', 'postgres', false)": denied,
		"RESET SESSION AUTHORIZATION": "", "RESET ROLE": "", "RESET ALL": "", "DISCARD ALL": "", "SET ROLE NONE": "",
		"SET SESSION AUTHORIZATION DEFAULT": "", "SET is_superuser = on": "55P02", "SELECT set_config('is_superuser', 'on', false)": "55P02",
		"UPDATE pg_settings SET setting = 'postgres' WHERE name IN ('role', 'session_authorization')": "", "UPDATE pg_settings SET setting = 'replica' WHERE name = 'session_replication_role'": denied,
		// To become more.
		"ALTER ROLE bob SUPERUSER": denied, "ALTER ROLE bob CREATEROLE": denied, "ALTER ROLE bob BYPASSRLS": denied, "ALTER ROLE bob REPLICATION": denied,
		"CREATE ROLE eve SUPERUSER": denied, "CREATE ROLE eve": denied, "GRANT postgres TO bob": denied, "GRANT pg_execute_server_program TO bob": denied,
		"GRANT pg_read_all_data TO bob": denied, "UPDATE pg_authid SET rolsuper = true": denied, "SELECT rolpassword FROM pg_authid": denied,
		"ALTER ROLE postgres PASSWORD 'x'": denied, "ALTER ROLE postgres RENAME TO eve": denied, "DROP ROLE postgres": denied,
		"ALTER ROLE bob SET session_authorization = 'postgres'": "", "ALTER ROLE bob SET role = 'postgres'": "",
		"ALTER ROLE ALL SET role = 'postgres'": denied, "ALTER DATABASE bobs SET session_preload_libraries = 'plpgsql'": denied,
		"ALTER ROLE bob SET session_preload_libraries = 'plpgsql'": denied,
		// To have another role do it.
		"CREATE FUNCTION f() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user'; SELECT f()":            "",
		"CREATE FUNCTION g() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SET ROLE postgres'; END $$; SELECT g()":  denied,
		"CREATE FUNCTION g() RETURNS void LANGUAGE sql SET role = 'postgres' AS 'SELECT 1'; SELECT g()":                  denied,
		"CREATE FUNCTION g() RETURNS void LANGUAGE sql SET session_authorization = 'postgres' AS 'SELECT 1'; SELECT g()": denied,
		"CREATE FUNCTION g() RETURNS void LANGUAGE sql AS 'SELECT 1'; ALTER FUNCTION g() OWNER TO postgres":              denied,
		"DO $$ BEGIN EXECUTE 'ALTER ROLE bob SUPERUSER'; END $$":                                                         denied, "DO $$ BEGIN PERFORM set_config('role', 'postgres', false); END $$": denied,
		"DO $$ BEGIN SET SESSION AUTHORIZATION postgres; EXCEPTION WHEN OTHERS THEN NULL; END $$":                                                                        "",
		"CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION g()":                                                                                                 denied,
		"CREATE FUNCTION h() RETURNS int LANGUAGE c AS 'plpgsql', 'plpgsql_call_handler'":                                                                                denied,
		"CREATE FUNCTION h() RETURNS int LANGUAGE internal AS 'pg_backend_pid'":                                                                                          denied,
		"CREATE FUNCTION trap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; CREATE TRIGGER t AFTER INSERT ON vault.secret EXECUTE FUNCTION trap()": denied,
		"CREATE EXTENSION pageinspect": denied, "CREATE EXTENSION amcheck": denied, "CREATE EXTENSION file_fdw": denied, "CREATE LANGUAGE untrusted HANDLER plpgsql_call_handler": denied,
		"CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p": denied, "CREATE SERVER s FOREIGN DATA WRAPPER file_fdw": "42704",
		"CREATE CAST (text AS int) WITHOUT FUNCTION": denied, "LOAD 'plpgsql'": denied, "LOAD '/pglite/data/x'": denied,
		// To read and write files, or run programs.
		"COPY (SELECT 1) TO PROGRAM 'cat'": denied, "COPY t FROM PROGRAM 'cat'": denied, "COPY (SELECT 1) TO '/pglite/data/pg_hba.conf'": denied,
		"COPY t FROM '/pglite/data/pg_hba.conf'": denied, "SELECT pg_read_file('pg_hba.conf')": denied, "SELECT pg_read_binary_file('postgresql.conf')": denied,
		"SELECT pg_ls_dir('.')": denied, "SELECT pg_stat_file('pg_hba.conf')": denied, "SELECT lo_import('/pglite/data/pg_hba.conf')": denied,
		"SELECT lo_export(1, '/pglite/data/x')": denied, "SELECT * FROM pg_hba_file_rules": denied, "SELECT * FROM pg_file_settings": denied,
		"SELECT pg_current_logfile()": denied, "CREATE TABLESPACE s LOCATION '/pglite/data/x'": denied,
		// To touch the server, or others.
		"ALTER SYSTEM SET work_mem = '1MB'": denied, "SELECT pg_reload_conf()": denied, "CHECKPOINT": denied, "SET log_min_messages = 'debug5'": denied,
		"SET session_replication_role = 'replica'": denied, "SET fsync = off": "55P02", "SET allow_system_table_mods = on": denied,
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'": denied,
		"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'":    denied,
		"SELECT * FROM vault.secret": denied, "TABLE vault.secret": denied, "DROP TABLE vault.secret": denied, "TRUNCATE vault.secret": denied, "DO $$ BEGIN LOCK TABLE vault.secret; END $$": denied,
		"CREATE DATABASE more": denied, "DROP DATABASE postgres": denied, "ALTER DATABASE postgres OWNER TO bob": denied, "ALTER DATABASE bobs OWNER TO postgres": denied,
		"ALTER DATABASE postgres SET role = 'bob'": denied, "ALTER SCHEMA pg_catalog OWNER TO bob": denied, "CREATE TABLE pg_catalog.x (a int)": denied,
		"DELETE FROM pg_class": denied, "REASSIGN OWNED BY postgres TO bob": denied, "ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT ALL ON TABLES TO bob": denied,
		"SECURITY LABEL ON ROLE bob IS 'x'": "22023", "SELECT pg_promote()": denied, "SELECT pg_switch_wal()": denied, "SELECT pg_create_restore_point('x')": denied,
		"SELECT pg_logical_emit_message(false, 'a', 'b')": "", "SELECT pg_replication_origin_create('x')": denied, "SELECT pg_create_physical_replication_slot('x')": denied,
	}
	return ways
}

// TestNoWayOut: a role without rights stays without, whatever it tries, in its session and at its login.
func TestNoWayOut(t *testing.T) {
	t.Parallel()
	d := openTestServerOn(t, engine.Options{Password: "the superuser's"})
	connect := func(user, password, database, options string) (*pgx.Conn, error) {
		return pgx.Connect(t.Context(), fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable&default_query_exec_mode=simple_protocol%s", user, url.PathEscape(password), d.addr, database, options))
	}
	super, err := connect("postgres", "the superuser's", "postgres", "")
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(context.Background())
	exec(t, super, "CREATE ROLE bob LOGIN PASSWORD 'his'; CREATE ROLE alice LOGIN PASSWORD 'hers'")
	exec(t, super, "CREATE DATABASE bobs OWNER bob")
	const secret = "CREATE SCHEMA vault; CREATE TABLE vault.secret (a int); INSERT INTO vault.secret VALUES (7)"
	exec(t, super, secret)
	super2, err := connect("postgres", "the superuser's", "bobs", "")
	if err != nil {
		t.Fatal(err)
	}
	defer super2.Close(context.Background())
	exec(t, super2, secret)

	// harmless checks from outside that bob is still bob, and nothing was done.
	harmless := func(after string) {
		t.Helper()
		const state = `SELECT concat_ws(' ', (SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles WHERE rolname !~ '^pg_' AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)),
			(SELECT count(*) FROM pg_auth_members WHERE member = 'bob'::regrole), (SELECT a FROM vault.secret), (SELECT count(*) FROM pg_event_trigger),
			(SELECT count(*) FROM pg_roles WHERE rolname !~ '^pg_'), (SELECT count(*) FROM pg_database WHERE datdba <> 10), (SELECT count(*) FROM pg_extension WHERE extname <> 'plpgsql'))`
		if got := one(t, super2, state); got != "postgres 0 7 0 3 1 0" {
			t.Errorf("after %s: %s", after, got)
		}
	}
	tried := 0
	for sql, want := range waysOut() {
		bob, err := connect("bob", "his", "bobs", "")
		if err != nil {
			t.Fatalf("after %s: %v", sql, err)
		}
		_, err = bob.Exec(t.Context(), "CREATE TEMP TABLE t (a text)")
		if err != nil {
			t.Fatal(err)
		}
		_, err = bob.Exec(t.Context(), sql)
		if got := stateOf(err); got != want {
			t.Errorf("%s: %q (%v), want %q", sql, got, err, want)
		}
		for _, q := range []string{"SELECT current_user || session_user", "SELECT current_user || session_user FROM pg_sleep(0)"} {
			var who string
			if err := bob.QueryRow(t.Context(), q).Scan(&who); err != nil || who != "bobbob" {
				t.Errorf("%s: then he is %s, %v", sql, who, err)
			}
		}
		for _, forbidden := range []string{"SELECT * FROM vault.secret", "CREATE ROLE eve", "SELECT pg_read_file('pg_hba.conf')"} {
			if _, err := bob.Exec(t.Context(), forbidden); stateOf(err) != "42501" {
				t.Errorf("after %s: %s: %v", sql, forbidden, err)
			}
		}
		_ = bob.Close(t.Context())
		harmless(sql)
		if bob, err = connect("bob", "his", "bobs", ""); err != nil {
			t.Fatalf("after %s: %v", sql, err)
		}
		if got := one(t, bob, "SELECT current_user || session_user || current_setting('is_superuser')"); got != "bobboboff" {
			t.Errorf("after %s he is %s at the next login", sql, got)
		}
		_ = bob.Close(t.Context())
		exec(t, super2, "ALTER ROLE bob RESET ALL; DROP FUNCTION IF EXISTS f(); DROP FUNCTION IF EXISTS g(); DROP FUNCTION IF EXISTS trap()")
		tried++
	}
	if tried < 100 {
		t.Errorf("%d ways were tried", tried)
	}

	// At the login.
	for options, want := range map[string]string{
		"&options=-c%20role%3Dpostgres": "42501", "&options=-c%20session_authorization%3Dpostgres": "42501", "&options=--is_superuser%3Don": "55P02",
		"&role=postgres": "42501", "&session_authorization=postgres": "42501", "&is_superuser=on": "55P02", "&options=-c%20session_preload_libraries%3Dplpgsql": "42501",
		"&options=-c%20log_statement%3Dall": "42501", "&options=-O": "42501", "&options=-j": "", "&options=-s": "42501", "&options=-F": "55P02", "&options=-r%20x": "", "&options=-p%201": "55P02", "&replication=true": "*", "&replication=database": "*",
	} {
		bob, err := connect("bob", "his", "bobs", options)
		if got := stateOf(err); got != want && (want != "*" || err == nil) {
			t.Errorf("with %s: %q (%v), want %q", options, got, err, want)
		}
		if err == nil {
			_ = bob.Close(t.Context())
		}
		harmless(options)
	}
	for _, login := range [][2]string{{"bob", "hers"}, {"bob", "the superuser's"}, {"bob", ""}, {"alice", "his"}, {"postgres", "his"}, {"postgres", ""}, {"nobody", "his"}, {"pg_monitor", "his"}} {
		_, err := connect(login[0], login[1], "postgres", "")
		if got := stateOf(err); got != "28P01" && got != "28000" {
			t.Errorf("%s comes in with the password %q: %v", login[0], login[1], err)
		}
	}
}

func stateOf(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// TestRulesOfTheUser: pg_hba.conf as a superuser has written it counts, line by line, from the next connection on.
func TestRulesOfTheUser(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	super := d.connect()
	exec(t, super, "CREATE ROLE bob LOGIN PASSWORD 'his'; CREATE ROLE alice LOGIN; CREATE ROLE carol LOGIN")
	exec(t, super, "CREATE DATABASE shop")
	d.rules(super, "host shop bob 127.0.0.1/32 scram-sha-256", "host all bob all reject", "host all alice 10.0.0.0/8 trust", "hostssl all carol all trust",
		"hostnossl shop carol all trust", "local all alice trust", "host all postgres 127.0.0.1/32 trust")
	for _, c := range []struct{ user, database, code string }{
		{"bob", "postgres", "28000"}, {"bob", "shop", ""}, {"alice", "postgres", "28000"}, {"carol", "postgres", "28000"}, {"carol", "shop", ""}, {"postgres", "shop", ""},
	} {
		conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://%s:his@%s/%s?sslmode=disable", c.user, d.addr, c.database))
		if got := stateOf(err); got != c.code {
			t.Errorf("%s to %s: %q, want %q", c.user, c.database, got, c.code)
		}
		if err == nil {
			_ = conn.Close(t.Context())
		}
	}
	const seen = "SELECT count(*) || ': ' || string_agg(error, ', ') FROM pg_hba_file_rules"
	if got := one(t, super, seen); got != "7: hostssl record cannot match because SSL is not supported by this build" {
		t.Errorf("PostgreSQL sees %s", got)
	}
}

// TestSettingsOfRolesAndDatabases apply to the role that logs in.
func TestSettingsOfRolesAndDatabases(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	super := d.connect()
	exec(t, super, "CREATE ROLE bob LOGIN; ALTER ROLE bob SET work_mem = '5MB'; ALTER DATABASE postgres SET statement_timeout = '7s'; ALTER ROLE bob IN DATABASE postgres SET geqo = off")
	exec(t, super, "ALTER SYSTEM SET temp_buffers = '3MB'")
	exec(t, super, "SELECT pg_reload_conf()")
	bob := d.connectTo(d.url("bob", ""))
	if got := one(t, bob, "SELECT concat_ws(' ', current_setting('work_mem'), current_setting('statement_timeout'), current_setting('geqo'), current_setting('temp_buffers'))"); got != "5MB 7s off 3MB" {
		t.Error(got)
	}
	if got := one(t, super, "SELECT current_setting('temp_buffers')"); got != "3MB" {
		t.Errorf("who was there before has temp_buffers %s", got)
	}
}

// TestResetSessionAuthorization: a RESET, DEFAULT and DISCARD ALL go back to the role that logged in.
func TestResetSessionAuthorization(t *testing.T) {
	t.Parallel()
	d := openTestServer(t)
	const simple = "&default_query_exec_mode=simple_protocol" // no statements for DISCARD ALL to take away
	boss := d.connectTo(d.url("postgres", simple))
	exec(t, boss, "CREATE ROLE other; CREATE ROLE worker LOGIN; GRANT other TO worker")
	who := "SELECT current_user || ' ' || session_user"
	worker := d.connectTo(d.url("worker", simple))
	for _, back := range []string{"RESET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION DEFAULT", "DISCARD ALL"} {
		exec(t, boss, "SET SESSION AUTHORIZATION other")
		if got := one(t, boss, who); got != "other other" {
			t.Fatalf("behind SET the client is %q", got)
		}
		if got := one(t, worker, who); got != "worker worker" {
			t.Errorf("another client is %q meanwhile", got)
		}
		exec(t, boss, back)
		if got := one(t, boss, who); got != "postgres postgres" {
			t.Errorf("behind %s the superuser's client is %q", back, got)
		}
		exec(t, worker, "SET ROLE other")
		exec(t, worker, back)
		exec(t, worker, "RESET ROLE")
		if got := one(t, worker, who); got != "worker worker" {
			t.Errorf("behind %s the other client is %q", back, got)
		}
	}
}

// TestUnixSocket: for pg_hba.conf, a client on a Unix socket is local.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	d := openTestServerOn(t, engine.Options{Password: "word"})
	folder, err := os.MkdirTemp("", "s") // a socket's name is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	l, err := net.Listen("unix", folder+"/.s.PGSQL.5432")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.srv.Serve(t.Context(), l) }()
	_, err = pgx.Connect(t.Context(), "host="+folder+" user=postgres dbname=postgres password=wrong")
	wantCode(t, err, "28P01")
	c := d.connectTo("host=" + folder + " user=postgres dbname=postgres password=word")
	if got := one(t, c, "SELECT coalesce(inet_client_addr()::text, 'local')"); got != "local" {
		t.Error(got)
	}
	exec(t, c, "COPY (VALUES ('local all postgres trust'), ('host all all all reject')) TO '/pglite/data/pg_hba.conf'")
	d.connectTo("host=" + folder + " user=postgres dbname=postgres")
	_, err = pgx.Connect(t.Context(), strings.Replace(d.url("postgres", ""), "postgres@", "postgres:word@", 1))
	wantCode(t, err, "28000")
	_ = l.Close()
	<-served
}
