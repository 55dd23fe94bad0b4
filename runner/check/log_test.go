package check

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"blobpglite/core/store"
	"blobpglite/core/store/mem"
	"blobpglite/core/wal"
)

// bucket makes a log as the engine does: a fence, records, another writer's fence, its records. The test first shows that this package's
// own decoding can read it.
func bucket(t *testing.T) []Object {
	t.Helper()
	st := mem.New(mem.Options{})
	open := func(tail wal.Position, epoch uint64) *wal.Log {
		l, err := wal.NewLog(st, tail, wal.Options{Epoch: epoch, DatabaseID: "db", Writer: fmt.Sprint("w", epoch)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Fence(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if _, err := l.Append(t.Context(), []wal.Op{{Kind: wal.OpWrite, Path: "/pg_wal/000000010000000000000001", Offset: int64(i), Data: []byte("x")}}); err != nil {
				t.Fatal(err)
			}
		}
		return l
	}
	open(open(wal.Start("db"), 1).Tail(), 2)
	objects := []Object{
		{Key: "manifest", Body: []byte(`{"database_id":"db","wal_start":1,"layers":[{"key":"base/x","seq":0}]}`)},
		{Key: "base/x/index"},
	}
	for a, err := range st.List(t.Context(), "wal/", "") {
		if err != nil {
			t.Fatal(err)
		}
		o, err := st.Get(t.Context(), a.Key)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, Object{Key: a.Key, Body: o.Body})
	}
	return objects
}

func TestLogInvariants(t *testing.T) {
	t.Parallel()
	whole := bucket(t)
	expect(t, "as written", Log(whole), "")
	find := func(list []Object, key string) int {
		return slices.IndexFunc(list, func(o Object) bool { return strings.HasSuffix(o.Key, key) })
	}
	for name, c := range map[string]struct {
		change func([]Object) []Object
		want   string
	}{
		"a hole":                   {func(l []Object) []Object { i := find(l, "3"); return slices.Delete(l, i, i+1) }, "there is a hole"},
		"the start is gone":        {func(l []Object) []Object { i := find(l, "0001"); return slices.Delete(l, i, i+1) }, "the log begins at 2"},
		"no manifest":              {func(l []Object) []Object { return l[1:] }, "no manifest"},
		"a layer without an index": {func(l []Object) []Object { return slices.Delete(l, 1, 2) }, "has no index"},
		"a flipped bit": {func(l []Object) []Object {
			i := find(l, "0002")
			l[i].Body = slices.Clone(l[i].Body)
			l[i].Body[70] ^= 1
			return l
		}, "checksum does not fit"},
		"swapped names": {func(l []Object) []Object {
			a, b := find(l, "0002"), find(l, "0003")
			l[a].Body, l[b].Body = l[b].Body, l[a].Body
			return l
		}, "holds record"},
		"collected below the start": {func(l []Object) []Object {
			l[0].Body = []byte(`{"wal_start":5}`)
			i := find(l, "0003")
			return slices.Delete(l, i, i+1)
		}, ""},
	} {
		expect(t, name, Log(c.change(slices.Clone(whole))), c.want)
	}
}

// TestZombieCommitIsSeen: a record of the old epoch after the new one's fence.
func TestZombieCommitIsSeen(t *testing.T) {
	t.Parallel()
	st := mem.New(mem.Options{})
	append1 := func(tail wal.Position, epoch uint64, fence bool) wal.Position {
		l, err := wal.NewLog(st, tail, wal.Options{Epoch: epoch, DatabaseID: "db", Writer: "w"})
		if err != nil {
			t.Fatal(err)
		}
		if fence {
			_, err = l.Fence(t.Context())
		} else {
			_, err = l.Append(t.Context(), []wal.Op{{Kind: wal.OpWrite, Path: "/pg_wal/x", Data: []byte("x")}})
		}
		if err != nil {
			t.Fatal(err)
		}
		return l.Tail()
	}
	at := append1(wal.Start("db"), 1, true)
	at = append1(at, 2, true)
	at = append1(at, 1, false)
	append1(at, 2, true)
	objects := []Object{{Key: "manifest", Body: []byte(`{"wal_start":1}`)}}
	for seq := range uint64(4) {
		o, err := st.Get(t.Context(), wal.Key(seq+1))
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, Object{Key: o.Key, Body: o.Body})
	}
	expect(t, "a zombie's commit", Log(objects), "has won a commit")
	objects = slices.Delete(objects, 3, 4)
	expect(t, "a hole", Log(objects), "hole")
	expect(t, "an epoch used twice", chained([]record{{seq: 1, epoch: 1, fence: true}, {seq: 2, epoch: 1, fence: true}}, manifestStart{WalStart: 1}), "the fence at 2 has epoch 1")
}

func TestWriteOnce(t *testing.T) {
	t.Parallel()
	fence, id := wal.FenceID+"1", store.NewWriteID()
	for name, c := range map[string]struct {
		changes []Change
		want    string
	}{
		"created":                        {[]Change{{Key: "wal/1", WriteID: id}, {Key: "wal/2", WriteID: fence}, {Key: "wal/1", Delete: true}}, ""},
		"refused":                        {[]Change{{Key: "wal/1", WriteID: id}, {Key: "wal/1", WriteID: "other", Status: 412}}, ""},
		"written over":                   {[]Change{{Key: "wal/1", WriteID: id}, {Key: "wal/1", WriteID: "other"}}, "written twice"},
		"a fence deleted":                {[]Change{{Key: "wal/1", WriteID: fence}, {Key: "wal/1", Delete: true}}, "it is a fence"},
		"a record in a collected place":  {[]Change{{Key: "wal/1", WriteID: id}, {Key: "wal/1", Delete: true}, {Key: "wal/1", WriteID: "other"}}, "created in its place"},
		"a late fence in its place":      {[]Change{{Key: "wal/1", WriteID: id}, {Key: "wal/1", Delete: true}, {Key: "wal/1", WriteID: fence}}, ""},
		"a late fence's own place, kept": {[]Change{{Key: "wal/1", WriteID: id}, {Key: "wal/1", Delete: true}, {Key: "wal/1", WriteID: fence}, {Key: "wal/1", Delete: true}}, "it is a fence"},
	} {
		expect(t, name, WriteOnce(c.changes), c.want)
	}
}
