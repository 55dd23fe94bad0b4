package edges

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

func prefixCases() []Case {
	return []Case{
		{"copied", "a prefix copied object by object without metadata is complete: it is sound, and opens, even after gc", copied},
		{"nested", "a database inside another's prefix, or around it, is refused, and the other is unharmed", nested},
		{"lost-manifest", "a prefix that has records but no manifest is refused with a hint, and can be adopted", lostManifest},
		{"history-kept", "what is kept of the past does not depend on the last command line", historyKept},
		{"unlogged", "rows of unlogged tables are there after a clean end, or their loss is reported", unlogged},
		{"damaged-lease", "a lease object that cannot be read does not keep the database shut", damagedLease},
	}
}

// bulk writes rows that do not compress well, in one transaction.
func bulk(table string, rows int) string {
	return fmt.Sprintf("INSERT INTO %s SELECT i, (SELECT string_agg(encode(sha512((i::text || j::text)::bytea), 'base64'), '') FROM generate_series(1, 8) j) FROM generate_series(1, %d) i", table, rows)
}

func copied(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh(), "-restore-budget", "-1s", "-set", "wal_writer_delay=10s") // a layer would take the parts' place, and the walwriter cut the record short
	if err != nil {
		return err
	}
	rows := t.size(60_000)
	// Text of base64 loses a third: a full batch then fits into one object or not, as it happens.
	noise := fmt.Sprintf("INSERT INTO kept SELECT i, (SELECT string_agg(sha512((i::text || j::text)::bytea), '') FROM generate_series(1, 8) j) FROM generate_series(1, %d) i", rows)
	if err := s.exec(ctx, "CREATE TABLE kept (id int, t bytea)", noise, "INSERT INTO kept VALUES (0, 'one more')"); err != nil {
		return err
	}
	s.Kill()
	names, err := t.objects(s.prefix + "/part/")
	if err != nil {
		return err
	}
	parts := len(names)
	t.expect(parts > 0, "the transaction was too small: its record has no parts")
	to := t.fresh()
	if err := t.copyAll(s.prefix, to); err != nil {
		return err
	}
	for _, step := range []string{"verify", "gc", "verify"} {
		out, code := t.on(ctx, step, to)
		t.expect(code == 0, "%s of the copy (%d parts): %s", step, parts, tail(out))
	}
	if s, err = t.start(ctx, to); err != nil {
		return err
	}
	t.rows("in the copy, after gc", rows+1, s.count(ctx, "kept"))
	if err := s.exec(ctx, "INSERT INTO kept VALUES (0, 'in the copy')"); err != nil {
		t.expect(false, "write in the copy: %v", err)
	}
	if s, err = s.crash(ctx); err != nil {
		return err
	}
	t.rows("in the copy, after a crash", rows+2, s.count(ctx, "kept"))
	return nil
}

func nested(ctx context.Context, t *Trial) error {
	outer, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	const rows = 1000
	if err := outer.exec(ctx, "CREATE TABLE kept (id int)", "INSERT INTO kept SELECT generate_series(1, 1000)"); err != nil {
		return err
	}
	if err := outer.end(ctx); err != nil {
		return err
	}
	before, err := t.objects(outer.prefix + "/")
	if err != nil {
		return err
	}
	inside := []string{"wal", "base/1-1", "page/1-1", "part/1-x", "inner", "base", "wal/deeper/down"}
	for _, below := range inside[:min(len(inside), t.size(4))] {
		t.refused(ctx, outer.prefix+"/"+below, "inside another database")
	}
	after, err := t.objects(outer.prefix + "/")
	if err != nil {
		return err
	}
	var new []string
	for _, name := range after {
		if !slices.Contains(before, name) {
			new = append(new, name)
		}
	}
	t.expect(len(new) == 0 && len(after) >= len(before), "the refusals left objects behind: %v; %d before, %d after", new, len(before), len(after))
	around := t.fresh()
	inner, err := t.start(ctx, around+"/deep/inner")
	if err != nil {
		return err
	}
	if err := inner.exec(ctx, "CREATE TABLE kept (id int)"); err != nil {
		return err
	}
	inner.Kill()
	t.refused(ctx, around, "around another database")
	out, code := t.on(ctx, "gc", outer.prefix)
	t.expect(code == 0, "gc of the outer database: %s", tail(out))
	if outer, err = outer.again(ctx); err != nil {
		return err
	}
	t.rows("in the outer one", rows, outer.count(ctx, "kept"))
	return nil
}

// refused expects that no database is made at a place, and that the answer names the other one.
func (t *Trial) refused(ctx context.Context, prefix, where string) {
	s, err := t.start(ctx, prefix)
	if err == nil {
		defer s.Kill()
		err = s.exec(ctx, "CREATE TABLE intruder (id int)")
	}
	t.expect(err != nil, "a database %s was made, at %s", where, prefix)
	if err != nil {
		t.expect(strings.Contains(err.Error(), "database"), "at %s the answer does not say what is wrong: %v", prefix, err)
	}
}

func lostManifest(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	const rows = 500
	if err := s.exec(ctx, "CREATE TABLE kept (id int)", "INSERT INTO kept SELECT generate_series(1, 500)"); err != nil {
		return err
	}
	if err := s.end(ctx); err != nil {
		return err
	}
	if s, err = s.again(ctx); err != nil {
		return err
	}
	if err := s.exec(ctx, "INSERT INTO kept SELECT generate_series(1, 500)"); err != nil { // after the layer
		return err
	}
	s.Kill()
	if err := t.remove(s.prefix + "/manifest"); err != nil {
		return err
	}
	if s, err = s.again(ctx); err != nil {
		return err
	}
	err = s.exec(ctx, "SELECT 1")
	t.expect(err != nil, "a prefix without its manifest was opened as a new database")
	t.expect(err == nil || strings.Contains(err.Error(), "manifest") && strings.Contains(err.Error(), "adopt"), "the refusal does not say what to do: %v", err)
	s.Kill()
	names, err := t.objects(s.prefix + "/manifest")
	if err != nil {
		return err
	}
	t.expect(len(names) == 0, "a manifest was written over the lost one's records")
	out, code := t.on(ctx, "verify", s.prefix)
	t.expect(code != 0 && strings.Contains(out, "adopt"), "verify does not say what could be adopted: %s", tail(out))
	out, code = t.on(ctx, "adopt", s.prefix)
	t.expect(code == 0, "adopt: %s", tail(out))
	if s, err = s.again(ctx); err != nil {
		return err
	}
	if code == 0 {
		t.rows("after adopt", 2*rows, s.count(ctx, "kept"))
	} else {
		t.rows("never adopted", 2*rows, 0)
	}
	s.Kill()
	return nil
}

var soundUpTo = regexp.MustCompile(`records\s+(?:\d+ to|none after record) (\d+)`)

func historyKept(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh(), "-retain", "24h", "-restore-budget", "1ms")
	if err != nil {
		return err
	}
	const rows = 100
	if err := s.exec(ctx, "CREATE TABLE kept (id int, t text)", bulk("kept", rows)); err != nil {
		return err
	}
	if err := s.end(ctx); err != nil {
		return err
	}
	out, code := t.on(ctx, "verify", s.prefix)
	m := soundUpTo.FindStringSubmatch(out)
	if code != 0 || m == nil {
		return fmt.Errorf("verify says %s", tail(out))
	}
	for range t.size(3) { // lives without the flag, each with layers
		if s, err = t.start(ctx, s.prefix, "-restore-budget", "1ms"); err != nil {
			return err
		}
		if err := s.exec(ctx, bulk("kept", 3000), "DELETE FROM kept", bulk("kept", 3000), "CHECKPOINT"); err != nil {
			return err
		}
		if err := s.end(ctx); err != nil {
			return err
		}
	}
	back := t.fresh()
	out, code = t.command(ctx, slices.Concat([]string{"branch", "gs://" + Bucket + "/" + back, "-at", m[1]}, t.address(s.prefix))...)
	t.expect(code == 0, "the state of record %s is gone after lives without -retain: %s", m[1], tail(out))
	if code != 0 {
		t.rows("in the earlier state", rows, 0)
		return nil
	}
	if s, err = t.start(ctx, back); err != nil {
		return err
	}
	t.rows("in the earlier state", rows, s.count(ctx, "kept"))
	return nil
}

func unlogged(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	const rows = 300
	if err := s.exec(ctx, "CREATE UNLOGGED TABLE passing (id int)", "INSERT INTO passing SELECT generate_series(1, 300)"); err != nil {
		return err
	}
	if err := s.end(ctx); err != nil {
		return err
	}
	log := s.Log()
	if s, err = s.again(ctx); err != nil {
		return err
	}
	n := s.count(ctx, "passing")
	if n == rows {
		t.rows("unlogged, after a clean end", rows, n)
		return nil
	}
	out, _ := t.on(ctx, "status", s.prefix)
	t.expect(n == 0, "an unlogged table has %d of %d rows after a clean end", n, rows)
	t.expect(strings.Contains(log, "unlogged"), "unlogged rows are gone after a clean end, and the log did not say so")
	t.expect(strings.Contains(out, "unlogged"), "unlogged rows are gone after a clean end, and status does not say so: %s", tail(out))
	return nil
}

func damagedLease(ctx context.Context, t *Trial) error {
	for _, garbage := range [][]byte{[]byte("garbage"), {}, bytes.Repeat([]byte{0}, 200), []byte(`{"holder":"x"`)} {
		s, err := t.start(ctx, t.fresh())
		if err != nil {
			return err
		}
		if err := s.exec(ctx, "CREATE TABLE kept AS SELECT 1"); err != nil {
			return err
		}
		if err := s.end(ctx); err != nil {
			return err
		}
		if err := t.write(s.prefix+"/lease", garbage); err != nil {
			return err
		}
		if s, err = s.again(ctx); err != nil {
			return err
		}
		err = s.exec(ctx, "INSERT INTO kept VALUES (2)")
		t.expect(err == nil, "with a lease of %d bytes %.12q: %v", len(garbage), garbage, err)
		s.Kill()
		if t.size(2) < 4 {
			break
		}
	}
	return nil
}

// restoreOver is part of smallCases: restore-to must not overwrite.
func restoreOver(ctx context.Context, t *Trial) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	if err := s.exec(ctx, "CREATE TABLE kept AS SELECT 1"); err != nil {
		return err
	}
	if err := s.end(ctx); err != nil {
		return err
	}
	file := t.file("mine.tar")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		return err
	}
	out, code := t.command(ctx, slices.Concat([]string{"restore-to", file}, t.address(s.prefix))...)
	body, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	t.expect(code != 0 && string(body) == "precious", "restore-to overwrote an existing file (code %d): %s", code, tail(out))
	return nil
}
