package engine

import (
	"errors"
	"strings"
	"testing"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
)

// saysWhose fails unless the newest layer of a prefix has the id of its database in its index. It returns the layer.
func saysWhose(t *testing.T, st store.Store) manifest.Layer {
	t.Helper()
	m, err := manifestOf(t, st)
	if err != nil {
		t.Fatal(err)
	}
	l := m.Layers[len(m.Layers)-1]
	if _, err := base.ReadIndex(t.Context(), st, l.Key, base.Expected(m, l)); err != nil {
		t.Error(err)
	}
	if _, err := base.ReadIndex(t.Context(), st, l.Key, base.Expect{Database: "02OTHER"}); !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), "belongs to database "+m.DatabaseID) {
		t.Errorf("layer %s, read as another database's: %v", l.Key, err)
	}
	return l
}

// TestIndexInAnothersPlace: each layer says to which database it belongs; and where an earlier layer's index stands in place of the newest
// one's, with all its segments there, the older pages are not opened under the newer log, and nothing is deleted.
func TestIndexInAnothersPlace(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(*Options){
		"snapshot": func(*Options) {},
		"whole":    func(o *Options) { inLog(o); o.Retain, o.RestoreBudget = 1<<40, -1 },
		"lazy":     func(o *Options) { inLog(o); o.Retain, o.RestoreBudget, o.Cache = 1<<40, -1, LeastCache },
	} {
		t.Run(name, func(t *testing.T) {
			st := mem.New(mem.Options{})
			e := open(t, st, how)
			must(t, e, "CREATE TABLE t (a int)")
			layer := func(n string) (manifest.Layer, []byte) {
				t.Helper()
				must(t, e, "INSERT INTO t VALUES ("+n+")")
				if name != "snapshot" {
					if err := e.Compact(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				l := saysWhose(t, st)
				o, err := st.Get(t.Context(), base.IndexKey(l.Key))
				if err != nil {
					t.Fatal(err)
				}
				return l, o.Body
			}
			earlier, old := layer("1")
			newest, right := layer("2")
			must(t, e, "SELECT 1")
			e.Abandon()
			put := func(body []byte) {
				if _, err := st.Put(t.Context(), base.IndexKey(newest.Key), body, "", store.Always()); err != nil {
					t.Fatal(err)
				}
			}
			if newest.Key == earlier.Key {
				t.Fatal("there is one layer")
			}
			put(old)
			_, openErr := tryOpen(t, st, how)
			_, verifyErr := takeover.VerifyWith(t.Context(), st, takeover.VerifyOptions{Deep: true})
			_, atErr := Restore(t.Context(), st, Latest(), nil)
			for what, err := range map[string]error{"opened": openErr, "verified": verifyErr, "restored": atErr} {
				if !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), base.IndexKey(newest.Key)) || !strings.Contains(err.Error(), "of layer "+earlier.Key) {
					t.Errorf("%s: %v", what, err)
				}
			}
			put(right)
			e = open(t, st, how)
			if got := must(t, e, "SELECT sum(a) FROM t"); got != "3" {
				t.Errorf("with its own index again: %s", got)
			}
			to := mem.New(mem.Options{})
			if _, err := Branch(t.Context(), to, st, BranchOptions{Writer: "copy"}); err != nil {
				t.Fatal(err)
			}
			saysWhose(t, to)
		})
	}
}
