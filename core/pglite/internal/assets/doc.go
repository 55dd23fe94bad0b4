// Package assets brings the PGlite files (PostgreSQL as WebAssembly, its file tree and its contrib extensions) onto this
// machine and keeps what is made from them.
//
//	set, err := assets.Ensure(ctx, assets.Options{})   // npm, once per machine
//	wasm := set.PGliteWasm()                           // path of pglite.wasm
//	files, err := set.Files()                          // /pglite/share/..., /pglite/lib/...
//	more, err := set.ExtensionFiles("pg_trgm")
//	dump, version, err := set.PgDumpWasm(ctx)          // of a package of its own
//	path, err := set.Derived(ctx, "main-v1.wasm", build)
//	verified, err := set.Verify()                      // hashes all of it
//
// The cache folder ($BLOBPGLITE_CACHE, or blobpglite in the user's cache folder):
//
//	pglite-0.5.16-a1b2c3d4e5f6/           one folder per package pin: whole, or absent
//	    pglite.wasm  pglite.data  pglite.js  initdb.wasm  amcheck.tar.gz ...
//	pglite-0.5.16-a1b2c3d4e5f6.derived/
//	    NAME                              made from the files by this program
//	    NAME.sum                          size and SHA-256 of NAME
//	X.lock  X.tmp  X.log                  of the maker of X: lock, work, npm's words
//
// # Faults
//
// Every file is pinned by size and SHA-256 (pins.go), the package's tarball by its SHA-512. They are hashed when they are
// fetched, when something is made from one ([Set.Original]) and by [Set.Verify]; [Ensure], which every start calls,
// checks sizes. So the next start fails on a truncated file and names it, and a file that was changed in place fails when
// it is used: nothing is made from it. Files and folders are put in place by rename after fsync: a crash leaves nothing
// or the whole. A derived artifact is made again if its size ([Set.Derived]) or its bytes ([Set.DerivedWhole]) differ
// from what was written; a file whose size alone is checked holds a checksum that its reader checks. There is one maker
// at a time across all processes, by a file lock that the operating system releases when its holder dies. A complete
// cache may be read-only.
//
// Not covered: an attacker with write access to the cache folder who exchanges a derived artifact together with its sum,
// or a file between its check and its use.
package assets
