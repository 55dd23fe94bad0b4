// Package blobpglite is a PostgreSQL 18 inside a Go program whose only durable home is one prefix of a Cloud Storage bucket, or a
// folder. There is no server to run: a program opens the database, uses it through database/sql or pgx, and closes it.
//
//	db, err := blobpglite.Open(ctx, "gs://my-bucket/my-database")
//	if err != nil { ... }
//	defer db.Close(context.WithoutCancel(ctx))
//	_, err = db.SQL().ExecContext(ctx, "INSERT INTO note (text) VALUES ($1)", "kept") // nil: it is in the bucket
//
// # Where a database is
//
//	gs://name/prefix    a prefix of a bucket: its own, with nothing else below it
//	file:///folder      a folder of a local file system with hard links and locks; made if it is not there
//	mem:                memory: a new database for each Open, gone with Close; for tests
//
// # Who may write
//
// One DB at a time. The writer holds a lease in the bucket; a second Open of the same place waits for it (Options.AcquireTimeout) and
// then fails with a *LockedError, which names the holder. A writer that dies without Close keeps others out until its lease has run out
// (Options.LeaseTTL). One that is taken over, however long it was frozen, cannot commit any more: its statements fail with
// ErrTakenOver, and the next connection opens the database again.
//
// # What nil means
//
// With Strict, the default, a COMMIT that returned nil is in the bucket: one small PUT, some 45 ms, which all who commit meanwhile
// share. Interval and Sleep answer from memory, and say in their documentation what a crash may lose. An error that is ErrUnknown
// means that nobody knows whether the commit is durable: read before trying again.
//
// # Connections
//
// Each connection is a PostgreSQL process of its own, of about 3 MB, with its own settings, locks and temporary tables. All processes
// share one processor. SQL and Pool use the same pool of up to Options.MaxConns connections; Dial opens further ones, for other
// clients of the wire protocol. No password is asked for: code that has the DB may connect as any role.
//
// # Costs
//
// The first Open on a machine fetches PGlite by npm (pinned, hash-checked; or see BLOBPGLITE_ASSETS) and compiles it, which takes
// about a minute; the result is kept in the user's cache directory, or in BLOBPGLITE_CACHE. After that, loading takes a quarter of a
// second; a program that opens several databases loads it once for all of them (NewRuntime). A program with one idle database takes
// about 170 MB, and up to Options.Cache more for the database's files. An idle database sends no requests to the bucket.
package blobpglite
