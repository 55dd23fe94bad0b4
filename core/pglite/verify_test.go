package pglite

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"blobpglite/core/pglite/internal/assets"
)

// TestVerifyInstallation: faults that a start would not notice, or only on use, are found, and reported with what to do.
func TestVerifyInstallation(t *testing.T) {
	shared, dir := testRuntime(t), copyOfCache(t)
	verify := func() (Verified, error) {
		return VerifyInstallation(t.Context(), Options{CacheDir: dir, AssetsFrom: shared.assets.Dir})
	}
	before := listing(t, dir)
	v, err := verify()
	if err != nil || v.CacheDir != dir || v.Files < 40 || v.Compilations < 1 || v.Bytes < 30<<20 {
		t.Fatalf("%+v, %v", v, err)
	}
	if after := listing(t, dir); len(after) != len(before) {
		t.Errorf("it changed something: %v, %v", before, after)
	}
	derived := filepath.Join(dir, filepath.Base(shared.assets.Dir)+".derived")
	code := codeOf(t, dir)
	outline, err := shared.assets.ReadDerived(shared.outlineName())
	if err != nil {
		t.Fatal(err)
	}
	loan := filepath.Join(compiledIn(dir), loansDir, filepath.Base(shared.compilations.loanPath(outline)))
	for _, c := range []struct{ file, advice string }{
		{filepath.Join(derived, shared.wholeName(mainProgram)), "delete it, and it is made again"},
		{filepath.Join(derived, installationName()), "delete it, and it is made again"},
		{filepath.Join(derived, templateName()), "delete it, and it is made again"},
		{code, "delete it, and the module is compiled again"},
		{loan, "delete it, and it is made again"},
	} {
		whole := read(t, c.file)
		flipByte(t, c.file)
		if _, err := verify(); err == nil || !strings.Contains(err.Error(), c.file) || !strings.Contains(err.Error(), c.advice) {
			t.Errorf("a bit of %s: %v", filepath.Base(c.file), err)
		}
		if err := os.Remove(c.file); err != nil {
			t.Fatal(err)
		}
		if _, err := verify(); err == nil || !strings.Contains(err.Error(), filepath.Base(c.file)) {
			t.Errorf("without %s: %v", filepath.Base(c.file), err)
		}
		put(t, c.file, whole)
	}
	if again, err := verify(); err != nil || again != v {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := VerifyInstallation(context.Background(), Options{CacheDir: t.TempDir()}); !errors.Is(err, assets.ErrUnavailable) && os.Getenv("BLOBPGLITE_ASSETS") == "" {
		t.Errorf("an empty cache: %v", err)
	}
}
