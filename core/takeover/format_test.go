package takeover

import (
	"encoding/json"
	"os"
	"testing"

	"blobpglite/core/base"
	"blobpglite/core/gc"
	"blobpglite/core/lease"
	"blobpglite/core/manifest"
	"blobpglite/core/memfs"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

// fixture is a database that an earlier version left: two lives, two layers, of which only the indexes are in the file.
func fixture(t *testing.T, name string) store.Store {
	t.Helper()
	body, err := os.ReadFile(name)
	var objects map[string][]byte
	if err == nil {
		err = json.Unmarshal(body, &objects)
	}
	if err != nil {
		t.Fatal(err)
	}
	st := mem.New(mem.Options{})
	for key, body := range objects {
		if _, err := st.Put(t.Context(), key, body, "", store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	return st
}

// TestFormat1 opens a database of the versions before manifest format 2, and continues it. A writer that does not set a retention drops
// none of its history.
func TestFormat1(t *testing.T) {
	t.Parallel()
	st := fixture(t, "testdata/format1.json")
	if r, err := Verify(t.Context(), st); err != nil || r.From != 2 || r.To != 9 || r.Fences != 1 || r.Epoch != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	o := mustOpen(t, st, "new version")
	if o.Created || o.Epoch != 3 || len(o.Records) != 1 || o.Records[0].Seq != 9 || o.Manifest.Layers[1].Seq != 8 {
		t.Fatalf("%+v", o)
	}
	if err := appendID(t, o, "more"); err != nil {
		t.Fatal(err)
	}
	at := o.Log.Tail()
	key := base.Key(o.Epoch, at.Seq)
	if _, _, err := base.Write(t.Context(), st, key, memfs.New(memfs.Options{}), base.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	m, err := manifest.Publish(t.Context(), st, manifest.Options{Epoch: o.Epoch, Writer: "w"}, manifest.Layer{Key: key, Epoch: at.Epoch, Seq: at.Seq})
	if err != nil || m.Layers[0].Seq != 1 || m.WalStart != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, err := gc.Collect(t.Context(), gc.Options{Store: st, Epoch: o.Epoch, Writer: "w"}); err != nil {
		t.Fatal(err)
	}
	for seq := uint64(2); seq < 8; seq++ {
		if _, err := ReadAt(t.Context(), st, RecoveryTarget{Seq: seq}, 1); err != nil {
			t.Errorf("the state after record %d: %v", seq, err)
		}
	}
	if _, err := wal.Read(t.Context(), st, wal.ReadOptions{From: wal.Position{Seq: 1}, DatabaseID: m.DatabaseID}, func(wal.Record) error { return nil }); err != nil {
		t.Error(err)
	}
	l, err := st.Get(t.Context(), lease.Key)
	if err == nil {
		_, err = lease.Decode(l.Body)
	}
	if err != nil {
		t.Error(err)
	}
}
