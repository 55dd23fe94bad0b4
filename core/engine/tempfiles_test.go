package engine

import (
	"errors"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"blobpglite/core/pglite"
	"blobpglite/core/store/mem"
)

// largeSort needs some 30 MB of temporary files.
const largeSort = "SET work_mem = '64kB'; SELECT sum(n * length(m)) FROM (SELECT row_number() OVER (ORDER BY m) AS n, m FROM " +
	"(SELECT repeat(md5(i::text), 4) AS m FROM generate_series(1, 200000) i) r) s"

func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

func temporaryFiles(t *testing.T, e *Engine) (memory, disk int64) {
	t.Helper()
	if err := e.server.locked(func(c *pglite.Cluster) { memory, disk = c.Data().TemporaryBytes() }); err != nil {
		t.Fatal(err)
	}
	return memory, disk
}

// TestTemporaryFilesEnd: a statement that would need more memory for temporary files than is allowed gets an error, and nothing else is
// affected.
func TestTemporaryFilesEnd(t *testing.T) {
	t.Parallel()
	e := open(t, mem.New(mem.Options{}), inLog, func(o *Options) { o.Cache, o.TempMemory = LeastCache, 8<<20 })
	if _, err := e.Query(t.Context(), largeSort); sqlState(err) != "53400" {
		t.Errorf("the statement ended with %v", err)
	}
	if _, err := e.Query(t.Context(), "SET temp_file_limit = -1; "+largeSort); sqlState(err) != "53100" {
		t.Errorf("without PostgreSQL's own limit it ended with %v", err)
	}
	if memory, disk := temporaryFiles(t, e); memory != 0 || disk != 0 {
		t.Errorf("%d and %d bytes are left of it", memory, disk)
	}
	if got := must(t, e, "SELECT 1"); got != "1" || e.Stats().Restarts != 0 {
		t.Errorf("%q behind it, %d restarts", got, e.Stats().Restarts)
	}
}

// TestTemporaryFilesOnDisk: with a folder for them, a sort can be as large as the folder allows; nothing of it is left or visible there.
func TestTemporaryFilesOnDisk(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog)
	want := must(t, e, largeSort)
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	e = open(t, st, inLog, func(o *Options) { o.Cache, o.TempMemory, o.TempDir = LeastCache, 1<<20, dir })
	if got := must(t, e, largeSort); got != want {
		t.Errorf("the rows come to %s, not %s", got, want)
	}
	must(t, e, "BEGIN; SET LOCAL work_mem = '64kB'; DECLARE c CURSOR FOR SELECT repeat(md5(i::text), 4) AS m FROM generate_series(1, 200000) i ORDER BY m; FETCH 1 FROM c")
	if memory, disk := temporaryFiles(t, e); disk < 8<<20 || memory == 0 || memory > 1<<20 {
		t.Errorf("of a sort at work %d bytes are in memory, and %d on disk", memory, disk)
	}
	must(t, e, "COMMIT")
	if memory, disk := temporaryFiles(t, e); memory != 0 || disk != 0 {
		t.Errorf("%d bytes of it are left, and %d on disk", memory, disk)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("there is %v (%v)", left, err)
	}
	if _, err := tryOpen(t, mem.New(mem.Options{}), inLog, func(o *Options) { o.TempDir = dir + "/none" }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

// TestMoreTemporaryMemoryThanCounts: a limit beyond the range of temp_file_limit does not prevent the start.
func TestMoreTemporaryMemoryThanCounts(t *testing.T) {
	t.Parallel()
	e := open(t, mem.New(mem.Options{}), inLog, func(o *Options) { o.TempMemory = 1 << 50 })
	if got := must(t, e, "SELECT setting FROM pg_settings WHERE name = 'temp_file_limit'"); got != "2147483647" {
		t.Errorf("temp_file_limit is %s kB", got)
	}
}
