// Package blobpglite embeds PostgreSQL 18 in a Go program. The database's only durable home is one prefix of a Cloud Storage bucket, or a
// folder. There is no server to run: a program opens the database, uses it through database/sql or pgx, and closes it.
//
//	db, err := blobpglite.Open(ctx, "gs://my-bucket/my-database")
//	if err != nil { ... }
//	defer db.Close(context.WithoutCancel(ctx))
//	_, err = db.SQL().ExecContext(ctx, "INSERT INTO note (text) VALUES ($1)", "kept") // nil: it is in the bucket
//
// # Where a database is
//
//	gs://name/prefix    a prefix of a bucket, with nothing else below it
//	file:///folder      a folder of a local file system with hard links and locks; created if missing
//	mem:                memory: a new database for each Open, gone after Close; for tests
//
// # Who may write
//
// One DB at a time. The writer holds a lease in the bucket. A second Open of the same place waits for it (Options.AcquireTimeout), then
// fails with a *LockedError, which names the holder. A writer that dies without Close keeps others out until its lease expires
// (Options.LeaseTTL). A writer that was taken over, however long it was frozen, can no longer commit: its statements fail with
// ErrTakenOver, and the next connection opens the database again.
//
// # What nil means
//
// With Strict, the default, a COMMIT that returned nil is in the bucket. It costs one small PUT, about 45 ms, which concurrent commits
// share. Interval and Sleep answer from memory; their documentation says what a crash may lose. ErrUnknown means that the outcome is
// unknown: the commit may or may not be durable. Read before trying again.
//
// # Connections
//
// Each connection is a PostgreSQL process of its own, of about 3 MB, with its own settings, locks and temporary tables. All processes share
// one processor. SQL and Pool use the same pool of up to Options.MaxConns connections; Dial opens further ones, for other clients of the
// wire protocol. There is no password: code that holds the DB may connect as any role.
//
// # Costs
//
// The first Open on a machine downloads PGlite through npm (pinned, hash-checked; or see BLOBPGLITE_ASSETS) and compiles it, which takes
// about a minute. The result is kept in the user's cache directory, or in BLOBPGLITE_CACHE. From then on, loading takes a quarter of a
// second; a program that opens several databases can load it once for all of them (NewRuntime). A program with one idle database uses about
// 170 MB, and up to Options.Cache more for the database's files. An idle database sends no requests to the bucket.
package blobpglite
