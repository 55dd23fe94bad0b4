package engine

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"blobpglite/core/pglite"
	"blobpglite/core/store/mem"
)

var updateSettings = flag.Bool("update-settings", false, "add settings that are not in the list as harmless: only after they were tried")

// settingsList names every setting of PostgreSQL and its class here: pinned (pglite.Pins), honoured (something was built for it), inside
// (PostgreSQL's own, cannot be set), refused (PostgreSQL does not start with the other value that is tried), or harmless: with an unusual
// value, acknowledged data is there after a crash.
const settingsList = "testdata/settings.txt"

// setting is a row of pg_settings.
type setting struct{ name, context, kind, value, least, most, enums string }

func allSettings(t *testing.T, e *Engine) []setting {
	t.Helper()
	results, err := e.Query(t.Context(), `SELECT name, context, vartype, setting, coalesce(min_val, ''), coalesce(max_val, ''),
		coalesce(array_to_string(enumvals, ','), '') FROM pg_settings WHERE name NOT LIKE '%.%' ORDER BY name`)
	if err != nil {
		t.Fatal(err)
	}
	var all []setting
	for _, r := range results[0].Rows {
		all = append(all, setting{r[0], r[1], r[2], r[3], r[4], r[5], r[6]})
	}
	return all
}

// other is another value of a setting.
func (s setting) other() string {
	switch s.kind {
	case "bool":
		return map[string]string{"on": "off", "off": "on"}[s.value]
	case "enum":
		for v := range strings.SplitSeq(s.enums, ",") {
			if v != s.value {
				return v
			}
		}
	case "integer", "real":
		if s.value != s.least {
			return s.least
		}
		if n, err := strconv.ParseFloat(s.value, 64); err == nil {
			return strconv.FormatFloat(n+1, 'f', -1, 64)
		}
	}
	return "x"
}

// TestEverySetting: each setting of this PostgreSQL is in the list, and those that are called harmless are.
func TestEverySetting(t *testing.T) {
	t.Parallel()
	body, err := os.ReadFile(settingsList)
	if err != nil && !*updateSettings {
		t.Fatal(err)
	}
	classes := map[string]string{}
	for line := range strings.Lines(string(body)) {
		if f := strings.Fields(line); len(f) == 2 {
			classes[f[0]] = f[1]
		}
	}
	e := open(t, mem.New(mem.Options{}), inLog)
	all := allSettings(t, e)
	var session, start, refused []setting
	for _, s := range all {
		class := classes[s.name]
		pinned := slices.ContainsFunc(pglite.Pins(), func(p pglite.Pin) bool { return p.Name == s.name })
		switch {
		case class == "" && *updateSettings:
			class = "harmless"
			if pinned {
				class = "pinned"
			} else if s.context == "internal" {
				class = "inside"
			}
			body = fmt.Appendf(body, "%s %s\n", s.name, class)
		case class == "":
			t.Errorf("setting %s is new: find out whether it changes what reaches the log, and pin it or add it to %s", s.name, settingsList)
		}
		switch {
		case (class == "pinned") != pinned, (class == "inside") != (s.context == "internal"):
			t.Errorf("setting %s is called %s in %s; pinned: %t, context: %s", s.name, class, settingsList, pinned, s.context)
		case class == "refused":
			refused = append(refused, s)
		case class != "harmless":
		case s.context == "user" || s.context == "superuser":
			session = append(session, s)
		default:
			start = append(start, s)
		}
		delete(classes, s.name)
	}
	for name := range classes {
		t.Errorf("%s has a setting %s, which PostgreSQL has not", settingsList, name)
	}
	if *updateSettings {
		if err := os.WriteFile(settingsList, body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	e.Abandon()
	for some := range slices.Chunk(session, 60) {
		trySession(t, some)
	}
	for some := range slices.Chunk(start, 12) {
		tryStart(t, some)
	}
	for _, s := range refused {
		_, err := tryOpen(t, mem.New(mem.Options{}), inLog, settings(s.name, s.other()))
		if err == nil || !strings.Contains(err.Error(), s.name+"="+s.other()) {
			t.Errorf("%s is called refused in %s; PostgreSQL's start with %s: %v", s.name, settingsList, s.other(), err)
		}
	}
	t.Logf("%d settings of sessions and %d of starts were tried; with %d others PostgreSQL does not start", len(session), len(start), len(refused))
}

// trySession commits under another value of each setting, and crashes.
func trySession(t *testing.T, some []setting) {
	t.Helper()
	st := mem.New(mem.Options{})
	e := open(t, st, inLog)
	must(t, e, "CREATE TABLE t (a text PRIMARY KEY, b text)")
	var kept []string
	for i, s := range some {
		if _, err := e.Query(t.Context(), fmt.Sprintf("SET %s = '%s'", s.name, s.other())); err != nil {
			continue // PostgreSQL does not take this value
		}
		_, err := e.Query(t.Context(), fmt.Sprintf("INSERT INTO t SELECT '%s', repeat(md5(g::text), 500) FROM generate_series(1, 1) g", s.name))
		if err == nil {
			kept = append(kept, s.name)
		}
		if i%10 == 9 {
			_, _ = e.Query(t.Context(), "CHECKPOINT")
		}
		if _, err := e.Query(t.Context(), "RESET "+s.name); err != nil {
			must(t, e, "ROLLBACK; RESET ALL")
		}
	}
	e.Abandon()
	e = open(t, st, inLog)
	got := strings.Split(must(t, e, "SELECT string_agg(a, ',') FROM t"), ",")
	for _, name := range kept {
		if !slices.Contains(got, name) {
			t.Errorf("what was committed with another %s is gone", name)
		}
	}
	e.Abandon()
}

// tryStart commits on a PostgreSQL that was started with other values, and crashes.
func tryStart(t *testing.T, some []setting) {
	t.Helper()
	st := mem.New(mem.Options{})
	var pairs, names []string
	for _, s := range some {
		pairs, names = append(pairs, s.name, s.other()), append(names, s.name)
	}
	e, err := tryOpen(t, st, inLog, settings(pairs...))
	if err != nil {
		if len(some) == 1 {
			t.Errorf("PostgreSQL does not start with another value of %s: call it refused in %s if that is its own doing: %v", names[0], settingsList, err)
			return
		}
		tryStart(t, some[:len(some)/2])
		tryStart(t, some[len(some)/2:])
		return
	}
	const work = "INSERT INTO t SELECT g, repeat('x', 400) FROM generate_series(1, 3000) g"
	for _, sql := range []string{"CREATE TABLE t (a int, b text)", work, "CHECKPOINT", work, work} {
		if _, err := e.Query(t.Context(), sql); err != nil {
			t.Fatalf("%s with %v: %v", sql, pairs, err)
		}
	}
	e.Abandon()
	e = open(t, st, inLog, settings(pairs...))
	if got := must(t, e, "SELECT count(*) FROM t"); got != "9000" {
		t.Errorf("%s of 9000 rows are left with other values of %s", got, strings.Join(names, ", "))
	}
	e.Abandon()
}
