package takeover

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

// unchecked are the fields of a manifest that nothing else in the bucket could contradict: those for people, a person's decisions, the
// epoch (a wrong one is corrected by the next opening, which takes one above this and the log's), and that of the oldest layer's record,
// which is deleted.
var unchecked = []string{"epoch", "epoch of a layer", "postgres", "pglite_sha256", "commits", "retain_seconds", "writer", "write_id", "updated", "taken"}

// differences are the fields in which two manifests differ, those of a layer with its number.
func differences(a, b manifest.Manifest) (fields []string) {
	add := func(name string, differs bool) {
		if differs {
			fields = append(fields, name)
		}
	}
	add("format", a.Format != b.Format)
	add("database_id", a.DatabaseID != b.DatabaseID)
	add("epoch", a.Epoch != b.Epoch)
	add("wal_start", a.WalStart != b.WalStart)
	add("postgres", a.Postgres != b.Postgres)
	add("pglite_sha256", a.PGliteSHA256 != b.PGliteSHA256)
	add("commits", a.Commits != b.Commits)
	add("retain_seconds", a.RetainSeconds != b.RetainSeconds)
	add("writer", a.Writer != b.Writer)
	add("write_id", a.WriteID != b.WriteID)
	add("updated", !a.Updated.Equal(b.Updated))
	for i := range a.Layers {
		x, y := a.Layers[i], b.Layers[i]
		add("key", x.Key != y.Key)
		add("epoch of a layer", x.Epoch != y.Epoch)
		add("seq", x.Seq != y.Seq)
		add("hash", !strings.EqualFold(x.Hash, y.Hash))
		add("raw_bytes", x.RawBytes != y.RawBytes)
		add("stored_bytes", x.StoredBytes != y.StoredBytes)
		add("taken", !x.Taken.Equal(y.Taken))
		add("segments", x.Segments != y.Segments)
	}
	return fields
}

// TestEachBitOfTheManifest: if any bit of it is flipped, it is no longer a manifest, or a verification finds the contradiction, or the bit
// is in a field that nothing depends on.
func TestEachBitOfTheManifest(t *testing.T) {
	t.Parallel()
	st, clk := mem.New(mem.Options{}), clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	o := mustOpen(t, st, "w", func(o *Options) { o.Clock = skipping{clk} })
	for i := range 3 {
		if err := appendID(t, o, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		clk.Advance(5 * time.Hour)
		keepLayer(t, st, o, fmt.Sprint(i), clk)
	}
	if err := appendID(t, o, "behind"); err != nil {
		t.Fatal(err)
	}
	good, err := st.Get(t.Context(), manifest.Key)
	if err != nil {
		t.Fatal(err)
	}
	right, err := manifest.Decode(good.Body)
	if err != nil || len(right.Layers) != 3 {
		t.Fatalf("%+v, %v", right, err)
	}
	put := func(body []byte) {
		if _, err := st.Put(t.Context(), manifest.Key, body, "", store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	refused, told, untold := 0, map[string]int{}, map[string]int{}
	for at := range good.Body {
		for bit := range 8 {
			body := slices.Clone(good.Body)
			body[at] ^= 1 << bit
			wrong, err := manifest.Decode(body)
			if err != nil {
				if !errors.Is(err, manifest.ErrCorrupt) && !errors.Is(err, manifest.ErrNewer) {
					t.Errorf("bit %d of byte %d: %v", bit, at, err)
				}
				refused++
				continue
			}
			fields := differences(right, wrong)
			if len(fields) == 0 {
				continue // a digit of a hash in capitals
			}
			put(body)
			_, err = VerifyWith(t.Context(), st, VerifyOptions{Deep: true})
			for _, f := range fields {
				if err == nil {
					untold[f]++
				} else {
					told[f]++
				}
			}
			if err == nil && !slices.Contains(unchecked, fields[0]) {
				t.Errorf("bit %d of byte %d: %q is another, and nothing tells", bit, at, fields)
			}
			if err != nil && !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, wal.ErrForeign) {
				t.Errorf("bit %d of byte %d: %v", bit, at, err)
			}
		}
	}
	t.Logf("%d of %d bits make it no manifest; told %v, not told %v", refused, 8*len(good.Body), told, untold)
	for _, f := range []string{"database_id", "wal_start", "key", "seq", "hash", "raw_bytes", "stored_bytes", "segments"} {
		if told[f] == 0 {
			t.Errorf("no bit made %s another: told are %q", f, slices.Sorted(maps.Keys(told)))
		}
	}
	put(good.Body)
	if _, err := VerifyWith(t.Context(), st, VerifyOptions{Deep: true}); err != nil {
		t.Error(err)
	}
}
