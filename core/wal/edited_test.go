package wal

import (
	"errors"
	"testing"

	"blobpglite/core/store/storetest"
)

// TestOwnRecordByItsBytes: a record of ours whose reply was lost is recognized by its contents, whatever became of its metadata, and so are
// its parts; another writer's is not taken for ours.
func TestOwnRecordByItsBytes(t *testing.T) {
	below, first := fill(t, 1)
	l := newLog(t, storetest.Forgetful(below), first.Tail(), 1)
	for _, size := range []int{10, 9 << 20} {
		if _, err := l.Append(t.Context(), []Op{{Kind: OpWrite, Path: segment, Data: randomBytes(newRandom(t), size)}}); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
	records, _, err := readAll(t, below, ReadOptions{From: Start(database), DatabaseID: database})
	if err != nil || len(records) != 3 {
		t.Errorf("%d records, %v", len(records), err)
	}
	other := newLog(t, storetest.Forgetful(below), first.Tail(), 1)
	if _, err := other.Append(t.Context(), nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another one's record at that name: %v", err)
	}
}
