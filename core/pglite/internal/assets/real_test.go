package assets

import (
	"errors"
	"path"
	"slices"
	"testing"
)

// TestRealPackage uses the package itself: from the cache, or fetched by npm.
func TestRealPackage(t *testing.T) {
	set, err := Ensure(t.Context(), Options{Progress: func(step string, done, total int64) { t.Log(step, done, total) }})
	if err != nil {
		t.Fatal(err)
	}
	files, err := set.Files()
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != 699 {
		t.Errorf("%d files, want 699", len(files))
	}
	dirs, err := set.Dirs()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains(dirs, path.Dir(f.Path)) && path.Dir(f.Path) != "/" {
			t.Errorf("%s lies in a folder that is not listed", f.Path)
		}
		if want := path.Dir(f.Path) == "/pglite/bin"; f.Executable != want {
			t.Errorf("%s: executable %v", f.Path, f.Executable)
		}
	}
	if got := set.Extensions(); len(got) != 37 || !slices.Contains(got, "pg_trgm") {
		t.Errorf("extensions %q, want 37 with pg_trgm", got)
	}
	for _, name := range set.Extensions() {
		more, err := set.ExtensionFiles(name)
		if err != nil {
			t.Fatal(err)
		}
		lib := slices.IndexFunc(more, func(f File) bool { return path.Dir(f.Path) == "/pglite/lib/postgresql" && path.Ext(f.Path) == ".so" })
		if lib < 0 || !more[lib].Executable {
			t.Errorf("%s holds no executable side module", name)
		}
	}
}

func BenchmarkEnsureCached(b *testing.B) {
	for b.Loop() {
		if _, err := Ensure(b.Context(), Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

// TestRealPgDump fetches the package that holds pg_dump, by npm if the cache has none.
func TestRealPgDump(t *testing.T) {
	set, err := Ensure(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	file, version, err := set.PgDumpWasm(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if version != toolsPin().Version || toolsPin().verify(path.Dir(file)) != nil {
		t.Errorf("%s of version %s", file, version)
	}
}

// TestRealOtherWasm fetches another version's pglite.wasm, by npm if the cache has none.
func TestRealOtherWasm(t *testing.T) {
	set, err := Ensure(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	file, err := set.OtherWasm(t.Context(), "0.5.17")
	if err != nil || file == set.PGliteWasm() {
		t.Errorf("%s, %v", file, err)
	}
	if same, err := set.OtherWasm(t.Context(), set.Version()); err != nil || same != set.PGliteWasm() {
		t.Errorf("its own version: %s, %v", same, err)
	}
	if _, err := set.OtherWasm(t.Context(), "0.4.0"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a version that is not pinned: %v", err)
	}
}
