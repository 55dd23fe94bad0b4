package pglite

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"blobpglite/core/memfs"
)

func takeImage(t testing.TB, in *Instance) *Image {
	t.Helper()
	img, err := in.Image()
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestClonesDiverge(t *testing.T) {
	in := quiet(t)
	rows(t, in, "INSERT INTO a SELECT g, 'original' FROM generate_series(1, 1000) g; CREATE TEMP TABLE tmp (i int); INSERT INTO tmp VALUES (7)")
	img := takeImage(t, in)
	const n = 20
	clones := make([]*Instance, n)
	for i := range clones {
		clones[i] = startFrom(t, img, InstanceOptions{})
	}
	for i, c := range clones {
		rows(t, c, fmt.Sprintf("DELETE FROM a WHERE id > %d; UPDATE a SET v = 'clone %d'; CREATE TABLE own_%d (i int); INSERT INTO tmp VALUES (%d)", 10*(i+1), i, i, i))
	}
	for i, c := range clones {
		want(t, c, "SELECT count(*), min(v), max(v) FROM a", fmt.Sprintf("%d|clone %d|clone %d", 10*(i+1), i, i))
		want(t, c, "SELECT string_agg(relname, ',') FROM pg_class WHERE relname LIKE 'own%'", fmt.Sprintf("own_%d", i))
		want(t, c, "SELECT sum(i) FROM tmp", fmt.Sprint(7+i))
	}
	want(t, in, "SELECT count(*), min(v) FROM a", "1000|original")
	want(t, startFrom(t, img, InstanceOptions{}), "SELECT count(*), min(v) FROM a", "1000|original")
}

// Instances may be started at the same time, from the same image or from files.
func TestStartAtTheSameTime(t *testing.T) {
	img := templateImage(t)
	rt := testRuntime(t)
	var wg sync.WaitGroup
	together := make(chan struct{})
	for i := range 8 {
		wg.Go(func() {
			<-together
			var in *Instance
			var err error
			if i < 6 {
				in, err = rt.StartImage(t.Context(), img, InstanceOptions{})
			} else {
				var data *memfs.FS
				if data, err = rt.Template(t.Context(), memfs.Options{}); err == nil {
					in, err = rt.Start(t.Context(), InstanceOptions{Data: data})
				}
			}
			if err != nil {
				t.Error(err)
				return
			}
			defer in.Kill()
			results, err := in.Query(t.Context(), "CREATE TABLE a AS SELECT g FROM generate_series(1, 1000) g; DO $$ BEGIN PERFORM 1; END $$; SELECT sum(g) FROM a")
			if err != nil || format(results[len(results)-1].Rows) != "500500" {
				t.Error(results, err)
			}
		})
	}
	close(together)
	wg.Wait()
}

func TestImageKeepsTheSession(t *testing.T) {
	in := quiet(t)
	wantLines(t, exchange(t, in, &pgproto3.Parse{Name: "p", Query: "SELECT $1::int + 1"}, &pgproto3.Sync{}), "ParseComplete", "ReadyForQuery I")
	rows(t, in, "PREPARE q AS SELECT count(*) FROM a; SET work_mem = '3MB'; LISTEN news; CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 5; END'")
	want(t, in, "SELECT f()", "5")
	c := startFrom(t, takeImage(t, in), InstanceOptions{})
	in.Kill()
	wantLines(t, exchange(t, c, bind("p", "", "41"), &pgproto3.Execute{}, &pgproto3.Sync{}),
		"BindComplete", "DataRow 42", "CommandComplete SELECT 1", "ReadyForQuery I")
	want(t, c, "EXECUTE q", "0")
	want(t, c, "SHOW work_mem", "3MB")
	want(t, c, "SELECT f()", "5")
	wantLines(t, exchange(t, c, &pgproto3.Query{String: "NOTIFY news"}), "CommandComplete NOTIFY", "NotificationResponse news ", "ReadyForQuery I")
}

func TestImageWithinATransaction(t *testing.T) {
	in := quiet(t)
	rows(t, in, "BEGIN; INSERT INTO a VALUES (1); SAVEPOINT s; INSERT INTO a VALUES (2); DECLARE c CURSOR FOR SELECT generate_series(1, 3)")
	want(t, in, "FETCH c", "1")
	img := takeImage(t, in)
	first, second := startFrom(t, img, InstanceOptions{}), startFrom(t, img, InstanceOptions{})
	want(t, first, "FETCH c", "2")
	want(t, first, "COMMIT; SELECT count(*) FROM a", "2")
	want(t, second, "ROLLBACK TO s; COMMIT; SELECT count(*) FROM a", "1")
	want(t, in, "FETCH c", "2")
	want(t, in, "ROLLBACK; SELECT count(*) FROM a", "0")
}

func TestImageErrors(t *testing.T) {
	img, rt := templateImage(t), testRuntime(t)
	for _, c := range []struct {
		name, text string
		rt         *Runtime
		o          InstanceOptions
	}{
		{"memory limit", "below the", rt, InstanceOptions{MemoryLimit: 64 << 20}},
		{"data directory", "leave Data nil", rt, InstanceOptions{Data: memfs.New(memfs.Options{})}},
		{"another runtime", "another runtime", &Runtime{}, InstanceOptions{}},
		{"no randomness", "seed the random numbers", rt, InstanceOptions{Random: strings.NewReader("short")}},
	} {
		if _, err := c.rt.StartImage(t.Context(), img, c.o); err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
	in := start(t, InstanceOptions{})
	in.Kill()
	if _, err := in.Image(); !errors.Is(err, ErrDead) {
		t.Fatal(err)
	}
}

func TestRandomNumbersDiffer(t *testing.T) {
	in := quiet(t)
	img := takeImage(t, in)
	for _, sql := range []string{
		"SELECT gen_random_uuid()", "SELECT random()", "SELECT uuidv7()", "SELECT md5(random()::text)",
	} {
		seen := map[string]bool{}
		for range 10 {
			seen[rows(t, startFrom(t, img, InstanceOptions{}), sql)] = true
		}
		if len(seen) != 10 {
			t.Errorf("%s: %d different values of 10", sql, len(seen))
		}
	}
	// The same source gives the same numbers.
	same := func() string {
		return rows(t, startFrom(t, img, InstanceOptions{Random: &counting{}}), "SELECT gen_random_uuid(), random()")
	}
	if a, b := same(), same(); a != b {
		t.Fatalf("%s and %s", a, b)
	}
}

// counting is a source of bytes that all differ, the same ones each time.
type counting struct{ n byte }

func (c *counting) Read(p []byte) (int, error) {
	for i := range p {
		c.n++
		p[i] = c.n
	}
	return len(p), nil
}

var _ io.Reader = (*counting)(nil)

func TestImageStartTime(t *testing.T) {
	img := templateImage(t)
	var times []time.Duration
	for range 31 {
		at := time.Now()
		in := startFrom(t, img, InstanceOptions{})
		times = append(times, time.Since(at))
		in.Kill()
	}
	slices.Sort(times)
	t.Logf("start from the template image: median %v, slowest %v", times[15], times[30])
	if times[15] > 200*time.Millisecond { // ten times what it should be: this is no benchmark
		t.Fatal("too slow")
	}
}
