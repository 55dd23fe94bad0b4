package assets

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// published returns the extensions that PGlite's makers publish as npm packages of their own, by the name that CREATE
// EXTENSION takes. Left out: postgis (its libraries need more of the host than others) and pg_textsearch (it must be
// preloaded).
func published() map[string]pin {
	one := func(pkg, version, integrity, file string, size int64, sum string) pin {
		return pin{
			Package: "@electric-sql/pglite-" + pkg, Version: version, Folder: "extension-" + pkg, Integrity: integrity, Inside: "package/dist/",
			Files: []pinnedFile{{file + extensionSuffix, size, sum}},
		}
	}
	return map[string]pin{
		"vector": one("pgvector", "0.0.15", "t022ZzaH95MD+FFY+1f1gw8NqSEot3ZW7XM8jNQnEJDcWN+dUaosS/CKqJHFCopGUSE4cwsc18ucbx5trd3jtQ==",
			"vector", 50919, "770cd826597c693a8ae5688b6b7beb0df5a593a1f482e48b84673954cbd69c13"),
		"age": one("age", "0.0.15", "Nd9UQNgeiRE+ZCj7VbQT32hsYNWBHbJfLM5jQtvA7adgkmdrwEqI2a+YPok1oNgujMltukvq61jY2J9/b7Vx/Q==",
			"age", 141550, "07802702d313f4d690f058328ce85bfe6fc8110bae5821635bdf6a4a620bfe06"),
		"pg_ivm": one("pg_ivm", "0.0.15", "7aJF88cFxrWEtfuscYvjorvc6/HZOQ1IwUd2gL8hLDfB8meOzHVf6Rg4x0G3fc/k1tORz8Tr6IkCs3Ny3x9DZw==",
			"pg_ivm", 27357, "755b58ee42a9eed1c28b4c60b46665b8696b203e17d32b28cd502a8052bc8a78"),
		"pg_uuidv7": one("pg_uuidv7", "0.0.15", "DLDc1tBTABYedI4XU9zagkaNKlyFL95Al5y00dda8HiGcK4D8SwHxYdSmzAWNEI0p3eWkWk1t9hp78ox6Q+8Ng==",
			"pg_uuidv7", 1483, "bb301748c125863505aad7cde53f5fd1b16497934461c1f4dfe21bae7c0ffc4c"),
		"pgtap": one("pgtap", "0.0.15", "WWyw8E/V69RbkEpWBAsZX/Jd9GnTLu7p4mNy54fAsjcmJ5NX3xYm4S8YOKGEcOEAQnaGb+gixPQq/2SO3rT3DQ==",
			"pgtap", 241183, "1f221b4d7c59f58bb49d9d84c884c82cddc5389d75fc1d2db855a408774daf36"),
		"pg_hashids": one("pg_hashids", "0.0.15", "yhlwMi2uAxKMv8yn/lQdJhl9DWJlgcemmipp5iwNjw3O4fZTFpYYdZ9mJz77LCHm4w7h28UfrsEYnE4KIlpARA==",
			"pg_hashids", 3999, "3d90da8586395c5afb2153db1a452a90e749f5ee284737ffdb8a253b55067f79"),
	}
}

// Published returns the names of the extensions for PublishedFiles, sorted.
func Published() []string {
	var names []string
	for name := range published() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// PublishedFiles returns the files of an extension that is published as a package of its own, to be added to those of
// [Set.Files]. They are fetched into the cache by npm if need be, and hash-checked. A folder of files ([Options.From]) is
// searched for the extension's archive first. Errors are those of [Ensure].
func (s *Set) PublishedFiles(ctx context.Context, name string) ([]File, error) {
	p, ok := published()[name]
	if !ok {
		return nil, fmt.Errorf("there is no extension %q; bundled are %s; published as packages are %s",
			name, strings.Join(s.Extensions(), ", "), strings.Join(Published(), ", "))
	}
	dir, err := s.other(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("extension %s: %w", name, err)
	}
	file := filepath.Join(dir, p.Files[0].Name)
	archive, err := os.ReadFile(file) // already hashed by other
	if err != nil {
		return nil, fmt.Errorf("extension %s: %w", name, err)
	}
	return readExtension(name, file, archive)
}

// toolsPin is the package that holds pg_dump.
func toolsPin() pin {
	return pin{
		Package: "@electric-sql/pglite-tools", Version: "0.4.8", Folder: "tools", Inside: "package/dist/",
		Integrity: "WjgS8US6xfuE0wLYn5m9WrZ/+8dQWoQuQSRkpe7eYcxxx1UjZjvq30rpYSHfGrGtTke/zNiCd9ijVGeRUD8ukg==",
		Files:     []pinnedFile{{"pg_dump.wasm", 701466, "cdbc551ec339cc9867003203bc8f03911858be2be92b3e88376922b09ccdf58c"}},
	}
}

// PgDumpWasm returns the path of pg_dump.wasm and the version of the package of its own that holds it. The file is
// fetched into the cache by npm if need be, and hash-checked. A folder of files ([Options.From]) is searched for it
// first. Errors are those of [Ensure].
func (s *Set) PgDumpWasm(ctx context.Context) (path, version string, err error) {
	p := toolsPin()
	dir, err := s.other(ctx, p)
	if err != nil {
		return "", "", fmt.Errorf("pg_dump: %w", err)
	}
	return filepath.Join(dir, p.Files[0].Name), p.Version, nil
}

// wasmPin is the pglite.wasm of a version other than the one in use.
func wasmPin(version string) (pin, bool) {
	others := map[string]pin{"0.5.17": {
		Integrity: "8SvKjiUjaU+0O0dbxjOfN+jXz14TEqDWbwDkYOW1aQ11y/ph2JvFVI27ABBo5nfw+ZfSqy4hKCNlbnbB1TDE+g==",
		Files:     []pinnedFile{{mainWasm, 9118807, "2a5dccbcdf80f54ef9c6333732251e176ffbcbdba59d63c01501263611a053ea"}},
	}}
	p, ok := others[version]
	p.Package, p.Version, p.Folder, p.Inside = "@electric-sql/pglite", version, "wasm", "package/dist/"
	return p, ok
}

// OtherWasm returns the path of the pglite.wasm of another version, for comparing versions. It is fetched into the cache
// by npm if need be, and hash-checked. Errors are those of [Ensure].
func (s *Set) OtherWasm(ctx context.Context, version string) (path string, err error) {
	if version == s.Version() {
		return s.PGliteWasm(), nil
	}
	p, ok := wasmPin(version)
	if !ok {
		return "", fmt.Errorf("the pglite.wasm of version %q: %w: it is not pinned", version, ErrUnavailable)
	}
	dir, err := s.other(ctx, p)
	if err != nil {
		return "", fmt.Errorf("the pglite.wasm of version %s: %w", version, err)
	}
	return filepath.Join(dir, mainWasm), nil
}

// other returns the folder that holds the files of a package other than PGlite's own.
func (s *Set) other(ctx context.Context, p pin) (string, error) {
	if p.verify(s.Dir) == nil {
		return s.Dir, nil
	}
	dir := filepath.Join(s.cache.dir, p.folder())
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := s.cache.fetch(ctx, p); err != nil {
			return "", err
		}
	}
	if err := p.verify(dir); err != nil {
		return "", fmt.Errorf("%w; delete the folder %s and run again", err, dir)
	}
	return dir, nil
}
