package interleave

import (
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// frames is a list of messages, whatever the client.
func frames(list ...pgproto3.FrontendMessage) func(string) []pgproto3.FrontendMessage {
	return func(me string) []pgproto3.FrontendMessage {
		own := make([]pgproto3.FrontendMessage, len(list))
		for i, m := range list {
			own[i] = m
			if p, ok := m.(*pgproto3.Parse); ok {
				own[i] = &pgproto3.Parse{Name: p.Name, Query: strings.ReplaceAll(p.Query, "$me", me), ParameterOIDs: p.ParameterOIDs}
			}
		}
		return own
	}
}

func parse(name, sql string) *pgproto3.Parse { return &pgproto3.Parse{Name: name, Query: sql} }

func bind(portal, statement string, parameters ...string) *pgproto3.Bind {
	b := &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: statement}
	for _, p := range parameters {
		b.Parameters = append(b.Parameters, []byte(p))
	}
	return b
}

// statementActions are prepared statements, portals and cursors, of both protocols, all under the same names.
func statementActions() []Action {
	const (
		threeRows = "SELECT '$me' AS who, g FROM generate_series(1, 3) g"
		portal    = "c"
	)
	sync, execute := &pgproto3.Sync{}, &pgproto3.Execute{}
	one := &pgproto3.Execute{Portal: portal, MaxRows: 1}
	return []Action{
		messages("parse", 0, names, ready, frames(parse("p", "SELECT '$me' AS who, $1::int AS n"), sync)),
		messages("parse_t", table, names, ready, frames(parse("p", "SELECT who, n FROM t WHERE id = $1::int"), sync)),
		messages("parse_unnamed", 0, names, ready, frames(parse("", "SELECT '$me' AS who, $1::int AS n"), sync)),
		messages("describe", names, 0, ready, frames(&pgproto3.Describe{ObjectType: 'S', Name: "p"}, sync)),
		messages("bind", names|table, cursors, ready, frames(bind("", "p", "1"), &pgproto3.Describe{ObjectType: 'P'}, execute, sync)),
		messages("bind_unnamed", names, cursors, ready, frames(bind("", "", "1"), execute, sync)),
		messages("close", 0, names, ready, frames(&pgproto3.Close{ObjectType: 'S', Name: "p"}, sync)),
		query("prepare", 0, names, "PREPARE p (int) AS SELECT '$me, by SQL' AS who, $1 AS n"),
		query("prepare_comment", 0, names, "/* a comment */ PREPARE p (int) AS SELECT '$me, by SQL' AS who, $1 AS n"),
		query("prepare_insert", 0, names|table, "PREPARE p (int) AS SELECT '$me, by SQL' AS who, $1 AS n; INSERT INTO t SELECT max(id) + 20, 0, '$me' FROM t"),
		query("execute", names, 0, "EXECUTE p (1)"),
		query("deallocate", 0, names, "DEALLOCATE p"),
		query("deallocate_all", 0, names, "DEALLOCATE ALL"),
		messages("portal", 0, cursors|names, ready, frames(parse("", threeRows), bind(portal, ""), one, sync)),
		messages("more", cursors, cursors, ready, frames(one, sync)),
		query("declare", 0, cursors, "DECLARE c CURSOR WITH HOLD FOR "+threeRows),
		query("fetch", cursors, cursors, "FETCH 1 FROM c"),
		query("close_cursor", cursors, cursors, "CLOSE c"),
	}
}

// stateActions are settings, temporary tables, sequences, channels and roles.
func stateActions() []Action {
	return []Action{
		query("set", 0, settings, "SET my.tenant = '$me'"),
		query("set_local", 0, settings, "SET LOCAL my.tenant = 'local $me'"),
		query("set_config", 0, settings, "SELECT set_config('my.tenant', 'call $me', false)"),
		query("set_default", 0, settings, "INSERT INTO d DEFAULT VALUES"), // its default calls set_config
		query("set_update", 0, settings, "UPDATE pg_settings SET setting = 'Etc/GMT-2' WHERE name = 'TimeZone'"),
		query("set_path", 0, settings, `SET search_path = "$me", public`),
		query("set_zone", 0, settings, "SET TimeZone = 'Etc/GMT-1'"),
		query("set_encoding", 0, settings, "SET client_encoding = 'SQL_ASCII'"),
		query("set_of_role", 0, settings, "ALTER ROLE postgres SET my.tenant = 'role $me'"), // of future sessions
		query("set_lock_timeout", 0, settings, "SET lock_timeout = '1ms'"),                  // a client that waits is refused before its wait is reported
		query("show", settings, 0, "SELECT current_setting('my.tenant', true), current_setting('TimeZone')"),
		query("reset_all", 0, settings, "RESET ALL"),
		query("temp", 0, temps, "CREATE TEMP TABLE tmp AS SELECT '$me' AS who"),
		query("temp_t", 0, temps|table, "CREATE TEMP TABLE t AS SELECT 0 AS id, 0 AS n, 'temporary $me' AS who"),
		query("tmp", temps, 0, "SELECT who FROM tmp"),
		query("drop_tmp", temps, temps, "DROP TABLE tmp"),
		query("discard_temp", 0, temps, "DISCARD TEMP"),
		query("nextval", 0, sequence, "SELECT nextval('q')"),
		query("currval", sequence, 0, "SELECT currval('q')"),
		query("lastval", sequence, 0, "SELECT lastval()"),
		query("discard_sequences", 0, sequence, "DISCARD SEQUENCES"),
		query("listen", 0, channels, "LISTEN ch"),
		query("unlisten", 0, channels, "UNLISTEN *"),
		query("notify", channels, 0, "NOTIFY ch, '$me'"),
		query("set_role", 0, roles, "SET ROLE bob"),
		query("reset_role", 0, roles, "RESET ROLE"),
		query("set_user", 0, roles, "SET SESSION AUTHORIZATION bob"),
		query("reset_user", 0, roles, "RESET SESSION AUTHORIZATION"),
		query("whoami", roles, 0, "SELECT current_user, session_user, current_setting('is_superuser')"),
	}
}

// lockActions are advisory locks.
func lockActions() []Action {
	return []Action{
		query("lock", 0, advisory, "SELECT pg_advisory_lock(1)"),
		query("lock_2", 0, advisory, "SELECT pg_advisory_lock(2)"),
		query("lock_shared", 0, advisory, "SELECT pg_advisory_lock_shared(1)"),
		query("lock_block", 0, advisory, "SELECT pg_advisory_xact_lock(1)"),
		query("try", 0, advisory, "SELECT pg_try_advisory_lock(1)"),
		query("unlock", 0, advisory, "SELECT pg_advisory_unlock(1)"),
		query("unlock_all", 0, advisory, "SELECT pg_advisory_unlock_all()"),
	}
}

// blockActions are transactions.
func blockActions() []Action {
	return []Action{
		query("begin", 0, block, "BEGIN"),
		query("begin_repeatable", 0, block, "BEGIN ISOLATION LEVEL REPEATABLE READ"),
		query("begin_serializable", 0, block, "BEGIN ISOLATION LEVEL SERIALIZABLE"),
		query("begin_insert", roles, table|block, "BEGIN; INSERT INTO t VALUES (20, 0, '$me')"),
		query("commit", 0, block, "COMMIT"),
		query("rollback", 0, block, "ROLLBACK"),
		query("savepoint", 0, block, "SAVEPOINT s"),
		query("rollback_to", 0, block, "ROLLBACK TO s"),
		query("error", 0, block, "SELECT 1/0"),
	}
}

// tableActions are of the shared table.
func tableActions() []Action {
	sync, execute := &pgproto3.Sync{}, &pgproto3.Execute{}
	insert := func(id string) []pgproto3.FrontendMessage {
		return []pgproto3.FrontendMessage{parse("", "INSERT INTO t VALUES ($1::int, 0, '$me')"), bind("", "", id), execute}
	}
	failing := append(insert("14"), parse("", "SELECT 1/$1::int"), bind("", "", "0"), execute, parse("", "SELECT 'never $me'"), sync)
	inBlock := []pgproto3.FrontendMessage{parse("", "BEGIN"), bind("", ""), execute}
	inBlock = append(append(inBlock, insert("19")...), parse("", "COMMIT"), bind("", ""), execute, sync)
	return []Action{
		query("read", table|roles, 0, "SELECT id, n, who FROM t ORDER BY id"),
		query("insert", roles, table, "INSERT INTO t VALUES (10, 0, '$me')"),
		query("update", roles, table, "UPDATE t SET who = who || '$me' WHERE id = 1"),
		query("update_2", roles, table, "UPDATE t SET who = who || '$me' WHERE id = 2"),
		query("row_nowait", roles, table, "SELECT who FROM t WHERE id = 1 FOR UPDATE NOWAIT"),
		query("row_skip", roles, table, "SELECT who FROM t WHERE id < 3 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"),
		query("alter", roles, table, "ALTER TABLE t ALTER n TYPE text"),
		query("truncate", roles, table, "TRUNCATE t"),
		query("index", roles, table, "CREATE INDEX CONCURRENTLY i ON t (n)"),
		query("replace", 0, code, "CREATE OR REPLACE FUNCTION f() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN ''$me''; END'"),
		query("call", code, 0, "SELECT f()"),
		query("several", roles, table, "INSERT INTO t VALUES (12, 0, '$me'); SELECT count(*) FROM t; SELECT currval('q')"),
		messages("copy", roles, table, ready, frames(&pgproto3.Query{String: "COPY t FROM STDIN"}, &pgproto3.CopyData{Data: []byte("13\t0\tcopied\n")}, &pgproto3.CopyDone{})),
		query("copy_out", table|roles, 0, "COPY t TO STDOUT"),
		messages("pipeline_block", roles, table, ready, frames(inBlock...)),
		messages("pipeline", roles, table, ready, frames(append(insert("11"), parse("", "SELECT count(*) FROM t"), bind("", ""), execute, sync)...)),
		messages("pipeline_error", roles, table, ready, frames(failing...)),
		messages("flush", roles, table|block, flushed, frames(append(insert("15"), &pgproto3.Flush{})...)),
		messages("sync", 0, block, ready, frames(sync)),
	}
}

// endActions end a session, or everything it has.
func endActions() []Action {
	kill := query("kill", 0, everything, "SELECT pg_terminate_backend($other, 10000)")
	kill.kills = true
	disconnect := messages("disconnect", 0, everything, left, frames(&pgproto3.Terminate{}))
	disconnect.orderly = true
	unsynced := messages("vanish_unsynced", 0, everything, left,
		frames(parse("", "INSERT INTO t VALUES ($1::int, 0, '$me')"), bind("", "", "16"), &pgproto3.Execute{}, &pgproto3.Flush{}))
	copying := messages("vanish_copying", 0, everything, left,
		frames(&pgproto3.Query{String: "COPY t FROM STDIN"}, &pgproto3.CopyData{Data: []byte("17\t0\tcopied\n")}))
	unsynced.hears, copying.hears = true, true // they may wait for a lock
	return []Action{
		query("discard", 0, everything, "DISCARD ALL"),
		kill,
		disconnect,
		messages("vanish", 0, everything, left, frames()),
		messages("vanish_asking", 0, everything, left, frames(&pgproto3.Query{String: "SELECT nextval('q')"})), // never waits
		unsynced,
		copying,
		messages("cancel", 0, block, aside, frames()),
	}
}
