package manifest

import (
	"testing"
	"time"

	"blobpglite/core/clock"
	"blobpglite/core/store/mem"
	"blobpglite/core/store/storetest"
)

// TestOwnManifestByItsBytes: a swap of ours whose reply was lost is recognized by the manifest's content, whatever happened to its
// metadata: it is not repeated.
func TestOwnManifestByItsBytes(t *testing.T) {
	t.Parallel()
	st := storetest.Forgetful(mem.New(mem.Options{}))
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
