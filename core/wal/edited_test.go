package wal

import (
	"context"
	"errors"
	"sync"
	"testing"

	"blobpglite/core/store"
)

// edited loses the reply of every first try to write a name, and the metadata beside it.
type edited struct {
	store.Store
	mu    sync.Mutex // parts are put several at once
	tried map[string]bool
}

func (e *edited) Put(ctx context.Context, key string, body []byte, _ string, cond store.Cond) (store.Gen, error) {
	gen, err := e.Store.Put(ctx, key, body, store.NewWriteID(), cond)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && !e.tried[key] {
		e.tried[key] = true
		return 0, &store.OpError{Op: "put", Key: key, Err: store.ErrUnknown}
	}
	return gen, err
}

// TestOwnRecordByItsBytes: a record of ours whose reply was lost is known by what it says, whatever became of its metadata,
// and its parts too; that of another writer is not taken for ours.
func TestOwnRecordByItsBytes(t *testing.T) {
	below, first := fill(t, 1)
	l := newLog(t, &edited{Store: below, tried: map[string]bool{}}, first.Tail(), 1)
	for _, size := range []int{10, 9 << 20} {
		if _, err := l.Append(t.Context(), []Op{{Kind: OpWrite, Path: segment, Data: randomBytes(newRandom(t), size)}}); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
	records, _, err := readAll(t, below, ReadOptions{From: Start(database), DatabaseID: database})
	if err != nil || len(records) != 3 {
		t.Errorf("%d records, %v", len(records), err)
	}
	other := newLog(t, &edited{Store: below, tried: map[string]bool{}}, first.Tail(), 1)
	if _, err := other.Append(t.Context(), nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another one's record at that name: %v", err)
	}
}
