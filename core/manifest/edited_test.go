package manifest

import (
	"context"
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// edited loses the reply of every first try of a swap, and the metadata beside the object.
type edited struct {
	store.Store
	tried map[string]bool
}

func (e *edited) Put(ctx context.Context, key string, body []byte, id string, cond store.Cond) (store.Gen, error) {
	gen, err := e.Store.Put(ctx, key, body, store.NewWriteID(), cond)
	if err == nil && !e.tried[id] {
		e.tried[id] = true
		return 0, &store.OpError{Op: "put", Key: key, Err: store.ErrUnknown}
	}
	return gen, err
}

// TestOwnManifestByItsBytes: a swap of ours whose reply was lost is known by what the manifest says, whatever became of its
// metadata: it is not done again.
func TestOwnManifestByItsBytes(t *testing.T) {
	st := &edited{Store: mem.New(mem.Options{}), tried: map[string]bool{}}
	o := Options{Epoch: 1, Writer: "w", Create: true, Clock: clock.NewVirtual(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
	for n := range uint64(2) {
		changes := 0
		m, gen, err := Update(t.Context(), st, o, func(m *Manifest) error {
			changes++
			m.DatabaseID, m.Commits = "db", m.Commits+1
			return nil
		})
		if err != nil || changes != 1 || m.Commits != n+1 {
			t.Fatalf("%d changes, %d commits, %v", changes, m.Commits, err)
		}
		if now, at, err := Load(t.Context(), st); err != nil || at != gen || now.WriteID != m.WriteID {
			t.Errorf("%+v, generation %d, want %d; %v", now, at, gen, err)
		}
	}
}
