package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"blobpglite/core/base"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/gcs"
	"blobpglite/core/takeover"
	"blobpglite/core/wal"
	"blobpglite/faults/gcsfront"
)

const verifyBucket = "verified"

// emulator makes the runner and the test use an emulator.
func emulator(t *testing.T) *gcs.Store {
	t.Helper()
	front, err := gcsfront.New(gcsfront.Options{Buckets: []string{verifyBucket}})
	if err != nil {
		t.Fatal(err)
	}
	base, stop, err := front.Serve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	t.Setenv("STORAGE_EMULATOR_HOST", base)
	st, err := gcs.Open(t.Context(), gcs.Options{Bucket: verifyBucket, Prefix: "db"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

// database makes one with a layer at record 3, a log up to record 7, whose record 5 has its body in parts.
func database(t *testing.T, st store.Store) {
	t.Helper()
	ctx := t.Context()
	o, err := takeover.Open(ctx, takeover.Options{Store: st, Writer: "w", Create: true, LeaseTTL: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	write := func(data []byte) {
		if _, err := o.Log.Append(ctx, []wal.Op{{Kind: wal.OpReplace, Path: "/f", Data: data}}); err != nil {
			t.Fatal(err)
		}
	}
	write([]byte("2"))
	write([]byte("3"))
	files := memfs.New(memfs.Options{})
	if err := files.WriteFile("/f", bytes.Repeat([]byte("layer"), 50_000), 0o600); err != nil {
		t.Fatal(err)
	}
	at := o.Log.Tail()
	key := fmt.Sprintf("base/%d-%d", o.Epoch, at.Seq)
	if _, _, err := base.Write(ctx, st, key, files, base.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := manifest.Publish(ctx, st, manifest.Options{Epoch: o.Epoch, Writer: "w"}, manifest.Layer{
		Key: key, Epoch: at.Epoch, Seq: at.Seq, Hash: hex.EncodeToString(at.Hash[:]),
	}); err != nil {
		t.Fatal(err)
	}
	write([]byte("4"))
	large := make([]byte, wal.MaxRecordBytes+1<<20)
	random := rand.New(rand.NewPCG(1, 1))
	for i := range large {
		large[i] = byte(random.Uint32())
	}
	write(large)
	write([]byte("6"))
	write([]byte("7"))
	if err := o.Lease.Release(ctx); err != nil {
		t.Fatal(err)
	}
}

// change replaces an object by f's result for it.
func change(t *testing.T, st store.Store, key string, f func([]byte) []byte) {
	t.Helper()
	o, err := st.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Put(t.Context(), key, f(o.Body), o.WriteID, store.Always()); err != nil {
		t.Fatal(err)
	}
}

// resealed changes a record and gives it a matching CRC: what is wrong then is not its bytes.
func resealed(f func([]byte)) func([]byte) []byte {
	return func(b []byte) []byte {
		f(b)
		end := len(b) - 4
		binary.LittleEndian.PutUint32(b[end:], crc32.Checksum(b[:end], crc32.MakeTable(crc32.Castagnoli)))
		return b
	}
}

func flip(b []byte) []byte { b[len(b)/2] ^= 1; return b }

// one is the key of the first object below a prefix.
func one(t *testing.T, st store.Store, prefix string) string {
	t.Helper()
	for a, err := range st.List(t.Context(), prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		return a.Key
	}
	t.Fatalf("nothing below %s", prefix)
	return ""
}

// inventory is the contents of a bucket.
func inventory(t *testing.T, st store.Store) []string {
	t.Helper()
	var all []string
	for a, err := range st.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s %d", a.Key, a.Gen))
	}
	return all
}

func TestVerifyASoundDatabase(t *testing.T) {
	st := emulator(t)
	if code, out, _ := command(t, "-verify", "gs://"+verifyBucket+"/db"); code != exitUsage || !strings.Contains(out, "no database") {
		t.Errorf("an empty prefix: %d, %s", code, out)
	}
	database(t, st)
	before := inventory(t, st)
	code, out, stderr := command(t, "-verify", "gs://"+verifyBucket+"/db")
	if code != exitPass {
		t.Fatalf("exit code %d\n%s%s", code, out, stderr)
	}
	for _, says := range []string{"records 4 to 7 are sound", "base/1-3", "sound     gs://verified/db, up to record 7"} {
		if !strings.Contains(out, says) {
			t.Errorf("it does not say %q:\n%s", says, out)
		}
	}
	if !slices.Equal(before, inventory(t, st)) {
		t.Error("the verification changed something")
	}
	for _, url := range []string{"s3://x", "gs://"} {
		if code, _, _ := command(t, "-verify", url); code != exitUsage {
			t.Errorf("%s: exit code %d", url, code)
		}
	}
}

func TestVerifyNamesEachDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, st store.Store)
		says   []string
	}{
		{"a broken CRC", func(t *testing.T, st store.Store) { change(t, st, wal.Key(6), flip) },
			[]string{"damaged", "record 6", "CRC32C", "records 4 to 5 are sound"}},
		{"a record cut short", func(t *testing.T, st store.Store) { change(t, st, wal.Key(6), func(b []byte) []byte { return b[:20] }) },
			[]string{"damaged", wal.Key(6), "not a record", "records 4 to 5 are sound"}},
		{"a broken chain", func(t *testing.T, st store.Store) { change(t, st, wal.Key(6), resealed(func(b []byte) { b[40] ^= 1 })) },
			[]string{"damaged", "record 6", "hash chain is broken", "records 4 to 5 are sound"}},
		{"a record that is another one", func(t *testing.T, st store.Store) {
			change(t, st, wal.Key(6), resealed(func(b []byte) { b[25] ^= 1 })) // its time: the record itself is fine
		}, []string{"damaged", "record 7", "hash chain is broken", "records 4 to 6 are sound"}},
		{"a missing number", func(t *testing.T, st store.Store) {
			if err := st.Delete(t.Context(), wal.Key(6)); err != nil {
				t.Fatal(err)
			}
		}, []string{"damaged", "record 6", "missing", "although record 7 exists"}},
		{"a record under another's number", func(t *testing.T, st store.Store) {
			o, err := st.Get(t.Context(), wal.Key(7))
			if err != nil {
				t.Fatal(err)
			}
			change(t, st, wal.Key(6), func([]byte) []byte { return o.Body })
		}, []string{"damaged", "record 6", "holds record 7"}},
		{"a newer version", func(t *testing.T, st store.Store) { change(t, st, wal.Key(6), resealed(func(b []byte) { b[4] = 9 })) },
			[]string{"newer", "record 6", "format 9"}},
		{"a foreign database", func(t *testing.T, st store.Store) { change(t, st, wal.Key(6), resealed(func(b []byte) { b[70] ^= 1 })) },
			[]string{"foreign", "record 6", "another database"}},
		{"a damaged part of a record", func(t *testing.T, st store.Store) { change(t, st, one(t, st, "part/"), flip) },
			[]string{"damaged", "record 5", "part/", "records 4 to 4 are sound"}},
		{"a missing part of a record", func(t *testing.T, st store.Store) {
			if err := st.Delete(t.Context(), one(t, st, "part/")); err != nil {
				t.Fatal(err)
			}
		}, []string{"damaged", "record 5", "part/"}},
		{"a damaged layer", func(t *testing.T, st store.Store) { change(t, st, base.SegmentKey("base/1-3", 0), flip) },
			[]string{"damaged", "base/1-3", "frame", "records 4 to 7 are sound"}},
		{"a damaged index", func(t *testing.T, st store.Store) { change(t, st, base.IndexKey("base/1-3"), flip) },
			[]string{"damaged", "base/1-3", "checksum", "records 4 to 7 are sound"}},
		{"a missing part of a layer", func(t *testing.T, st store.Store) {
			if err := st.Delete(t.Context(), base.SegmentKey("base/1-3", 0)); err != nil {
				t.Fatal(err)
			}
		}, []string{"damaged", "base/1-3", "gone"}},
		{"a damaged manifest", func(t *testing.T, st store.Store) {
			change(t, st, manifest.Key, func([]byte) []byte { return []byte("{}") })
		},
			[]string{"damaged", "manifest"}},
		{"a newer manifest", func(t *testing.T, st store.Store) {
			change(t, st, manifest.Key, func([]byte) []byte { return []byte(`{"format":9}`) })
		}, []string{"newer", "manifest", "upgrade"}},
		{"no manifest", func(t *testing.T, st store.Store) {
			if err := st.Delete(t.Context(), manifest.Key); err != nil {
				t.Fatal(err)
			}
		}, []string{"damaged", "no manifest", "wal/"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			st := emulator(t)
			database(t, st)
			c.damage(t, st)
			before := inventory(t, st)
			code, out, stderr := command(t, "-verify", "gs://"+verifyBucket+"/db")
			if code != exitFail {
				t.Errorf("exit code %d", code)
			}
			for _, says := range c.says {
				if !strings.Contains(out, says) {
					t.Errorf("it does not say %q:\n%s%s", says, out, stderr)
				}
			}
			if !slices.Equal(before, inventory(t, st)) {
				t.Error("the verification changed something")
			}
			if err := restore(t.Context(), st); err == nil {
				t.Error("a restore of it succeeded")
			}
			t.Logf("\n%s", out)
		})
	}
}

// restore does as an opening would: log, then layer.
func restore(ctx context.Context, st store.Store) error {
	o, err := takeover.Open(ctx, takeover.Options{Store: st, Writer: "next", AcquireTimeout: time.Second})
	if err != nil {
		return err
	}
	_, _, err = base.Read(ctx, st, o.Manifest.Layers[0].Key, memfs.New(memfs.Options{}), base.ReadOptions{})
	return err
}

// TestWhatIsNoDamage: what stops no one is sound, and mentioned if that is useful.
func TestWhatIsNoDamage(t *testing.T) {
	for name, c := range map[string]struct {
		key, body, says string
	}{
		"a damaged lease":             {lease.Key, "?", "lease is damaged"},
		"an object that is no record": {"wal/readme", "x", "sound"},
		"one that is no layer's":      {"base/1-1/readme", "x", "sound"},
	} {
		st := emulator(t)
		database(t, st)
		if _, err := st.Put(t.Context(), c.key, []byte(c.body), "", store.Always()); err != nil {
			t.Fatal(err)
		}
		code, out, stderr := command(t, "-verify", "gs://"+verifyBucket+"/db")
		if code != exitPass || !strings.Contains(out, c.says) {
			t.Errorf("%s: exit code %d\n%s%s", name, code, out, stderr)
		}
		if err := restore(t.Context(), st); err != nil {
			t.Errorf("%s: it does not open: %v", name, err)
		}
	}
}

// TestProtocolScenariosNeedNoPostgres: where there is no PGlite file and none can be fetched, scenarios that need none still run.
func TestProtocolScenariosNeedNoPostgres(t *testing.T) {
	t.Setenv("BLOBPGLITE_CACHE", t.TempDir())
	t.Setenv("BLOBPGLITE_ASSETS", t.TempDir())
	for _, probe := range []string{"e0.1", "e1.1"} {
		scenario, _, _ := strings.Cut(probe, ".")
		results := t.TempDir()
		code, out, stderr := command(t, "-scenario", scenario, "-probe", probe, "-profile", "ci", "-store", "mem", "-results", results)
		if code != exitPass || !strings.Contains(out, "pass") {
			t.Errorf("%s: exit code %d\n%s%s", probe, code, out, stderr)
		}
	}
	if code, _, _ := command(t, "-scenario", "e2", "-probe", "e2.3", "-profile", "ci", "-store", "mem", "-results", t.TempDir()); code != exitFail {
		t.Errorf("what needs PostgreSQL ran without: exit code %d: the test shows nothing", code)
	}
}
