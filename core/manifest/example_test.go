package manifest_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"blobpglite/core/manifest"
	"blobpglite/core/store"
	"blobpglite/core/store/mem"
)

// A writer of an older epoch cannot change a newer writer's manifest.
func ExampleUpdate() {
	ctx, st := context.Background(), mem.New(mem.Options{})
	set := func(epoch uint64, writer string) error {
		o := manifest.Options{Epoch: epoch, Writer: writer, Create: true}
		_, _, err := manifest.Update(ctx, st, o, func(m *manifest.Manifest) error {
			if m.DatabaseID == "" {
				m.DatabaseID, m.Postgres = store.NewWriteID(), "18.0"
			}
			return nil
		})
		return err
	}
	if err := errors.Join(set(1, "first"), set(2, "second")); err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(set(1, "first"), manifest.ErrFenced))
	m, _, err := manifest.Load(ctx, st)
	fmt.Println(m.Epoch, m.Writer, err)
	// Output:
	// true
	// 2 second <nil>
}
