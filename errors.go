package blobpglite

import (
	"errors"

	"blobpglite/core/engine"
	"blobpglite/core/lease"
	"blobpglite/core/store"
	"blobpglite/core/takeover"
)

// Errors, each with what to do about it. Compare with errors.Is, also for errors that database/sql or pgx returns. An error of a SQL
// statement is a *pgconn.PgError.
var (
	// ErrLocked: another writer holds the lease. The error is a *LockedError: it says who, and until when. Wait, or close the other writer.
	ErrLocked = lease.ErrLocked
	// ErrTakenOver: another writer has taken over the database. Everything acknowledged is safe. The next connection opens the database
	// again, which waits for that writer's lease.
	ErrTakenOver = engine.ErrFenced
	// ErrUnknown: it is not known whether the commit is durable, because the store did not answer in time. Read before trying again; the
	// next connection opens the database again.
	ErrUnknown = store.ErrUnknown
	// ErrUnavailable: the store gave no usable answer to any of the retries. Nothing was changed; try again later.
	ErrUnavailable = store.ErrUnavailable
	// ErrDenied: credentials, permissions or the bucket are missing. A person has to act; the message says how.
	ErrDenied = store.ErrDenied
	// ErrInvalid: the URL or an option is not valid. The message says what to write.
	ErrInvalid = store.ErrInvalid
	// ErrNoDatabase: there is no database, and Options.NoCreate or Options.At needs one.
	ErrNoDatabase = engine.ErrNoDatabase
	// ErrNested: the prefix lies inside another database's, or around one. Name another one. (A folder inside another store's is ErrInvalid.)
	ErrNested = takeover.ErrNested
	// ErrNotEmpty: the place holds something other than a database. Name another one.
	ErrNotEmpty = takeover.ErrNotEmpty
	// ErrBeyondRetention: the state named by Options.At is no longer kept, or lies in the future. The error says what is kept.
	ErrBeyondRetention = takeover.ErrBeyondRetention
	// ErrVersion: the database belongs to another major version of PostgreSQL, or was written by a newer version of this package.
	ErrVersion = engine.ErrVersion
	// ErrCorrupt: an object is not what was written. Do not write there; `pgserve verify` names what is damaged.
	ErrCorrupt = store.ErrCorrupt
	// ErrClosed: the DB was closed, or never opened.
	ErrClosed = errors.New("the database is closed")
)

// LockedError says who holds the database, and until when.
type LockedError = lease.LockedError
