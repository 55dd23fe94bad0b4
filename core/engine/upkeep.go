package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"blobpglite/core/pglite"
)

// upkeep is the maintenance that a server's background processes would do and single-user PostgreSQL does not:
// VACUUM and ANALYZE of tables that have changed enough, by autovacuum's own default thresholds. (CHECKPOINT comes with
// each layer.)
type upkeep struct {
	running atomic.Bool
	seen    int64 // bytes of the log when it last ran; under the turn
}

// upkeepBytes is how much log is written between two looks at the tables.
const upkeepBytes = 8 << 20

// dueTables lists tables that autovacuum would work on. Sources: the defaults of autovacuum_vacuum_threshold (50),
// _scale_factor (0.2), autovacuum_analyze_threshold (50), _scale_factor (0.1), autovacuum_freeze_max_age (2e8).
const dueTables = `
SELECT format('%I.%I', s.schemaname, s.relname),
       s.n_dead_tup > 50 + 0.2 * c.reltuples OR age(c.relfrozenxid) > 200000000
FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't'
  AND (s.n_dead_tup > 50 + 0.2 * c.reltuples OR s.n_mod_since_analyze > 50 + 0.1 * c.reltuples
       OR age(c.relfrozenxid) > 200000000)
ORDER BY 1 LIMIT 100`

// consider starts a round of upkeep if enough was written. It is called under the turn.
func (u *upkeep) consider(m *logMode) {
	written := m.e.LogBytes()
	if written-u.seen < upkeepBytes || !u.running.CompareAndSwap(false, true) {
		return
	}
	u.seen = written
	m.background.Go(func() {
		defer u.running.Store(false)
		if err := m.maintain(m.ctx); err != nil && m.ctx.Err() == nil {
			m.o.Logger.Warn("maintenance was not done", "error", err)
		}
	})
}

// maintain works on each table that is due, one statement a turn, so that clients get theirs in between.
func (m *logMode) maintain(ctx context.Context) error {
	results, err := m.alone(ctx, dueTables)
	if err != nil || len(results) == 0 {
		return err
	}
	for _, row := range results[len(results)-1].Rows {
		verb := "ANALYZE "
		if row[1] == "t" {
			verb = "VACUUM (ANALYZE) "
		}
		if _, err := m.alone(ctx, verb+row[0]); err != nil {
			return fmt.Errorf("%s%s: %w", verb, row[0], err)
		}
	}
	return nil
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
	results, err := m.e.in.Query(ctx, sql)
	if err != nil {
		return nil, fmt.Errorf("%.40s: %w", strings.TrimSpace(sql), err)
	}
	return results, nil
}

var errOpenTransaction = errors.New("a transaction is open; it is tried again later")
