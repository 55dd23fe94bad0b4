package engine

import (
	"strings"
	"testing"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

func TestIsTemporary(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"/base/5/t3_16384": true, "/base/5/t12_16384.1": true, "/base/5/t3_16384_fsm": true, "/base/5/t3_16384_vm.2": true, "/base/pgsql_tmp": true,
		"/base/pgsql_tmp/pgsql_tmp1004.0": true, "/pg_tblspc/7/PG_18/5/t3_16384": true,
		"/base/5/16384": false, "/base/5/16384_fsm": false, "/base/5/t_16384": false, "/base/5/t3_": false, "/base/5/t3_x": false, "/base/5/3_16384": false,
		"/base/5": false, "/base/5/PG_VERSION": false, "/global/t3_16384": false, "/t3_16384": false, "/pg_wal/t3_16384": false,
	} {
		if isTemporary(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// temporaryBytes is the size of temporary tables in the newest layer, and in an engine's tree.
func temporaryBytes(t *testing.T, st store.Store, e *Engine) (stored, there int64) {
	t.Helper()
	m, _, err := manifest.Load(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	files := memfs.New(memfs.Options{})
	if _, _, err := base.Read(t.Context(), st, m.Layers[len(m.Layers)-1].Key, files, base.ReadOptions{}); err != nil {
		t.Fatal(err)
	}
	count := func(f *memfs.FS, n *int64) error {
		return f.Walk("/", func(name string, i memfs.Info) error {
			if isTemporary(name) {
				*n += i.Size
			}
			return nil
		})
	}
	err = count(files, &stored)
	if e != nil && err == nil {
		var walkErr error
		err = e.server.locked(func(c *pglite.Cluster) { walkErr = count(c.Data(), &there) })
		if err == nil {
			err = walkErr
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return stored, there
}

// TestTemporaryTables: they are in no layer, unless memory is needed, and gone in the next life, as after a postmaster's restart; their
// leftovers in the catalogs cause no trouble.
func TestTemporaryTables(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog, func(o *Options) { o.Cache, o.RestoreBudget = LeastCache, -1 })
	fill := "SELECT g AS id, (SELECT string_agg(md5((g * 31 + i)::text), '') FROM generate_series(1, 24) i) AS pad FROM generate_series(1, %) g"
	must(t, e, "SET temp_buffers = '1MB'; CREATE TEMPORARY TABLE few AS "+strings.ReplaceAll(fill, "%", "10000")+"; CREATE TABLE kept AS SELECT 1 AS a; SELECT 1")
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if stored, there := temporaryBytes(t, st, e); stored != 0 || there < 5<<20 {
		t.Errorf("%d bytes of temporary tables are in the layer, %d in the files", stored, there)
	}
	must(t, e, "CREATE TEMPORARY TABLE many AS "+strings.ReplaceAll(fill, "%", "120000")+"; SELECT 1")
	waitUntil(t, func() bool { resident, _ := memory(t, e); return resident < LeastCache+hydrateBytes })
	for range 2 {
		must(t, e, "INSERT INTO kept VALUES (1); SELECT 1")
		if err := e.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := must(t, e, "SELECT sum(length(pad)) FROM many"); got != "92160000" {
		t.Errorf("%s bytes are in it", got)
	}
	e.Abandon()
	e = open(t, st, inLog, func(o *Options) { o.Cache, o.RestoreBudget = LeastCache, -1 })
	if _, there := temporaryBytes(t, st, e); there != 0 {
		t.Errorf("%d bytes of temporary tables are left", there)
	}
	if got := must(t, e, "SELECT count(*) FROM kept"); got != "3" {
		t.Errorf("%s rows", got)
	}
	must(t, e, "CREATE TEMPORARY TABLE few AS SELECT 1")
	must(t, e, "VACUUM")
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if stored, _ := temporaryBytes(t, st, e); stored != 0 {
		t.Errorf("%d bytes of temporary tables are in the layer behind it", stored)
	}
}
