package pglite

import (
	"fmt"
	"testing"
	"time"

	"blobpglite/core/memfs"
)

// A cluster that starts from prepared state has its database's own data, and one with other settings gets a start of its own.
func TestPreparedStart(t *testing.T) {
	rt := testRuntime(t)
	in := start(t, ClusterOptions{})
	rows(t, in, "CREATE TABLE kept (id int); INSERT INTO kept SELECT generate_series(1, 1000)")
	state := "SELECT system_identifier, (SELECT oldest_xid FROM pg_control_checkpoint()) FROM pg_control_system()"
	was := rows(t, in, state)
	crashed := in.Data().Clone()
	rows(t, in, "CHECKPOINT; INSERT INTO kept VALUES (1001)")
	later := in.Data().Clone()
	rows(t, in, "ALTER SYSTEM SET max_locks_per_transaction = 100")
	configured := in.Data().Clone()
	in.Kill()
	for _, c := range []struct {
		name        string
		data        *memfs.FS
		settings    map[string]string
		taken       bool
		count, lock string
	}{
		{"behind a crash", crashed, nil, true, "1000", "64"},
		{"behind a checkpoint", later, nil, true, "1001", "64"},
		{"with a setting of its own", configured, nil, false, "1001", "100"},
		{"with other settings", later, map[string]string{"max_locks_per_transaction": "70"}, false, "1001", "70"},
	} {
		if err := rt.Prepare(t.Context(), ClusterOptions{}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		again := start(t, ClusterOptions{Data: c.data.Clone(), Settings: c.settings})
		t.Logf("%s: started in %v", c.name, time.Since(began))
		rt.mu.Lock()
		taken := again.image.memory == rt.prepared.image.memory
		rt.mu.Unlock()
		if taken != c.taken {
			t.Errorf("%s: what was prepared was taken: %t", c.name, taken)
		}
		want(t, again, "SELECT count(*), current_setting('max_locks_per_transaction') FROM kept", c.count+"|"+c.lock)
		want(t, again, state, was)
		want(t, again, fmt.Sprintf("SELECT pg_postmaster_start_time() >= to_timestamp(%f)", float64(began.UnixMicro())/1e6), "t")
		if again.Replayed() == 0 {
			t.Errorf("%s: it did not recover", c.name)
		}
		rows(t, again, "INSERT INTO kept VALUES (0); CHECKPOINT")
		third := start(t, ClusterOptions{Data: again.Data().Clone()})
		want(t, third, "SELECT count(*) FROM kept WHERE id = 0", "1")
		third.Kill()
		again.Kill()
	}
	if err := rt.Prepare(t.Context(), ClusterOptions{Settings: map[string]string{"shared_buffers": "none"}}); err == nil {
		t.Error("a start with a bad setting was prepared")
	}
	if err := rt.Prepare(t.Context(), ClusterOptions{MaxClients: 7}); err != nil { // replaces the prepared state; Close ends it
		t.Fatal(err)
	}
	want(t, start(t, ClusterOptions{MaxClients: 7}), "SHOW max_connections", fmt.Sprint(7+reserved+hostSessions))
}
