package edges

import (
	"context"
	"fmt"
	"strings"
	"time"
)

func startCases() []Case {
	return []Case{
		{"full-disk", "a database that reached -disk-limit opens again after a crash, at that limit, with every acknowledged row", fullDisk},
		{"prepared", "a database with prepared transactions opens without the -set that it was made with, and they can be committed", preparedTransactions},
		{"catalogs", "the system catalogs do not grow without bound by CREATE and DROP", catalogs},
		{"old-transactions", "transaction ids of every database, template1 too, are frozen as they grow old", oldTransactions},
	}
}

// badSetting is a value that PostgreSQL cannot start with, or not in a bounded time.
type badSetting struct{ name, value string }

func badSettings(ctx context.Context, t *Trial) error {
	tries := []badSetting{
		{"shared_preload_libraries", "nonexistent"}, {"hba_file", "/nonexistent/pg_hba.conf"}, {"max_connections", "262143"},
		{"post_auth_delay", "2147"}, {"max_locks_per_transaction", "2147483647"}, {"max_prepared_transactions", "262143"},
		{"shared_buffers", "1073741823"}, {"max_wal_senders", "262143"}, {"data_directory", "/nonexistent"}, {"wal_buffers", "262143"},
	}
	return beside(ctx, tries[:min(len(tries), t.size(len(tries)))], t.badSetting)
}

func (t *Trial) badSetting(ctx context.Context, one badSetting) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	const rows = 100
	if err := s.exec(ctx, "CREATE TABLE kept (id int)", "INSERT INTO kept SELECT generate_series(1, 100)"); err != nil {
		return err
	}
	if err := s.exec(ctx, fmt.Sprintf("ALTER SYSTEM SET %s = %s", one.name, quoted(one.value))); err != nil {
		t.expect(sqlState(err) != "" && strings.Contains(err.Error(), one.name), "ALTER SYSTEM SET %s: %v", one.name, err)
		s.Kill()
		return nil
	}
	if s, err = s.crash(ctx); err != nil {
		return err
	}
	defer s.Kill()
	at := t.clk.Monotonic()
	opening, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	n, err := s.number(opening, "SELECT count(*) FROM kept")
	if err != nil {
		t.rows("after ALTER SYSTEM SET "+one.name+" = "+one.value, rows, 0)
		t.expect(false, "ALTER SYSTEM SET %s = %s: the database does not open: %v", one.name, one.value, err)
		return nil
	}
	took := t.clk.Monotonic() - at
	t.o.Metrics.Duration("open_ms", took)
	t.rows("after ALTER SYSTEM SET "+one.name, rows, n)
	t.expect(took < 20*time.Second, "ALTER SYSTEM SET %s = %s: opening took %v", one.name, one.value, took)
	file, err := s.text(ctx, "SELECT pg_read_file('postgresql.auto.conf')")
	t.expect(err == nil && strings.Contains(file, one.name), "the line of %s is gone from the file: %v", one.name, err)
	now, err := s.text(ctx, "SELECT current_setting("+quoted(one.name)+", true)")
	if err == nil && now != one.value { // it was left out: that must be reported
		t.expect(strings.Contains(s.Log(), one.name), "%s was left out at the start, but the log does not mention it", one.name)
	}
	return nil
}

func fullDisk(ctx context.Context, t *Trial) error {
	limit := t.size(64) << 20
	s, err := t.start(ctx, t.fresh(), "-disk-limit", fmt.Sprint(limit))
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "CREATE TABLE filled (id int, t text)"); err != nil {
		return err
	}
	acked, full := 0, error(nil)
	const each = 5_000
	for range 4 * limit / (each * 400) {
		if full = s.exec(ctx, fmt.Sprintf("INSERT INTO filled SELECT i, repeat('x', 400) FROM generate_series(1, %d) i", each)); full != nil {
			break
		}
		acked += each
	}
	t.expect(sqlState(full) == "53100", "a full disk is answered by %v, not by SQLSTATE 53100", full)
	if s, err = s.crash(ctx); err != nil {
		return err
	}
	n := s.count(ctx, "filled")
	t.rows("at the limit, after a crash", acked, n)
	if n == 0 {
		return nil
	}
	t.expect(s.exec(ctx, "TRUNCATE filled") == nil, "TRUNCATE does not work on the full disk")
	err = s.exec(ctx, fmt.Sprintf("INSERT INTO filled SELECT i, repeat('x', 400) FROM generate_series(1, %d) i", each))
	t.expect(err == nil, "nothing can be written after TRUNCATE: %v", err)
	if s, err = s.crash(ctx); err != nil {
		return err
	}
	t.rows("after TRUNCATE and a crash", each, s.count(ctx, "filled"))
	return nil
}

func preparedTransactions(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh(), "-set", "max_prepared_transactions=5")
	if err != nil {
		return err
	}
	steps := []string{"CREATE TABLE twice (id int)"}
	for i := range 3 {
		steps = append(steps, fmt.Sprintf("BEGIN; INSERT INTO twice VALUES (%d); PREPARE TRANSACTION 'p%d'", i, i))
	}
	if err := s.exec(ctx, steps...); err != nil {
		return err
	}
	if err := s.exec(ctx, "ALTER SYSTEM SET max_prepared_transactions = 1"); err != nil {
		t.expect(sqlState(err) != "", "ALTER SYSTEM SET max_prepared_transactions: %v", err)
	}
	if s, err = s.crash(ctx); err != nil {
		return err
	}
	s.Kill()
	if s, err = t.start(ctx, s.prefix); err != nil { // without the flag
		return err
	}
	n, err := s.number(ctx, "SELECT count(*) FROM pg_prepared_xacts")
	t.expect(err == nil && n == 3, "of 3 prepared transactions %d are there without the flag: %v", n, err)
	if err != nil {
		return nil
	}
	for i := range 3 {
		err := s.exec(ctx, fmt.Sprintf("COMMIT PREPARED 'p%d'", i))
		t.expect(err == nil, "commit a prepared transaction: %v", err)
	}
	t.rows("prepared and committed", 3, s.count(ctx, "twice"))
	return nil
}

// catalogBytes selects the size of the database's system catalogs.
const catalogBytes = `SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'`

func catalogs(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh(), "-durability", "sleep")
	if err != nil {
		return err
	}
	before, err := s.number(ctx, catalogBytes)
	if err != nil {
		return err
	}
	rounds := t.size(12_000)
	const each = 200
	for i := 0; i < rounds; i += each {
		t.progress("CREATE and DROP %d of %d", i, rounds)
		var q []string
		for range each {
			q = append(q, "CREATE TABLE passing (id int PRIMARY KEY, t text)", "DROP TABLE passing")
		}
		if err := s.exec(ctx, q...); err != nil {
			return err
		}
	}
	after, err := s.number(ctx, catalogBytes)
	if err != nil {
		return err
	}
	const most = 4
	t.expect(after < most*before, "%d times CREATE and DROP grew the catalogs from %d to %d bytes", rounds, before, after)
	return s.end(ctx)
}

func oldTransactions(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh(), "-durability", "sleep", "-set", "autovacuum_freeze_max_age=100000")
	if err != nil {
		return err
	}
	const each = 20_000
	burn := fmt.Sprintf("DO $$ BEGIN FOR i IN 1..%d LOOP BEGIN PERFORM pg_current_xact_id(); INSERT INTO burnt VALUES (i); RAISE EXCEPTION 'x'; EXCEPTION WHEN raise_exception THEN END; END LOOP; END $$", each)
	if err := s.exec(ctx, "CREATE TABLE burnt (id int)"); err != nil {
		return err
	}
	for i := 0; i < t.size(300_000); i += each {
		t.progress("transaction %d", i)
		if err := s.exec(ctx, burn, "INSERT INTO burnt SELECT generate_series(1, 2000)", "DELETE FROM burnt"); err != nil {
			return err
		}
	}
	if err := s.end(ctx); err != nil { // other databases are frozen by the next opening
		return err
	}
	if s, err = s.again(ctx); err != nil {
		return err
	}
	// The remaining work is done while there are no requests.
	const look, times = 500 * time.Millisecond, 80 // a database in each autovacuum_naptime
	worst := ""
	for range times {
		if worst, err = s.text(ctx, "SELECT datname || ' ' || age(datfrozenxid) FROM pg_database WHERE age(datfrozenxid) > 150000"); err != nil {
			return err
		}
		if worst == "" {
			break
		}
		if err := t.clk.Sleep(ctx, look); err != nil {
			return err
		}
	}
	t.expect(worst == "", "with autovacuum_freeze_max_age 100000 these databases are older: %s", strings.ReplaceAll(worst, "\n", ", "))
	return s.end(ctx)
}
