package file_test

import (
	"testing"

	"go.uber.org/goleak"

	"blobpglite/core/store"
	"blobpglite/core/store/file"
	"blobpglite/core/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string) *file.Store {
	t.Helper()
	s, err := file.Open(t.Context(), file.Options{Dir: dir, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, t.TempDir()+"/db") })
}
