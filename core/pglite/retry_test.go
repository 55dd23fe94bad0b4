package pglite

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"blobpglite/core/memfs"
)

// Whatever ALTER SYSTEM was given, the next start succeeds with all data, reports what it left out, keeps the other settings, and does not
// touch the file.
func TestStartsInSpiteOfSettings(t *testing.T) {
	for _, c := range []struct {
		name, value string
		left        bool
	}{
		{"shared_preload_libraries", "'nonexistent'", true},
		{"hba_file", "'/nonexistent/hba'", true},
		{"ident_file", "'/nonexistent/ident'", false},
		{"max_connections", "262143", false},
		{"max_locks_per_transaction", "2147483647", true},
		{"max_prepared_transactions", "262143", true},
		{"shared_buffers", "1073741823", false}, // the host's own value takes precedence
		{"wal_buffers", "262143", true},
		{"max_wal_senders", "262143", false},
		{"post_auth_delay", "2147", false},
		{"pre_auth_delay", "60", false},
		{"huge_pages", "on", false},
		{"session_preload_libraries", "'nonexistent'", true},
		{"local_preload_libraries", "'nonexistent'", true},
		{"event_triggers", "off", false},
		{"external_pid_file", "'/nonexistent/pid'", false},
		{"recovery_target_time", "'2001-01-01'", false},
		{"restore_command", "'false'", false},
		{"unix_socket_directories", "'/nonexistent'", false},
		{"log_directory", "'/nonexistent'", false},
		{"default_text_search_config", "'nonexistent'", false},
		{"dynamic_shared_memory_type", "'posix'", false},
		{"autovacuum_worker_slots", "262143", true},
	} {
		in := start(t, ClusterOptions{})
		rows(t, in, "CREATE TABLE kept (id int); INSERT INTO kept SELECT generate_series(1, 100)")
		rows(t, in, "ALTER SYSTEM SET maintenance_work_mem = '17MB'")
		if _, err := in.Query(t.Context(), fmt.Sprintf("ALTER SYSTEM SET %s = %s", c.name, c.value)); err != nil {
			t.Logf("%s: ALTER SYSTEM refuses it: %v", c.name, err)
			continue
		}
		data := in.Data().Clone()
		in.Kill()
		began := time.Now()
		again, log := startOn(t, data)
		t.Logf("%s: started in %v without %q", c.name, time.Since(began), again.LeftOut())
		want(t, again, "SELECT count(*), current_setting('maintenance_work_mem') FROM kept", "100|17MB")
		want(t, again, fmt.Sprintf("SELECT pg_read_file('postgresql.auto.conf') LIKE '%%%s%%'", c.name), "t")
		if left := len(again.LeftOut()) > 0; left && (strings.Join(again.LeftOut(), " ") != c.name || !strings.Contains(log.String(), "does not start with the configured values of "+c.name)) || left != c.left {
			t.Errorf("%s: left out %q, log\n%s", c.name, again.LeftOut(), log)
		}
		if len(again.LeftOut()) > 0 && strings.Count(log.String(), recovered) == 0 {
			t.Errorf("%s: it was not recovered", c.name)
		}
		if now := rows(t, again, fmt.Sprintf("SELECT current_setting('%s')", c.name)); !c.left && strings.Trim(now, `"`) != strings.Trim(c.value, "'") && !strings.Contains(log.String(), "the line with "+c.name) {
			t.Errorf("%s is %s, and the log says nothing of it", c.name, now)
		}
		rows(t, again, "ALTER SYSTEM RESET "+c.name)
		want(t, again, fmt.Sprintf("SELECT pg_read_file('postgresql.auto.conf') LIKE '%%%s%%'", c.name), "f")
		again.Kill()
	}
}

// A server that would turn away every client is not started: the error names what was set, and why.
func TestSessionsMustBegin(t *testing.T) {
	for name, value := range map[string]string{"local_preload_libraries": "nonexistent", "session_preload_libraries": "nonexistent"} {
		data, err := testRuntime(t).Template(t.Context(), memfs.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c, err := testRuntime(t).StartCluster(t.Context(), ClusterOptions{Data: data, Settings: map[string]string{name: value}})
		if err == nil {
			c.Kill()
		}
		if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), value) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := start(t, ClusterOptions{Settings: map[string]string{"session_preload_libraries": "auto_explain"}})
	want(t, s, "SHOW session_preload_libraries", "auto_explain")
}

// Prepared transactions outlive the settings that they were made with.
func TestStartsWithPreparedTransactions(t *testing.T) {
	data, err := testRuntime(t).Template(t.Context(), memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in := start(t, ClusterOptions{Data: data, Settings: map[string]string{"max_prepared_transactions": "5"}})
	rows(t, in, "CREATE TABLE twice (id int)")
	for i := range 3 {
		rows(t, in, fmt.Sprintf("BEGIN; INSERT INTO twice VALUES (%d); PREPARE TRANSACTION 'p%d'", i, i))
	}
	rows(t, in, "ALTER SYSTEM SET max_prepared_transactions = 1")
	in.Kill()
	for range 2 { // including after a clean shutdown
		again, log := startOn(t, in.Data())
		want(t, again, "SELECT count(*) FROM pg_prepared_xacts", "3")
		if !strings.Contains(log.String(), "without") || len(again.LeftOut()) == 0 {
			t.Errorf("left out %q, log\n%s", again.LeftOut(), log)
		}
		if err := again.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		in = again
	}
	again, _ := startOn(t, in.Data())
	rows(t, again, "COMMIT PREPARED 'p0'")
	rows(t, again, "COMMIT PREPARED 'p1'")
	rows(t, again, "ROLLBACK PREPARED 'p2'")
	want(t, again, "SELECT count(*) FROM twice", "2")
}

// If no number of prepared transactions is set any more, the log mentions no line; if the command line sets one, it mentions that.
func TestWarningsNameWhatIsThere(t *testing.T) {
	const name = "max_prepared_transactions"
	data, err := testRuntime(t).Template(t.Context(), memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in := start(t, ClusterOptions{Data: data, Settings: map[string]string{name: "5"}})
	rows(t, in, "CREATE TABLE twice (id int)")
	for i := range 3 {
		rows(t, in, fmt.Sprintf("BEGIN; INSERT INTO twice VALUES (%d); PREPARE TRANSACTION 'p%d'", i, i))
	}
	in.Kill()
	if _, control, err := readControl(in.Data()); err != nil || control.MaxPrepared != 5 {
		t.Errorf("the control file says %+v, %v", control, err)
	}
	for _, settings := range []map[string]string{nil, {name: "1"}} {
		var log strings.Builder
		again := start(t, ClusterOptions{Data: in.Data().Clone(), Settings: settings, Log: func(s string) { log.WriteString(s + "\n") }})
		want(t, again, "SELECT count(*), current_setting('"+name+"') FROM pg_prepared_xacts", "3|5")
		again.Kill()
		said := log.String()
		if !strings.Contains(said, "WARNING:  PostgreSQL is started with "+name+" = 5") || strings.Contains(said, autoConf) {
			t.Errorf("%v: the log:\n%s", settings, said)
		}
		if left := len(settings) > 0; left != slices.Equal(again.LeftOut(), []string{name}) || left != strings.Contains(said, "configured values of "+name+"; it has started without them. ") {
			t.Errorf("%v: left out %q, the log:\n%s", settings, again.LeftOut(), said)
		}
	}
}

// restored returns the files of an ended instance as a restore makes them: those of a layer, and the log after it.
func restored(t *testing.T, layer *memfs.FS, in *server) *memfs.FS {
	t.Helper()
	segments, err := in.Data().ReadDir("/pg_wal")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range segments {
		if name := "/pg_wal/" + s.Name; s.Mode&memfs.ModeType == memfs.ModeRegular {
			b, err := in.Data().ReadFile(name)
			if err == nil {
				err = layer.WriteFile(name, b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return layer
}

// A full disk stops clients, which can make room again; it does not stop recovery and the host's own work.
func TestFullDiskIsRecovered(t *testing.T) {
	const limit = 64 << 20
	in := start(t, ClusterOptions{DataLimit: limit})
	rows(t, in, "CREATE TABLE filled (t text) WITH (autovacuum_enabled = off)")
	rows(t, in, "CHECKPOINT")
	layer := in.Data().Clone()
	acked := 0
	var full error
	for range 200 {
		if _, full = in.Query(t.Context(), "INSERT INTO filled SELECT repeat('x', 400) FROM generate_series(1, 2000)"); full != nil {
			break
		}
		acked += 2000
	}
	if full == nil || !strings.Contains(full.Error(), "53100") {
		t.Fatalf("the disk is not full: %v", full)
	}
	rows(t, in, "BEGIN; DELETE FROM filled; ROLLBACK") // the log may exceed the limit, and is complete from the start when it is replayed
	count := fmt.Sprint(acked)
	in.Kill()
	data := restored(t, layer, in)
	for range 3 { // the space taken by recovery and its checkpoint does not prevent the next recovery
		again := start(t, ClusterOptions{Data: data, DataLimit: limit})
		want(t, again, "SELECT count(*) FROM filled", count)
		wantState(t, again, "INSERT INTO filled SELECT repeat('x', 400) FROM generate_series(1, 200000)", "53100")
		host := hostSession(t, again)
		for _, sql := range []string{"VACUUM (FREEZE, ANALYZE)", "CHECKPOINT"} {
			if _, err := host.Query(t.Context(), sql); err != nil {
				t.Errorf("the host's own work: %v", err)
			}
		}
		again.Kill()
	}
	again := start(t, ClusterOptions{Data: data, DataLimit: limit})
	rows(t, again, "DELETE FROM filled WHERE ctid < '(10,1)'")
	rows(t, again, "TRUNCATE filled")
	rows(t, again, "INSERT INTO filled SELECT repeat('x', 400) FROM generate_series(1, 2000)")
	rows(t, again, "DROP TABLE filled")
}

func TestIsSystemFile(t *testing.T) {
	for name, want := range map[string]bool{
		"/base/5/1259": true, "base/5/1259.1": true, "base/5/16384": false, "base/5/16384.2": false, "base/5/16384_fsm": true, "base/5/16384_vm": true,
		"base/5/t0_16384": false, "base/pgsql_tmp/pgsql_tmp1.0": false, "pg_xact/0000": true, "global/1262": true, "base/5/pg_filenode.map": true,
		"pg_tblspc/16400/PG_18_202506291/5/16401": false, "postgresql.auto.conf.tmp": true,
	} {
		if got := isSystemFile(name); got != want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// What the bucket cannot hold is refused when requested.
func TestRefusesWhatIsNotKept(t *testing.T) {
	in := start(t, ClusterOptions{})
	wantState(t, in, "SELECT pg_create_physical_replication_slot('mine', true)", "55000")
	wantState(t, in, "SELECT pg_create_logical_replication_slot('mine', 'test_decoding')", "55000")
	want(t, in, "SELECT count(*) FROM pg_replication_slots", "0")
	if _, err := in.Query(t.Context(), "CREATE TABLESPACE there LOCATION '/tmp'"); err == nil || !strings.Contains(err.Error(), "pg_tblspc") {
		t.Errorf("CREATE TABLESPACE: %v", err)
	}
	rows(t, in, "SET allow_in_place_tablespaces = on")
	rows(t, in, "CREATE TABLESPACE here LOCATION ''")
	rows(t, in, "CREATE TABLE kept (id int) TABLESPACE here")
	rows(t, in, "INSERT INTO kept SELECT generate_series(1, 100)")
	data := in.Data().Clone()
	in.Kill()
	again, _ := startOn(t, data)
	want(t, again, "SELECT count(*) FROM kept", "100")
}

// A database with a slot from an earlier version opens.
func TestOldReplicationSlotsAreRemoved(t *testing.T) {
	rt := testRuntime(t)
	data, err := rt.Template(t.Context(), memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in := start(t, ClusterOptions{Data: data, Settings: map[string]string{"max_replication_slots": "5"}})
	rows(t, in, "SELECT pg_create_physical_replication_slot('mine', true)")
	in.Kill()
	again, log := startOn(t, data)
	want(t, again, "SELECT count(*) FROM pg_replication_slots", "0")
	if !strings.Contains(log.String(), "replication slot mine was removed") {
		t.Errorf("the log says nothing of it: %s", log)
	}
}
