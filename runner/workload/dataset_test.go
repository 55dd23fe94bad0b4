package workload

import (
	"strings"
	"testing"

	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
)

// TestDataset loads a dataset into PostgreSQL, verifies it, and then damages it in each way that a check is for.
func TestDataset(t *testing.T) {
	rt, err := pglite.NewRuntime(t.Context(), pglite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	data, err := rt.Template(t.Context(), memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := rt.Start(t.Context(), pglite.InstanceOptions{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Kill()
	query := func(sql string) []pglite.Result {
		t.Helper()
		results, err := in.Query(t.Context(), sql)
		if err != nil {
			t.Fatalf("%.60s: %v", sql, err)
		}
		return results
	}
	d := Dataset{Bytes: 2_000_000, Seed: 7}
	query(d.Load())
	verify := func() error {
		t.Helper()
		v, err := ParseVerify(query(VerifySQL))
		if err != nil {
			t.Fatal(err)
		}
		return d.Check(v)
	}
	if err := verify(); err != nil {
		t.Fatalf("a fresh dataset: %v", err)
	}
	for name, damage := range map[string]struct{ sql, says string }{
		"changed integer":   {"UPDATE rows SET n = n + 1 WHERE id = 3", "differ"},
		"changed bytes":     {`UPDATE rows SET bytes_that_do_not = '\x00' WHERE id = 700`, "differ"},
		"lost row":          {"DELETE FROM rows WHERE id = 5", "differ"},
		"lost chunk":        {"DELETE FROM rows WHERE chunk = 1; DELETE FROM checksums WHERE chunk = 1", "acknowledged"},
		"uncommitted chunk": {strings.TrimPrefix(d.OpenTransactionSQL(), "BEGIN; "), "differ"},
	} {
		query("BEGIN")
		query(damage.sql)
		if err := verify(); err == nil || !strings.Contains(err.Error(), damage.says) {
			t.Errorf("%s: the verification says %v", name, err)
		}
		query("ROLLBACK")
	}
	if err := verify(); err != nil {
		t.Errorf("after the rollbacks: %v", err)
	}
	grown := query("SELECT pg_total_relation_size('rows')")[0].Rows[0][0]
	t.Logf("%d rows take %s bytes, %d were asked for", d.Rows(), grown, d.Bytes)
}
