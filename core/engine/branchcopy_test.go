package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"blobpglite/core/base"
	"blobpglite/core/manifest"
	"blobpglite/core/point"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/takeover"
)

// family is a bucket with a database under the prefix parent, which has rows in its layer and in the log after it, and is larger than what
// is read as a whole.
var family = fixture{make: func(t *testing.T, bucket store.Store) {
	t.Helper()
	e := open(t, store.Prefixed(bucket, "parent"), inLog, func(o *Options) { o.Cache, o.RestoreBudget = 4*LeastCache, -1 })
	must(t, e, "CREATE TABLE t (a int PRIMARY KEY, b text)")
	must(t, e, "INSERT INTO t "+rowsSQL(100_000))
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, e, "UPDATE t SET b = 'behind the layer' WHERE a % 1000 = 0; CREATE TABLE u AS SELECT 1 AS x; CREATE TEMPORARY TABLE v AS SELECT 1; SELECT 1")
	familyContents = must(t, e, branchContents)
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}}

// familyContents is the parent's branchContents.
var familyContents string

// parent is the database of this test's own family, and its contents.
func parent(t *testing.T) (bucket *mem.Store, from store.Store, want string) {
	t.Helper()
	bucket = family.copy(t)
	return bucket, store.Prefixed(bucket, "parent"), familyContents
}

const branchContents = "SELECT count(*) || ' ' || sum(length(b)) || ' ' || sum(hashtext(b)) || ' ' || (SELECT count(*) FROM u) FROM t"

// TestBranchCopiesInTheBucket: for a database that is larger than what it reads, a branch has the service copy the pages, and is still an
// independent database, whatever becomes of its parent.
func TestBranchCopiesInTheBucket(t *testing.T) {
	t.Parallel()
	bucket, from, want := parent(t)
	read, to := store.Count(from), store.Count(store.Prefixed(bucket, "branch"))
	b, err := Branch(t.Context(), to, read, BranchOptions{Writer: "copy"})
	if err != nil || b.ID == b.From.DatabaseID {
		t.Fatalf("%+v, %v", b, err)
	}
	stored := b.From.Layers[len(b.From.Layers)-1].StoredBytes
	if up, down := to.Ops().BytesUp, read.Ops().BytesDown; up > stored/20 || down > stored/4 || stored < 30<<20 || read.Ops().BytesUp != 0 {
		t.Errorf("of %d bytes %d were sent and %d read", stored, up, down)
	}
	for a, err := range from.List(t.Context(), "", "") {
		if err = errors.Join(err, from.Delete(t.Context(), a.Key)); err != nil {
			t.Fatal(err)
		}
	}
	for life := range 3 {
		if _, err := takeover.VerifyWith(t.Context(), to, takeover.VerifyOptions{Deep: true}); err != nil {
			t.Fatal(err)
		}
		e := open(t, to, inLog, func(o *Options) { o.Cache, o.RestoreBudget = LeastCache, -1 })
		if got := must(t, e, branchContents); got != want {
			t.Errorf("life %d: the branch is %q, its parent was %q", life, got, want)
		}
		must(t, e, fmt.Sprintf("UPDATE t SET b = b WHERE a < %d", 1000*(life+1)))
		if err := errors.Join(e.Compact(t.Context()), e.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
}

// errDiedCopying is how a branch ends at a point.
var errDiedCopying = errors.New("died")

// TestBranchThatDied: its remains either are not a database, and can be branched over, or are complete and can be adopted; the first
// collection deletes the rest.
func TestBranchThatDied(t *testing.T) {
	t.Parallel()
	bucket, from, want := parent(t)
	for i, c := range []struct {
		at       point.Point
		nth      int
		complete bool // except for the manifest
	}{
		{point.BaseBeforeSegment, 1, false}, {point.BaseAfterSegment, 1, false}, {point.BaseBeforeSegment, 5, false}, {point.BaseAfterSegment, 9, false},
		{point.BaseAfterLastSegment, 1, false}, {point.BaseAfterIndex, 1, true}, {point.ManifestBeforeCAS, 1, true},
	} {
		t.Run(fmt.Sprintf("%s %d", c.at, c.nth), func(t *testing.T) {
			to := store.Prefixed(bucket, fmt.Sprintf("branch%d", i))
			_, err := Branch(t.Context(), to, from, BranchOptions{Hook: dieAt(c.at, c.nth)})
			if !errors.Is(err, errDiedCopying) {
				t.Fatalf("it ended with %v", err)
			}
			if c.at == point.BaseBeforeSegment && c.nth == 1 {
				return // nothing may be there yet
			}
			if e, err := tryOpen(t, to, inLog); !errors.Is(err, takeover.ErrNotEmpty) && !errors.Is(err, takeover.ErrManifestLost) {
				t.Fatalf("it opens: %v, %v", e, err)
			}
			_, err = Branch(t.Context(), to, from, BranchOptions{})
			if c.complete {
				if !errors.Is(err, ErrNotEmpty) || !strings.Contains(err.Error(), "adopt to continue") {
					t.Fatalf("a branch over a complete one: %v", err)
				}
				_, err = takeover.Adopt(t.Context(), takeover.AdoptOptions{Store: to, Writer: "test"})
			}
			if err != nil {
				t.Fatal(err)
			}
			e := open(t, to, inLog, func(o *Options) { o.Cache, o.RestoreBudget = 4*LeastCache, -1 })
			if got := must(t, e, branchContents); got != want {
				t.Errorf("it is %q, its parent %q", got, want)
			}
			must(t, e, "UPDATE u SET x = 2")
			if err := errors.Join(e.Compact(t.Context()), e.Close(t.Context())); err != nil {
				t.Fatal(err)
			}
			onlyWhatIsNeeded(t, to)
		})
	}
}

// dieAt fails the nth pass of a point, and everything that passes it from then on.
func dieAt(at point.Point, nth int) point.Hook {
	passed := make(chan struct{}, 1000)
	return func(_ context.Context, p point.Point) error {
		if p == at {
			passed <- struct{}{}
		}
		if len(passed) >= nth {
			return errDiedCopying
		}
		return nil
	}
}

// onlyWhatIsNeeded fails if a prefix holds page segments that no layer needs.
func onlyWhatIsNeeded(t *testing.T, st store.Store) {
	t.Helper()
	m, err := manifestOf(t, st)
	if err != nil {
		t.Fatal(err)
	}
	needed := map[string]bool{}
	for _, l := range m.Layers {
		layer, err := base.ReadIndex(t.Context(), st, l.Key, base.Expected(m, l))
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range layer.Segments() {
			needed[key] = true
		}
	}
	for a, err := range st.List(t.Context(), base.SegmentPrefix(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if !needed[a.Key] {
			t.Errorf("%s is left, and nothing needs it", a.Key)
		}
	}
}

// TestBranchBesideACollection: what a branch is about to copy is deleted by its parent, which keeps no earlier states; it starts over with
// the new state.
func TestBranchBesideACollection(t *testing.T) {
	t.Parallel()
	bucket := mem.New(mem.Options{})
	from, to := store.Prefixed(bucket, "parent"), store.Prefixed(bucket, "branch")
	e := open(t, from, inLog, func(o *Options) { o.RestoreBudget = -1 })
	must(t, e, "CREATE TABLE t AS SELECT 1 AS a")
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	rewritten := false
	_, err := Branch(t.Context(), to, from, BranchOptions{Hook: func(ctx context.Context, p point.Point) error {
		if p != point.BaseBeforeSegment || rewritten {
			return nil
		}
		rewritten = true
		must(t, e, "UPDATE t SET a = 2")
		layer := e.commits.(*logMode).taken.layer
		e.commits.(*logMode).taken = layerMoment{} // the next layer shares nothing
		err := e.Compact(ctx)
		if _, gone := from.Get(ctx, layer.Segments()[0]); !errors.Is(gone, store.ErrNotFound) {
			t.Errorf("a segment is still there: %v", gone)
		}
		return err
	}})
	if err != nil || !rewritten {
		t.Fatalf("rewritten: %v, %v", rewritten, err)
	}
	branched := open(t, to, inLog)
	if got := must(t, branched, "SELECT a FROM t"); got != "2" {
		t.Errorf("%q", got)
	}
}

// TestBranchOfACutSegment: an object that is not as long as its index says holds no valid page.
func TestBranchOfACutSegment(t *testing.T) {
	t.Parallel()
	bucket := mem.New(mem.Options{})
	from, to := store.Prefixed(bucket, "parent"), store.Prefixed(bucket, "branch")
	e := open(t, from, inLog, func(o *Options) { o.RestoreBudget = -1 })
	must(t, e, "CREATE TABLE t AS SELECT 1 AS a")
	if err := e.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	cut := false
	_, err := Branch(t.Context(), to, from, BranchOptions{Hook: func(ctx context.Context, p point.Point) error {
		if p != point.BaseBeforeSegment || cut {
			return nil
		}
		cut = true
		for _, key := range e.commits.(*logMode).taken.layer.Segments() {
			o, err := from.Get(ctx, key)
			if err == nil {
				_, err = from.Put(ctx, key, o.Body[:len(o.Body)-1], "", store.Always())
			}
			if err != nil {
				return err
			}
		}
		return nil
	}})
	if !errors.Is(err, base.ErrCorrupt) || !cut {
		t.Errorf("it ended with %v", err)
	}
	if _, err := manifestOf(t, to); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("there is a manifest: %v", err)
	}
}

func manifestOf(t *testing.T, st store.Store) (manifest.Manifest, error) {
	t.Helper()
	m, _, err := manifest.Load(t.Context(), st)
	return m, err
}
