package engine

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"testing"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
)

// recorded is a prefix as an earlier commit left it, from a tar archive of its objects.
func recorded(t *testing.T, name string) store.Store {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st := mem.New(mem.Options{})
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return st
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err == nil {
			_, err = st.Put(t.Context(), h.Name, body, "", store.Always())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestOlderDatabase: a database that 674f74d has written (testdata/record.go.txt), before layers shared pages, and that was killed, opens in
// every way that there is with every row; its first layer carries all of it over, and that one opens.
func TestOlderDatabase(t *testing.T) {
	const (
		old     = "testdata/674f74d.tar"
		content = "SELECT count(*) || ' ' || sum(a) || ' ' || md5(string_agg(b, ',' ORDER BY a)) FROM t WHERE a < 3000"
		// 1,000 rows of which one was changed and one deleted, and two written behind layers.
		right = "SELECT count(*) || ' ' || sum(a) || ' ' || md5(string_agg(b, ',' ORDER BY a)) FROM (SELECT g AS a, CASE g WHEN 7 THEN 'changed' ELSE 'row ' || g END AS b " +
			"FROM generate_series(1, 1000) g WHERE g <> 8 UNION ALL VALUES (2001, 'behind the first life''s layer'), (2002, 'behind the layer'))"
	)
	if _, err := takeover.VerifyWith(t.Context(), recorded(t, old), takeover.VerifyOptions{Deep: true}); err != nil {
		t.Fatal(err)
	}
	for name, how := range map[string]func(*Options){"whole": inLog, "lazy": func(o *Options) { inLog(o); o.Cache = LeastCache }} {
		t.Run(name, func(t *testing.T) {
			st := recorded(t, old)
			before := manifestLayers(t, st)
			past, err := openAt(t, st, Latest())
			if err != nil {
				t.Fatal(err)
			}
			if got, want := must(t, past, content), must(t, past, right); got != want {
				t.Errorf("read beside: %s, want %s", got, want)
			}
			past.Abandon()
			for life := range 3 {
				e := open(t, st, how, func(o *Options) { o.Create, o.RestoreBudget = false, -1 })
				if got, want := must(t, e, content), must(t, e, right); got != want {
					t.Errorf("life %d: %s, want %s", life, got, want)
				}
				if got := must(t, e, "SHOW cluster_name"); got != "recorded" {
					t.Errorf("life %d: ALTER SYSTEM did not survive: %q", life, got)
				}
				if got := must(t, e, "SELECT count(*) || '' FROM t WHERE a > 3000"); got != []string{"0", "1", "2"}[life] {
					t.Errorf("life %d: %s later rows", life, got)
				}
				must(t, e, "INSERT INTO t VALUES (4000 + (SELECT count(*) FROM t WHERE a > 3000), 'later')")
				if life == 0 {
					if err := e.Compact(t.Context()); err != nil {
						t.Fatal(err)
					}
					must(t, e, "SELECT 1")
				}
				e.Abandon() // a kill
			}
			l := saysWhose(t, st)
			if l.Key == before[0].Key || l.Segments == 0 {
				t.Errorf("%+v", l)
			}
			for a, err := range st.List(t.Context(), before[0].Key, "") {
				t.Errorf("%s is left: %v", a.Key, err)
			}
			if _, err := takeover.VerifyWith(t.Context(), st, takeover.VerifyOptions{Deep: true}); err != nil {
				t.Error(err)
			}
		})
	}
}
