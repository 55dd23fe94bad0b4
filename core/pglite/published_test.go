package pglite

import (
	"errors"
	"strings"
	"testing"

	"blobpglite/core/memfs"
)

// publishedUses is one use of each extension that has a package of its own.
func publishedUses() []extensionUse {
	return []extensionUse{
		{
			name: "vector", setup: "CREATE TABLE items (id int, v vector(3)); INSERT INTO items VALUES (1, '[1,2,3]'), (2, '[4,5,6]'); CREATE INDEX ON items USING hnsw (v vector_l2_ops)",
			sql: "SET enable_seqscan = off; SELECT id, round((v <-> '[4,5,7]')::numeric, 1) FROM items ORDER BY v <-> '[4,5,7]' LIMIT 1", want: "2|1.0",
		},
		{name: "age", setup: "LOAD 'age'; SET search_path = ag_catalog, public; SELECT create_graph('people'); RESET search_path", sql: "SELECT count(*) FROM ag_catalog.ag_graph", want: "1"},
		{
			name: "pg_ivm", setup: "CREATE TABLE base (a int); SELECT pgivm.create_immv('summed', 'SELECT sum(a) AS s, count(*) AS n FROM base'); INSERT INTO base VALUES (3), (4)",
			sql: "SELECT s FROM summed", want: "7",
		},
		{name: "pg_uuidv7", sql: "SELECT length(uuid_generate_v7()::text)", want: "36"},
		{name: "pgtap", sql: "SELECT plan(1); SELECT ok(true, 'works')", want: "ok 1 - works"},
		{name: "pg_hashids", sql: "SELECT id_decode_once(id_encode(1001, 'salt', 10), 'salt', 10)", want: "1001"},
	}
}

// TestPublishedExtensions fetches the packages by npm, creates each extension, uses it, and uses it again after a
// restart on the same files.
func TestPublishedExtensions(t *testing.T) {
	var names []string
	for _, u := range publishedUses() {
		names = append(names, u.name)
	}
	rt, err := NewRuntime(t.Context(), Options{Extensions: names})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	}()
	data, err := rt.Template(t.Context(), memfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for life := range 2 {
		in, err := tryStart(t, rt, ClusterOptions{Data: data}, "postgres")
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range publishedUses() {
			if life == 0 {
				if _, err := in.Query(t.Context(), "CREATE EXTENSION "+u.name+" CASCADE; "+u.setup); err != nil {
					t.Errorf("%s: %v", u.name, err)
					continue
				}
			}
			results, err := in.Query(t.Context(), u.sql)
			if err != nil {
				t.Errorf("life %d, %s: %v", life, u.name, err)
				continue
			}
			last := results[len(results)-1]
			if got := strings.Join(last.Rows[0], "|"); got != u.want {
				t.Errorf("life %d, %s: %q, want %q", life, u.name, got, u.want)
			}
		}
		if err := in.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		data = in.Data()
	}
}

func TestUnknownExtensionIsNamed(t *testing.T) {
	rt, err := NewRuntime(t.Context(), Options{Extensions: []string{"telepathy"}})
	if err == nil {
		t.Fatal(errors.Join(errors.New("it was taken"), rt.Close()))
	}
	for _, part := range []string{`"telepathy"`, "vector", "pg_trgm"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not name %s: %v", part, err)
		}
	}
}
