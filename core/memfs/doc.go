// Package memfs is a file tree in memory with POSIX behavior: a database's data directory lives in it while the database runs. Files are
// tables of 8 KiB chunks, so a page write touches one chunk, a hole costs nothing, and a clone of the whole tree shares every chunk until
// one side writes it.
//
//	fs := memfs.New(memfs.Options{MaxBytes: 1 << 30})
//	f, err := fs.Open("/base/1/1259", os.O_RDWR|os.O_CREATE, 0o600)
//	f.WriteAt(page, 8192)
//	snapshot := fs.Clone() // read it from another goroutine while fs changes
//	mark := fs.Mark()      // later: snapshot.ChangedSince("/base/1/1259", mark)
//
// How a file is kept, and what a clone shares:
//
//	inode (one per side) ──► table: [slot 0][slot 1][slot 2] …      shared until a side writes a slot
//	                                  │       nil      │
//	                                  ▼      (hole)    ▼
//	                               chunk, gen 7      chunk, gen 9   shared until a side writes the chunk
//
// Every slot carries the generation in which it was last written. Generations come from one counter that a tree and all its clones share.
// Clone gives both sides a new one; a slot older than its side's is shared, and copied before it is written. A Mark is a generation too,
// which is how ChangedSince knows what was written after it.
//
// A chunk may be away: its bytes are not in memory, but where the file's Origin says. The tree does not fetch them itself: an operation
// that needs them fails with an AwayError, which names them, and works once they have been put in place (File.Fill; FS.Bring does both).
// Evict makes chunks away again that the origin has unchanged. For generations, an arrival is not a write.
//
//	missing := f.Missing(off, n)          // under the owner's lock
//	got, err := memfs.Get(ctx, source, missing) // without it
//	f.Fill(missing, got)                  // under it: only what is still away, and still there
//
// A file may be installed with a Content: its bytes are read when the file is first opened, in any tree, and shared by all.
//
// Ownership: an FS and its Files belong to one goroutine at a time; there are no locks. Two clones are two owners and need no coordination.
// Permissions are recorded, not enforced. Nothing here is durable: a crash of the process loses the tree; opening a clone models a crash of
// the database.
package memfs
