package pglite

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"blobpglite/core/memfs"
)

// follower is a standby of a cluster, started on a copy of its files and fed manually.
type follower struct {
	*Cluster
	t    testing.TB
	from *Cluster
}

func follow(t testing.TB, from *Cluster, o ClusterOptions) *follower {
	t.Helper()
	from.Locked(func() { o.Data = from.Data().Clone() })
	o.Standby = true
	return &follower{startCluster(t, o), t, from}
}

// feed copies the log, as far as it is written, and waits until it has been replayed.
func (f *follower) feed() {
	f.t.Helper()
	segments := map[string][]byte{}
	f.from.Locked(func() {
		_ = f.from.Data().Walk("/pg_wal", func(path string, i memfs.Info) error {
			if i.IsRegular() && strings.HasPrefix(path, "/pg_wal/0") {
				segments[path], _ = f.from.Data().ReadFile(path)
			}
			return nil
		})
	})
	heard, leave := f.Following()
	defer leave()
	f.Locked(func() {
		for name, body := range segments {
			file, err := f.Data().Open(name, os.O_RDWR|os.O_CREATE, 0o600)
			if err == nil {
				_, err = file.WriteAt(body, 0)
				file.Close()
			}
			if err != nil {
				f.t.Error(err)
			}
		}
		f.Wake()
	})
	for {
		var r Recovery
		var err error
		f.Locked(func() { r, err = f.Recovery() })
		if err != nil || r.Waits {
			if err != nil {
				f.t.Fatal(err)
			}
			return
		}
		select {
		case <-heard:
		case <-f.Done():
			f.t.Fatal(f.Err())
		}
	}
}

func TestStandbyFollows(t *testing.T) {
	a := startCluster(t, ClusterOptions{})
	writer := dial(t, a)
	value(t, writer, "CREATE TABLE t (i int PRIMARY KEY, v text); INSERT INTO t SELECT g, g FROM generate_series(1, 100) g")
	b := follow(t, a, ClusterOptions{})
	reader := dial(t, b.Cluster)
	if got := value(t, reader, "SELECT pg_is_in_recovery(), count(*) FROM t"); got != "t|100" {
		t.Error(got)
	}
	for range 20 {
		value(t, writer, "INSERT INTO t SELECT g, g FROM generate_series(1, 1000) g ON CONFLICT (i) DO UPDATE SET v = t.v || 'x'")
		b.feed()
		const sums = "SELECT count(*), sum(length(v)), md5(string_agg(t::text, ',' ORDER BY i)) FROM t"
		if got, want := value(t, reader, sums), value(t, writer, sums); got != want {
			t.Errorf("%s, the writer has %s", got, want)
		}
	}
	if got, want := value(t, reader, "SELECT pg_last_wal_replay_lsn()"), value(t, writer, "SELECT pg_current_wal_flush_lsn()"); got != want {
		t.Errorf("replayed to %s, the writer is at %s", got, want)
	}
	if got := value(t, reader, "SELECT now() - pg_last_xact_replay_timestamp() < '1min', pg_is_wal_replay_paused()"); got != "t|f" {
		t.Error(got)
	}
	value(t, writer, "CREATE DATABASE other")
	b.feed()
	other, err := pgx.ConnectConfig(t.Context(), config(t, b.Cluster, "postgres", "other"))
	if err != nil {
		t.Fatal(err)
	}
	_ = other.Close(context.Background())
	for _, sql := range []string{"VACUUM FULL t", "DROP DATABASE other", "CHECKPOINT"} {
		value(t, writer, sql)
	}
	b.feed()
	if got := value(t, reader, "CHECKPOINT; SELECT count(*) FROM t, pg_database"); got != "3000" {
		t.Error(got)
	}
}

// Whatever a client tries, nothing is written, and only the host can end the recovery.
func TestStandbyIsReadOnly(t *testing.T) {
	a := startCluster(t, ClusterOptions{})
	writer := dial(t, a)
	value(t, writer, "CREATE TABLE t (i int); CREATE SEQUENCE s; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING i'")
	for _, sql := range []string{"ALTER SYSTEM SET recovery_target_time = '2001-01-01'", "ALTER SYSTEM SET recovery_min_apply_delay = '1h'", "SELECT pg_reload_conf()"} {
		value(t, writer, sql)
	}
	b := follow(t, a, ClusterOptions{})
	reader := dial(t, b.Cluster)
	const readOnly = "25006"
	for sql, want := range map[string]string{
		"INSERT INTO t VALUES (1)": readOnly, "SELECT f()": readOnly, "SELECT nextval('s')": readOnly, "CREATE TABLE u (i int)": readOnly,
		"CREATE TEMP TABLE u (i int)": readOnly, "BEGIN READ WRITE": "0A000", "SET transaction_read_only = off": "0A000", "TRUNCATE t": readOnly,
		"SELECT * FROM t FOR UPDATE": readOnly, "VACUUM t": readOnly, "COPY t FROM PROGRAM 'true'": readOnly, "CREATE DATABASE x": readOnly,
		"SET default_transaction_read_only = off; INSERT INTO t VALUES (1)": readOnly, "DO $$ BEGIN INSERT INTO t VALUES (1); END $$": readOnly,
		"SELECT lo_create(0)": readOnly, "SELECT pg_create_restore_point('x')": "55000", "SELECT txid_current()": readOnly,
		"LISTEN x": readOnly, "PREPARE TRANSACTION 'x'": readOnly, "SELECT pg_promote()": "42809", "REINDEX TABLE t": readOnly, "LOCK t IN EXCLUSIVE MODE": readOnly,
	} {
		_, err := try(reader, sql)
		if got := sqlstate(err); got != want {
			t.Errorf("%s: %s (%v), want %s", sql, got, err, want)
		}
		_, _ = try(reader, "ROLLBACK; RESET ALL")
	}
	value(t, writer, "INSERT INTO t VALUES (7)")
	b.feed()
	if got := value(t, reader, "SELECT sum(i), pg_is_in_recovery() FROM t"); got != "7|t" {
		t.Error(got)
	}
}

// A standby has at least the writer's limits, whatever its settings.
func TestStandbyHasRoom(t *testing.T) {
	a := startCluster(t, ClusterOptions{MaxClients: 150, Settings: map[string]string{"max_locks_per_transaction": "80", "max_prepared_transactions": "5"}})
	value(t, dial(t, a), "CREATE TABLE t (i int)")
	b := follow(t, a, ClusterOptions{MaxClients: 10})
	if got := value(t, dial(t, b.Cluster), "SHOW max_connections; SHOW max_locks_per_transaction; SHOW max_prepared_transactions"); got != "5" {
		t.Error(got)
	}
}

// A client that knows a position waits for it, but not longer than its statement may take.
func TestPosition(t *testing.T) {
	var reached atomic.Uint64
	reached.Store(0x1234)
	come := make(chan struct{})
	refused := errors.New("it is at 0/1234, and 0/FFFFFFFF was asked for")
	c := startCluster(t, ClusterOptions{
		Position: reached.Load,
		Await: func(ctx context.Context, at uint64) error {
			if at == 0xFFFFFFFF {
				return refused
			}
			if at <= reached.Load() {
				return nil
			}
			select {
			case <-come:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	})
	a, b := dial(t, c), dial(t, c)
	if got := value(t, a, "SELECT current_setting('blobpglite.position')"); got != "0/1234" {
		t.Error(got)
	}
	value(t, a, "SET blobpglite.wait_for = '0/1000'; SET blobpglite.wait_for = ''; RESET ALL")
	for sql, want := range map[string]string{
		"SET blobpglite.wait_for = 'x'": "22023", "SET blobpglite.position = '0/1'": "55P02", "SET blobpglite.wait_for = '0/FFFFFFFF'": "55000",
		"SET statement_timeout = '50ms'; SET blobpglite.wait_for = '0/2000'": "57014",
	} {
		if _, err := try(a, sql); sqlstate(err) != want {
			t.Errorf("%s: %v, want %s", sql, err, want)
		}
	}
	value(t, a, "RESET statement_timeout")
	done := make(chan error, 1)
	go func() {
		_, err := try(a, "SET blobpglite.wait_for = '0/2000'")
		done <- err
	}()
	value(t, b, "SELECT 1") // others run during the wait
	reached.Store(0x2000)
	close(come)
	if err := <-done; err != nil {
		t.Error(err)
	}
	cfg := config(t, c, "postgres", "postgres")
	cfg.RuntimeParams["options"] = "-c blobpglite.wait_for=0/2000"
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(context.Background())
	if got := value(t, a, "SHOW blobpglite.wait_for"); got != "0/2000" {
		t.Error(got)
	}
}

// A standby starts on a database with a tablespace, and follows one that gets another.
func TestStandbyTablespace(t *testing.T) {
	a := startCluster(t, ClusterOptions{})
	writer := dial(t, a)
	value(t, writer, "SET allow_in_place_tablespaces = on")
	value(t, writer, "CREATE TABLESPACE early LOCATION ''")
	value(t, writer, "CREATE TABLE t TABLESPACE early AS SELECT 7 AS i")
	b := follow(t, a, ClusterOptions{})
	reader := dial(t, b.Cluster)
	if got := value(t, reader, "SELECT i FROM t"); got != "7" {
		t.Error(got)
	}
	value(t, writer, "CREATE TABLESPACE late LOCATION ''")
	value(t, writer, "CREATE TABLE u TABLESPACE late AS SELECT 8 AS i")
	value(t, writer, "DROP TABLE t")
	value(t, writer, "DROP TABLESPACE early")
	b.feed()
	if got := value(t, reader, "SELECT i, (SELECT string_agg(spcname, ' ' ORDER BY spcname) FROM pg_tablespace) FROM u"); got != "8|late pg_default pg_global" {
		t.Error(got)
	}
}
