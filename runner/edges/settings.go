package edges

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sync/errgroup"
)

func settingsCases() []Case {
	return []Case{
		{"first-settings", "a new database made with -set keeps its rows over an end and over a crash", firstSettings},
		{"asynchronous", "rows committed with synchronous_commit off, however that was set, are there after an idle moment and SIGKILL, and after SIGTERM", asynchronous},
		{"log-settings", "settings that change what reaches the log (wal_recycle, wal_level, full_page_writes, fsync) are refused or lose nothing", logSettings},
		{"settings-sweep", "every setting of pg_settings, by SET, ALTER SYSTEM and -set: rows written under it survive kills, or an error says why", settingsSweep},
		{"bad-settings", "after ALTER SYSTEM of a value that PostgreSQL cannot start with, the database opens again, says so, and keeps the file", badSettings},
		{"alter-system-sweep", "after ALTER SYSTEM of any setting to its minimum, its maximum or an odd value, the database opens again", alterSystemSweep},
	}
}

// beside runs f for each item, a few at a time: most of the time they wait for leases.
func beside[T any](ctx context.Context, items []T, f func(context.Context, T) error) error {
	const atOnce = 3
	var group errgroup.Group // one item's fault does not end the others
	group.SetLimit(atOnce)
	faults := make([]error, len(items))
	for i, item := range items {
		group.Go(func() error {
			if err := f(ctx, item); err != nil {
				faults[i] = fmt.Errorf("%v: %w", item, err)
			}
			return nil
		})
	}
	_ = group.Wait() // faults has them all
	return errors.Join(faults...)
}

func firstSettings(ctx context.Context, t *Trial) error {
	type try struct {
		set  string
		kill bool
	}
	tries := []try{{"work_mem=8MB", false}, {"work_mem=8MB", true}, {"random_page_cost=1.1", false}}
	if t.o.Size > len(tries) {
		for _, set := range []string{"wal_compression=pglz", "max_connections=40", "max_prepared_transactions=10", "default_statistics_target=200", "shared_buffers=16MB"} {
			tries = append(tries, try{set, false}, try{set, true})
		}
	}
	return beside(ctx, tries, func(ctx context.Context, one try) error {
		s, err := t.start(ctx, t.fresh(), "-set", one.set)
		if err != nil {
			return err
		}
		const rows = 100
		if err := s.exec(ctx, "CREATE TABLE kept (id int PRIMARY KEY)"); err != nil {
			return err
		}
		for i := range rows {
			if i%10 == 0 {
				err = s.exec(ctx, fmt.Sprintf("INSERT INTO kept SELECT generate_series(%d, %d)", i, i+9))
			}
			if err != nil {
				return err
			}
		}
		if one.kill {
			s.Kill()
		} else if err := s.end(ctx); err != nil {
			return err
		}
		if s, err = s.again(ctx); err != nil {
			return err
		}
		t.rows(fmt.Sprintf("-set %s, killed %v", one.set, one.kill), rows, s.count(ctx, "kept"))
		s.Kill()
		out, code := t.on(ctx, "verify", s.prefix)
		t.expect(code == 0, "verify after -set %s: %s", one.set, tail(out))
		return nil
	})
}

func asynchronous(ctx context.Context, t *Trial) error {
	const rows = 100
	insert := "INSERT INTO late SELECT generate_series(1, 100)"
	ways := map[string][]string{
		"SET":            {"SET synchronous_commit = off", insert},
		"SET LOCAL":      {"BEGIN; SET LOCAL synchronous_commit = off; " + insert + "; COMMIT"},
		"ALTER ROLE":     {"ALTER ROLE app SET synchronous_commit = off", "", insert},
		"ALTER DATABASE": {"ALTER DATABASE postgres SET synchronous_commit = off", "", insert},
		"ALTER SYSTEM":   {"ALTER SYSTEM SET synchronous_commit = off", "SELECT pg_reload_conf()", "", insert},
	}
	type try struct {
		way  string
		kill bool
	}
	var tries []try
	for _, way := range []string{"SET", "ALTER ROLE", "SET LOCAL", "ALTER DATABASE", "ALTER SYSTEM"} {
		tries = append(tries, try{way, true}, try{way, false})
	}
	return beside(ctx, tries[:min(len(tries), t.size(len(tries)))], func(ctx context.Context, one try) error {
		s, err := t.start(ctx, t.fresh())
		if err != nil {
			return err
		}
		if err := s.exec(ctx, "CREATE ROLE app LOGIN", "CREATE TABLE late (id int PRIMARY KEY)", "GRANT ALL ON late TO app"); err != nil {
			return err
		}
		for i, part := range strings.Split(strings.Join(ways[one.way], "\n"), "\n\n") {
			if i > 0 { // roles' and databases' settings are those of sessions that begin later
				if err := s.end(ctx); err != nil {
					return err
				}
				if s, err = s.again(ctx); err != nil {
					return err
				}
			}
			user := map[bool]string{true: "app", false: "postgres"}[i > 0]
			if err := s.execAs(ctx, user, strings.Split(part, "\n")...); err != nil {
				return err
			}
		}
		if one.kill {
			if err := t.clk.Sleep(ctx, t.o.Hold); err != nil {
				return err
			}
			s.Kill()
		} else if err := s.end(ctx); err != nil {
			return err
		}
		if s, err = s.again(ctx); err != nil {
			return err
		}
		t.rows(fmt.Sprintf("synchronous_commit off by %s, killed %v", one.way, one.kill), rows, s.count(ctx, "late"))
		s.Kill()
		return nil
	})
}

// logTry is a setting that changes what reaches the log.
type logTry struct {
	set, value string
	flag       bool     // by -set; otherwise by SET, in the session that writes
	with       []string // other flags that it needs
}

func logSettings(ctx context.Context, t *Trial) error {
	tries := []logTry{
		{set: "wal_recycle", value: "on"}, {set: "wal_level", value: "minimal", flag: true, with: []string{"-set", "max_wal_senders=0"}},
		{set: "wal_recycle", value: "on", flag: true}, {set: "full_page_writes", value: "on", flag: true}, {set: "fsync", value: "off", flag: true},
		{set: "wal_init_zero", value: "on"}, {set: "wal_skip_threshold", value: "0"}, {set: "wal_sync_method", value: "open_datasync", flag: true},
		{set: "wal_compression", value: "pglz"}, {set: "commit_delay", value: "1000"}, {set: "wal_segment_size", value: "16MB", flag: true},
	}
	return beside(ctx, tries[:min(len(tries), t.size(2))], t.logSetting)
}

// String returns the setting as a flag would say it.
func (l logTry) String() string {
	return map[bool]string{true: "-set ", false: "SET "}[l.flag] + l.set + "=" + l.value
}

// logSetting writes under a setting: a table filled with checkpoints in between, so that the log goes from segment to segment, in a
// database's first life; and a table made and filled in one transaction, in its third.
func (t *Trial) logSetting(ctx context.Context, one logTry) error {
	var flags, set []string
	if one.flag {
		flags = append([]string{"-set", one.set + "=" + one.value}, one.with...)
	} else {
		set = append(set, "SET "+one.set+" = "+one.value)
	}
	s, err := t.start(ctx, t.fresh(), flags...)
	if err == nil {
		err = s.exec(ctx, append(set[:len(set):len(set)], "SELECT 1")...)
	}
	if err != nil { // by the command line, at the first connection, or at the SET
		t.expect(strings.Contains(err.Error(), one.set), "%v is refused without mentioning it: %v", one, err)
		return nil
	}
	const once, rows = 200_000, 30_000
	fill := fmt.Sprintf("INSERT INTO filled SELECT i, repeat('x', 400) FROM generate_series(1, %d) i", rows)
	write := func(table string, acked int, q ...string) error {
		if err := s.exec(ctx, append(set[:len(set):len(set)], q...)...); err != nil {
			return err
		}
		if s, err = s.crash(ctx, flags...); err != nil {
			return err
		}
		t.rows(one.String(), acked, s.count(ctx, table))
		return nil
	}
	if err := write("filled", 3*rows, "CREATE TABLE filled (id int, t text)", fill, "CHECKPOINT", fill, "CHECKPOINT", fill); err != nil {
		return err
	}
	if err := s.end(ctx); err != nil {
		return err
	}
	if s, err = s.again(ctx, flags...); err != nil {
		return err
	}
	made := fmt.Sprintf("BEGIN; CREATE TABLE made (id int); INSERT INTO made SELECT generate_series(1, %d); COMMIT", once)
	return write("made", once, made)
}
