package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"blobpglite/core/memfs"
	"blobpglite/core/pglite"
)

// An instance is one session in one database, so VACUUM reaches the tables of no other: template1, template0 and whatever
// CREATE DATABASE has made. Their transaction ids grow old all the same, and at 2^31 PostgreSQL refuses every command that
// would need another. So an opening that finds one older than autovacuum would let it become starts PostgreSQL in that
// database first, to freeze it: half a second each, once in 200 million transactions.

// reopenFactor says how old, in autovacuum_freeze_max_age, ids may become in an engine that is open all the time: then it gives
// up, so that an opening can do that. (1.2 thousand million by default; PostgreSQL stops at 2.1.)
const reopenFactor = 6

// errOldDatabases is why.
var errOldDatabases = errors.New("transaction ids of other databases have grown old: the next opening freezes them")

// otherDatabases lists those whose ids, or multixact ids, are old; template0 too, which takes no connections otherwise.
const otherDatabases = pglite.SafePath + `SELECT datname FROM pg_database
WHERE datname <> current_database() AND datconnlimit <> -2 AND (age(datfrozenxid) > current_setting('autovacuum_freeze_max_age')::int8
  OR mxid_age(datminmxid) > current_setting('autovacuum_multixact_freeze_max_age')::int8) ORDER BY age(datfrozenxid) DESC`

// learnFreezeAge reads autovacuum_freeze_max_age, which is what it was when PostgreSQL started.
func (e *Engine) learnFreezeAge() error {
	text, err := e.in.Parameter("autovacuum_freeze_max_age")
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return fmt.Errorf("autovacuum_freeze_max_age: %w", err)
	}
	e.freezeAge = uint32(n)
	return nil
}

// freezeOthers freezes the databases that have to be, and starts PostgreSQL again behind that. What it writes goes into the log
// like everything else. One that cannot be worked on is told in the log: the others, and the database itself, are not kept from
// their work. Nobody else has the instance yet.
func (e *Engine) freezeOthers(ctx context.Context, data *memfs.FS) error {
	if err := e.learnFreezeAge(); err != nil {
		return err
	}
	if age, err := e.in.TransactionAge(); err != nil || age <= e.freezeAge {
		return err
	}
	results, err := e.in.Maintain(ctx, otherDatabases)
	if err != nil || len(results) == 0 || len(results[len(results)-1].Rows) == 0 {
		return err
	}
	rows := results[len(results)-1].Rows
	at := e.o.Clock.Monotonic()
	for _, row := range rows {
		if err := e.in.Close(ctx); err != nil {
			return fmt.Errorf("freeze database %s: %w", row[0], err)
		}
		o := e.o.instance(data)
		o.Database = row[0]
		if e.in, err = e.o.Runtime.Start(ctx, o); err == nil {
			_, err = e.in.Maintain(ctx, "VACUUM (FREEZE)")
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			e.o.Logger.Error("the transaction ids of a database are old and could not be frozen", "database", row[0], "error", err)
		}
		if e.in == nil {
			break
		}
	}
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = row[0]
	}
	if e.in != nil {
		if err := e.in.Close(ctx); err != nil {
			return fmt.Errorf("freeze databases: %w", err)
		}
	}
	if err := e.startOn(ctx, data, nil); err != nil {
		return err
	}
	e.o.Logger.Info("the transaction ids of other databases were old and have been frozen", "databases", strings.Join(names, ", "), "took", e.since(at))
	return nil
}

// reopenIfOld gives the engine up where ids are old though its own tables are not, if it has been open for most of that time.
func (m *logMode) reopenIfOld(ctx context.Context) error {
	if err := m.e.take(ctx); err != nil {
		return err
	}
	age, err := m.e.in.TransactionAge()
	m.e.give()
	if err != nil {
		return err
	}
	if age/reopenFactor < m.e.freezeAge || m.openedAge/2 > m.e.freezeAge {
		return nil
	}
	results, err := m.alone(ctx, otherDatabases)
	if err != nil || len(results) == 0 || len(results[len(results)-1].Rows) == 0 {
		return err
	}
	if err := m.log.wait(ctx, m.log.end()); err != nil { // also what no client waits for
		return err
	}
	return m.e.fail(errOldDatabases)
}
