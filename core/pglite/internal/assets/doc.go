// Package assets brings the PGlite files (PostgreSQL as WebAssembly, its file
// tree and its contrib extensions) onto this machine and keeps what is made from
// them.
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
// Every file is pinned by size and SHA-256 (pins.go), the tarball of the package
// by its SHA-512. They are hashed when they are fetched, when something is made of
// one ([Set.Original]) and by [Set.Verify]; [Ensure], which every start calls, looks
// at sizes. So a file that was cut short is an error that names it at the next
// start, and one that was changed in place when it is used: nothing is made of it.
// Files and folders come into place by rename after fsync: a crash leaves nothing or
// the whole. A derived artefact is made again if it does not have the size that it
// was made with ([Set.Derived]), or the bytes ([Set.DerivedWhole]); a file of which
// only the size is checked holds a checksum that its reader checks. There is one maker
// at a time over all processes, by a file lock that the operating system drops when its
// holder dies. A cache that holds everything may be read-only.
//
// Not covered: somebody who may write in the cache folder and exchanges a derived
// artefact together with its sum, or a file between its check and its use.
package assets
