package edges

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// setting is a row of pg_settings, with the values to try.
type setting struct {
	name, context, kind, category     string
	now, least, greatest, enums, unit string
}

// settings queries a server for everything that can be changed.
func (s *server) settings(ctx context.Context) ([]setting, error) {
	c, err := s.connect(ctx, "postgres")
	if err != nil {
		return nil, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	rows, err := c.Query(ctx, `SELECT name, context, vartype, category, coalesce(setting, ''), coalesce(min_val, ''), coalesce(max_val, ''),
		coalesce(array_to_string(enumvals, ','), ''), coalesce(unit, '') FROM pg_settings WHERE context <> 'internal' ORDER BY name`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []setting
	for rows.Next() {
		var g setting
		if err := rows.Scan(&g.name, &g.context, &g.kind, &g.category, &g.now, &g.least, &g.greatest, &g.enums, &g.unit); err != nil {
			return nil, err
		}
		all = append(all, g)
	}
	return all, rows.Err()
}

// changed returns a moderate value that differs from the current one.
func (g setting) changed() string {
	switch g.kind {
	case "bool":
		return map[bool]string{true: "off", false: "on"}[g.now == "on"]
	case "enum":
		for _, v := range strings.Split(g.enums, ",") {
			if v != g.now {
				return v
			}
		}
		return g.now
	case "integer", "real":
		now, least, greatest := number(g.now), number(g.least), number(g.greatest)
		for _, v := range []float64{now * 2, now / 2, now + 1, least + 1, least, greatest} {
			if v = float64(int64(v)); v >= least && v <= greatest && v != now {
				return strconv.FormatFloat(v, 'f', -1, 64)
			}
		}
		return g.now
	}
	return map[bool]string{true: "x", false: g.now + "x"}[g.now == ""]
}

// extreme is the least, the greatest, or an odd value.
func (g setting) extreme(which string, random *rand.Rand) string {
	switch g.kind {
	case "bool":
		return map[string]string{"least": "off", "greatest": "on"}[which] + map[bool]string{true: g.changed(), false: ""}[which == "odd"]
	case "enum":
		values := strings.Split(g.enums, ",")
		return map[string]string{"least": values[0], "greatest": values[len(values)-1], "odd": values[random.IntN(len(values))]}[which]
	case "integer", "real":
		switch which {
		case "least":
			return g.least
		case "greatest":
			return g.greatest
		}
		least, greatest := number(g.least), number(g.greatest)
		span := min(greatest-least, 1<<30)
		return strconv.FormatFloat(float64(int64(least+random.Float64()*span)), 'f', -1, 64)
	}
	return map[string]string{"least": "", "greatest": strings.Repeat("a", 200), "odd": "no such, 'thing'\\"}[which]
}

func number(text string) float64 {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0
	}
	return v
}

func quoted(value string) string { return "'" + strings.ReplaceAll(value, "'", "''") + "'" }

// mild undoes, for one connection, whatever makes a session refuse or time out by itself, which is not a fault.
var mild = []string{
	"SET default_transaction_read_only = off", "SET search_path = public", "SET client_encoding = 'UTF8'",
	"SET temp_file_limit = -1", "SET standard_conforming_strings = on", "SET default_table_access_method = heap", "SET default_tablespace = ''",
	"SET debug_discard_caches = 0", "SET log_statement_stats = off", "SET zero_damaged_pages = off",
}

// limits are those that must be undone before the first statement: a session may be ended before its client sends one.
var limits = []string{"statement_timeout", "lock_timeout", "transaction_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"}

// mildly opens a session that does not refuse or time out by itself. It skips what cannot be set.
func (s *server) mildly(ctx context.Context) (*pgx.Conn, error) {
	c, err := s.connect(ctx, "postgres", limits...)
	if err != nil {
		return nil, err
	}
	for _, q := range mild {
		_ = execOn(ctx, c, q)
	}
	return c, nil
}

// write inserts rows, tolerating that single statements are refused, and returns how many were acknowledged.
func (s *server) write(ctx context.Context, table string, statements int) (int, error) {
	c, err := s.mildly(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	acked := 0
	var last error
	for range statements {
		if last = execOn(ctx, c, "INSERT INTO "+table+" SELECT generate_series(1, 100)"); last == nil {
			acked += 100
		}
	}
	_ = execOn(ctx, c, "CHECKPOINT")
	if last = execOn(ctx, c, "INSERT INTO "+table+" SELECT generate_series(1, 100)"); last == nil {
		acked += 100
	}
	if acked == 0 {
		return 0, fmt.Errorf("no row was taken: %w", last)
	}
	return acked, nil
}

// countMildly counts the rows of a table in a session whose own limits are undone.
func (s *server) countMildly(ctx context.Context, table string) (int, error) {
	c, err := s.mildly(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close(context.WithoutCancel(ctx))
	var n int
	err = c.QueryRow(ctx, "SELECT count(*) FROM "+table).Scan(&n)
	return n, err
}

// batch is what is tried together in one database. A fault is an error; the batch is then halved.
type batch struct {
	values [][2]string // name, value
	kept   int         // that were taken
}

func (b batch) names() string {
	var names []string
	for _, v := range b.values {
		names = append(names, v[0]+"="+v[1])
	}
	return strings.Join(names, " ")
}

// bisect tries a batch, and if it fails its halves, until the settings at fault are found.
func (t *Trial) bisect(ctx context.Context, what string, b batch, try func(context.Context, *batch) error) error {
	const most = 4 // settings named at most; we look for a kind, not a list
	err := try(ctx, &b)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		t.o.Metrics.Value("settings_count", float64(len(b.values)))
		t.o.Metrics.Value("kept_count", float64(b.kept))
		t.expect(true, "")
		return nil
	}
	t.mu.Lock()
	enough := t.bad >= most
	t.mu.Unlock()
	if len(b.values) == 1 || enough {
		t.expect(false, "%s: %.200s: %v", what, b.names(), err)
		return nil
	}
	half := len(b.values) / 2
	before := t.bad
	for _, part := range []batch{{values: b.values[:half]}, {values: b.values[half:]}} {
		if err := t.bisect(ctx, what, part, try); err != nil {
			return err
		}
	}
	if t.bad == before {
		t.expect(false, "%s: only together: %.400s: %v", what, b.names(), err)
	}
	return nil
}

// look starts a throwaway database and queries the settings, those about the log first if only some are wanted.
func (t *Trial) look(ctx context.Context) ([]setting, error) {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return nil, err
	}
	defer s.Kill()
	all, err := s.settings(ctx)
	if err != nil || t.o.Size == 0 || t.o.Size >= len(all) {
		return all, err
	}
	var first, rest []setting
	for _, g := range all {
		if strings.HasPrefix(g.category, "Write-Ahead Log") || strings.HasPrefix(g.category, "Replication") || strings.HasPrefix(g.category, "Developer") {
			first = append(first, g)
		} else {
			rest = append(rest, g)
		}
	}
	random := rand.New(rand.NewPCG(t.o.Seed, 4))
	random.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	return append(first, rest...)[:t.o.Size], nil
}

// inBatches returns the settings, each with a value, in batches of a few dozen.
func inBatches(all []setting, value func(setting) string) []batch {
	const each = 48
	var batches []batch
	for i, g := range all {
		if i%each == 0 {
			batches = append(batches, batch{})
		}
		b := &batches[len(batches)-1]
		b.values = append(b.values, [2]string{g.name, value(g)})
	}
	return batches
}

func settingsSweep(ctx context.Context, t *Trial) error {
	all, err := t.look(ctx)
	if err != nil {
		return err
	}
	for i, b := range inBatches(all, setting.changed) {
		t.progress("settings %d to %d of %d", i*48, i*48+len(b.values), len(all))
		for what, try := range map[string]func(context.Context, *batch) error{"SET": t.bySet, "ALTER SYSTEM": t.bySystem, "-set": t.byFlag} {
			if err := t.bisect(ctx, what, b, try); err != nil {
				return err
			}
		}
	}
	return nil
}

// survives kills the server, opens the database again, and holds the rows found against those acknowledged.
func (s *server) survives(ctx context.Context, acked int, flags ...string) (*server, error) {
	next, err := s.crash(ctx, flags...)
	if err != nil {
		return nil, err
	}
	n, err := next.countMildly(ctx, "swept")
	if err != nil {
		next.Kill()
		return nil, fmt.Errorf("after a kill: %w", err)
	}
	s.t.mu.Lock()
	s.t.acked += acked
	s.t.lost += max(0, acked-n)
	s.t.mu.Unlock()
	if n != acked {
		next.Kill()
		return nil, fmt.Errorf("of %d acknowledged rows only %d are there after a kill", acked, n)
	}
	return next, nil
}

const sweptTable = "CREATE TABLE swept (id int)"

// bySet: SET each, a row under each, kill, wake.
func (t *Trial) bySet(ctx context.Context, b *batch) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	defer s.Kill()
	c, err := s.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	if err := execOn(ctx, c, sweptTable); err != nil {
		return err
	}
	acked := 0
	for _, v := range b.values {
		if execOn(ctx, c, "SET "+v[0]+" = "+quoted(v[1])) != nil {
			continue // the error is the answer
		}
		b.kept++
		if execOn(ctx, c, "INSERT INTO public.swept VALUES (1)") == nil {
			acked++
		} else if err := execOn(ctx, c, "RESET "+v[0]); err != nil {
			return fmt.Errorf("nothing can be written after SET %s, nor can it be reset: %w", v[0], err)
		}
	}
	for range 3 {
		if execOn(ctx, c, "INSERT INTO public.swept SELECT generate_series(1, 1000)") == nil {
			acked += 1000
		}
		_ = execOn(ctx, c, "CHECKPOINT") // the session may have ended by now: it was idle
	}
	next, err := s.survives(ctx, acked)
	if err == nil {
		next.Kill()
	}
	return err
}

// bySystem: ALTER SYSTEM SET each, reload, rows, kill, wake with all of them in force, rows, kill, wake.
func (t *Trial) bySystem(ctx context.Context, b *batch) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	defer func() { s.Kill() }()
	if err := s.exec(ctx, sweptTable); err != nil {
		return err
	}
	if err := s.alterSystem(ctx, b); err != nil {
		return err
	}
	acked := 0
	for range 2 {
		n, err := s.write(ctx, "swept", 5)
		if err != nil && !turnedAway(err) {
			return err
		}
		acked += n
		next, err := s.survives(ctx, acked) // with a setting that turns everybody away left out
		if err != nil {
			return err
		}
		s = next
	}
	return nil
}

// turnedAway says that PostgreSQL itself has ended a session before it began, and why.
func turnedAway(err error) bool {
	var connect *pgconn.ConnectError
	var e *pgconn.PgError
	return errors.As(err, &connect) && errors.As(err, &e)
}

func (s *server) alterSystem(ctx context.Context, b *batch) error {
	c, err := s.connect(ctx, "postgres")
	if err != nil {
		return err
	}
	defer c.Close(context.WithoutCancel(ctx))
	for _, v := range b.values {
		if execOn(ctx, c, "ALTER SYSTEM SET "+v[0]+" = "+quoted(v[1])) == nil {
			b.kept++
		}
	}
	return execOn(ctx, c, "SELECT pg_reload_conf()")
}

// byFlag: -set each; what is refused must be named, and is then left out.
func (t *Trial) byFlag(ctx context.Context, b *batch) error {
	left := append([][2]string{}, b.values...)
	for {
		s, err := t.underSettings(ctx, left)
		if err == nil {
			return s.underFlags(ctx, b, len(left))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		at, err := t.culprit(ctx, left, err)
		if err != nil {
			return err
		}
		left = append(left[:at:at], left[at+1:]...)
	}
}

// underSettings starts a server on a new database with flags, and creates the table.
func (t *Trial) underSettings(ctx context.Context, values [][2]string) (*server, error) {
	flags := []string{}
	for _, v := range values {
		flags = append(flags, "-set", v[0]+"="+v[1])
	}
	s, err := t.start(ctx, t.fresh(), flags...)
	if err != nil {
		return nil, err
	}
	c, err := s.mildly(ctx)
	if err == nil {
		err = errors.Join(execOn(ctx, c, sweptTable), c.Close(context.WithoutCancel(ctx)))
	}
	if err != nil {
		s.Kill()
		return nil, err
	}
	return s, nil
}

// culprit finds the setting that a server did not start with: the one named by the error or, if it names all that were given, the last of
// the fewest that fail. By itself the setting must be named.
func (t *Trial) culprit(ctx context.Context, left [][2]string, failed error) (int, error) {
	var at []int
	for i, v := range left {
		if named(failed.Error(), strings.ToLower(v[0])) {
			at = append(at, i)
		}
	}
	if len(at) == 1 {
		return at[0], nil
	}
	low, high := 0, len(left) // low settings start, high do not
	for high-low > 1 {
		middle := (low + high) / 2
		s, err := t.underSettings(ctx, left[:middle])
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil {
			high = middle
			continue
		}
		s.Kill()
		low = middle
	}
	s, err := t.underSettings(ctx, left[low:high])
	if err == nil {
		s.Kill()
		_, own, _ := strings.Cut(failed.Error(), "start PostgreSQL") // what PostgreSQL itself says, after the list of all
		if named(own, strings.ToLower(left[low][0])) {
			return low, nil // only together with others, such as a second recovery target
		}
		return 0, fmt.Errorf("it does not start with %d settings, and with none of them alone: %w", high, failed)
	}
	if !named(err.Error(), strings.ToLower(left[low][0])) {
		return 0, fmt.Errorf("it does not start, and the setting is not named: %w", err)
	}
	return low, nil
}

// named says whether a text names a setting, in any case of letters, and not only one whose name holds it.
func named(text, name string) bool {
	text = strings.ToLower(text)
	if name == "transaction_timeout" && strings.Contains(text, "due to transaction timeout") {
		return true
	}
	for i := strings.Index(text, name); i >= 0; {
		end := i + len(name)
		word := func(at int) bool {
			return at >= 0 && at < len(text) && (text[at] == '_' || text[at] >= 'a' && text[at] <= 'z')
		}
		if !word(i-1) && !word(end) {
			return true
		}
		next := strings.Index(text[end:], name)
		if next < 0 {
			return false
		}
		i = end + next
	}
	return false
}

func (s *server) underFlags(ctx context.Context, b *batch, kept int) error {
	defer s.Kill()
	b.kept = kept
	acked, err := s.write(ctx, "swept", 5)
	if err != nil {
		return err
	}
	next, err := s.survives(ctx, acked, s.flags...)
	if err == nil {
		next.Kill()
	}
	return err
}

func alterSystemSweep(ctx context.Context, t *Trial) error {
	all, err := t.look(ctx)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(t.o.Seed, 11))
	for _, which := range []string{"greatest", "least", "odd"} {
		for i, b := range inBatches(all, func(g setting) string { return g.extreme(which, random) }) {
			t.progress("ALTER SYSTEM, %s values, settings %d to %d of %d", which, i*48, i*48+len(b.values), len(all))
			if err := t.bisect(ctx, "ALTER SYSTEM, "+which, b, t.opensAgain); err != nil {
				return err
			}
		}
	}
	return nil
}

// opensAgain: ALTER SYSTEM SET each, kill, wake: it opens within a bound, with its rows, and takes more.
func (t *Trial) opensAgain(ctx context.Context, b *batch) error {
	s, err := t.start(ctx, t.fresh())
	if err != nil {
		return err
	}
	defer func() { s.Kill() }()
	if err := s.exec(ctx, sweptTable); err != nil {
		return err
	}
	acked, err := s.write(ctx, "swept", 1)
	if err != nil {
		return err
	}
	if err := s.alterSystem(ctx, b); err != nil && sqlState(err) == "" {
		return err // refused is an answer, gone is not
	}
	opening, cancel := context.WithTimeout(ctx, statementLimit)
	defer cancel()
	next, err := s.survives(opening, acked)
	if err != nil {
		return err
	}
	s = next
	_, err = s.write(ctx, "swept", 1)
	return err
}
