package engine

import (
	"context"
	"errors"
	"sync/atomic"

	"blobpglite/core/pglite"
)

// upkeep is the maintenance that a server's background processes would do and single-user PostgreSQL does not:
// VACUUM and ANALYZE of tables that have changed enough, or have grown old, the catalogs among them, by autovacuum's own default
// thresholds. (CHECKPOINT comes with each layer.)
type upkeep struct {
	running atomic.Bool
	seen    int64 // bytes of the log when it last ran; under the turn
	aged    bool  // it has run because of the age of transaction ids; likewise
}

// upkeepBytes is how much log is written between two looks at the tables.
const upkeepBytes = 8 << 20

// dueTables lists tables that autovacuum would work on, those of the catalogs too: their names, and what is to be done. Sources:
// the defaults of autovacuum_vacuum_threshold (50), _scale_factor (0.2), autovacuum_analyze_threshold (50), _scale_factor (0.1).
// A table that holds older ids than autovacuum_freeze_max_age is vacuumed, whatever has changed in it, and whatever was said of
// autovacuum. Other work is not done where autovacuum is off, for the server or for the table.
const dueTables = pglite.SafePath + `
WITH t AS (
  SELECT format('%I.%I', s.schemaname, s.relname) AS name, c.relkind,
    greatest(age(c.relfrozenxid) / current_setting('autovacuum_freeze_max_age')::float8,
      mxid_age(c.relminmxid) / current_setting('autovacuum_multixact_freeze_max_age')::float8) AS old,
    s.n_dead_tup > 50 + 0.2 * greatest(c.reltuples, 0) AS dead,
    current_setting('autovacuum')::bool AND coalesce((SELECT option_value::bool FROM pg_options_to_table(c.reloptions)
      WHERE option_name = 'autovacuum_enabled'), true) AS wanted,
    c.relkind <> 't' AND s.n_mod_since_analyze > 50 + 0.1 * greatest(c.reltuples, 0) AS changed
  FROM pg_stat_all_tables s JOIN pg_class c ON c.oid = s.relid
  WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence <> 't')
SELECT name, CASE WHEN old > 1 THEN 'VACUUM (FREEZE, SKIP_DATABASE_STATS) ' WHEN NOT dead THEN 'ANALYZE '
  WHEN relkind = 't' THEN 'VACUUM (SKIP_DATABASE_STATS) ' ELSE 'VACUUM (ANALYZE, SKIP_DATABASE_STATS) ' END
FROM t WHERE wanted AND (dead OR changed) OR old > 1 ORDER BY old > 1 DESC, old DESC, name LIMIT 200`

// consider starts a round of upkeep if enough was written. It is called under the turn.
func (u *upkeep) consider(m *logMode) {
	written := m.e.LogBytes()
	age, err := m.e.in.TransactionAge()
	if err != nil {
		return // it has ended
	}
	old := !u.aged && age > m.e.freezeAge
	if written-u.seen < upkeepBytes && !old || m.compacting.Load() || !u.running.CompareAndSwap(false, true) {
		return
	}
	u.seen, u.aged = written, u.aged || old
	m.background.Go(func() {
		if err := m.maintain(m.ctx); err != nil && m.ctx.Err() == nil {
			m.o.Logger.Warn("maintenance was not done", "error", err)
		}
		u.running.Store(false)
		m.inTurn(m.ctx, m.consider) // a layer may have been put off
	})
}

// maintain works on each table that is due, one statement a turn, so that clients get theirs in between. A table that cannot be
// worked on (an index whose function fails, say) does not keep the others from it.
func (m *logMode) maintain(ctx context.Context) error {
	if _, err := m.alone(ctx, "SELECT pg_catalog.pg_stat_force_next_flush()"); err != nil { // what the last second did is to count
		return err
	}
	results, err := m.alone(ctx, dueTables)
	if err != nil || len(results) == 0 {
		return err
	}
	rows := results[len(results)-1].Rows
	for _, row := range rows {
		_, failed := m.alone(ctx, row[1]+row[0])
		err = errors.Join(err, failed)
		if ctx.Err() != nil || errors.Is(failed, errOpenTransaction) || errors.Is(failed, ErrClosed) || errors.Is(failed, ErrPoisoned) {
			return err
		}
	}
	if len(rows) > 0 { // what the tables have become is the database's, and its log can be cut
		_, failed := m.alone(ctx, "VACUUM (ONLY_DATABASE_STATS)")
		err = errors.Join(err, failed)
	}
	return errors.Join(err, m.reopenIfOld(ctx))
}

// alone runs a statement of the host's between the clients', unless a client's transaction is open: then it would be
// part of it.
func (m *logMode) alone(ctx context.Context, sql string) ([]pglite.Result, error) {
	if err := m.e.take(ctx); err != nil {
		return nil, err
	}
	defer m.e.give()
	open, err := m.e.in.InTransaction()
	if err != nil {
		return nil, err
	}
	if open {
		return nil, errOpenTransaction
	}
	return m.e.in.Maintain(ctx, sql)
}

var errOpenTransaction = errors.New("a transaction is open; it is tried again later")
