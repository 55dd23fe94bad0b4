package pglite

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// answersVariable tells a child process of these tests where to write its answers.
const answersVariable = "BLOBPGLITE_TEST_ANSWERS"

// answers are what a process reports about itself and returns for SQL.
type answers struct {
	Checked string // why it checks bounds; empty: it does not
	Huge    bool   // huge pages are requested somewhere
	Rows    map[string]string
}

// tables are the tables for the questions: some hundred rows of all kinds of values, and of repeating bytes.
const tables = `
CREATE EXTENSION IF NOT EXISTS pg_trgm;
SET extra_float_digits = 1; SET timezone = 'UTC'; SET datestyle = 'ISO'; SET max_parallel_workers_per_gather = 0;
CREATE TABLE t AS SELECT g AS id, (g * 7919) % 211 AS k, md5(g::text) AS m, sin(g)::float8 * power(10, g % 40 - 20) AS f, (g::float4 / 7)::float4 AS r,
	(g::numeric ^ 5 / 977)::numeric AS n, CASE WHEN g % 13 = 0 THEN NULL ELSE chr(97 + g % 26) || repeat('é', g % 5) END AS s,
	jsonb_build_object('id', g, 'tags', jsonb_build_array(g % 3, md5((g % 17)::text), NULL), 'deep', jsonb_build_object('x', g / 3.0)) AS j,
	ARRAY[g % 5, g % 7, NULL, g % 11] AS a, timestamptz '2001-02-03 04:05:06.789+00' + g * interval '1 day 7 hours 11.013 seconds' AS d,
	decode(md5(g::text) || md5((g + 1)::text), 'hex') AS b
FROM generate_series(1, 400) g;
CREATE TABLE u AS SELECT g AS k, g * g AS q, 'name ' || g % 30 AS name FROM generate_series(0, 300, 2) g;
CREATE INDEX ON t USING gin (j); CREATE INDEX ON t (k, id); CREATE INDEX ON t USING gin (m gin_trgm_ops); CREATE INDEX ON t USING hash (m); CREATE INDEX ON t USING brin (d);
ANALYZE t; ANALYZE u;`

// questions query them; each answer depends on nothing else.
var questions = []string{
	// floating point
	`SELECT id, f, r, f::text, round(f::numeric, 3), floor(r), sqrt(abs(f)), exp(sin(id)), ln(id), atan2(f, id), cbrt(f) FROM t ORDER BY id`,
	`SELECT sum(f), avg(r), stddev(r), var_pop(f), corr(id, r), regr_slope(id, r), min(f), max(f), sum(r) FROM t`,
	`SELECT x, x::float8 * 0.75, -x::float8, x::float8 = x::float8, x::float8 < 1, x::float8::text FROM unnest(ARRAY['Infinity', '-Infinity', 'NaN', '-0', '5e-324', '1.7976931348623157e308']) x`,
	`SELECT width_bucket(f, -1, 1, 10), count(*), percentile_cont(0.3) WITHIN GROUP (ORDER BY r) FROM t GROUP BY 1 ORDER BY 1`,
	// sorts, in memory and on disk
	`SELECT m, id FROM t ORDER BY m COLLATE "C" DESC, id`,
	`SELECT s, id FROM t ORDER BY s COLLATE "C" NULLS FIRST, f DESC`,
	`SET work_mem = '64kB'; SELECT md5(string_agg(x, ',' ORDER BY x COLLATE "C", y)) FROM (SELECT t.m || u.name AS x, u.q AS y FROM t, u WHERE t.id % 4 = u.k % 4) z; `,
	`RESET work_mem; SELECT id, f FROM t ORDER BY abs(f), id LIMIT 25 OFFSET 10`,
	// joins
	`SET enable_hashjoin = on; SET enable_mergejoin = off; SET enable_nestloop = off; SELECT t.id, u.q, u.name FROM t JOIN u USING (k) ORDER BY 1, 2`,
	`SET enable_hashjoin = off; SET enable_mergejoin = on; SET enable_nestloop = off; SELECT t.id, u.q, u.name FROM t FULL JOIN u USING (k) ORDER BY 1, 2`,
	`SET enable_mergejoin = off; SET enable_nestloop = on; SELECT count(*), sum(t.id * u.q), min(u.name) FROM t JOIN u ON t.k BETWEEN u.k AND u.k + 3`,
	`RESET ALL; SET timezone = 'UTC'; SELECT k FROM t EXCEPT SELECT k::int FROM u INTERSECT SELECT k FROM t ORDER BY 1`,
	// numeric
	`SELECT id, n, n * n, round(n / 3, 30), n % 97, trunc(n, -4), scale(n), div(n, 12345), sqrt(n + 1) FROM t ORDER BY id`,
	`SELECT factorial(120), 2::numeric ^ 300, exp(50.5::numeric), ln(1e50::numeric), 1e-40::numeric * 1e40::numeric, 10::numeric ^ -20, gcd(1e20::numeric, 123456789012::numeric)`,
	`SELECT sum(n), avg(n), stddev(n), sum(id::bigint * 9223372036854775), to_char(sum(n), '999G999G999G999G999D99') FROM t`,
	// jsonb
	`SELECT j, j -> 'tags' ->> 1, j #>> '{deep,x}', j @> '{"tags": [1]}', jsonb_pretty(j - 'tags'), j || '{"new": [true, null]}' FROM t ORDER BY id LIMIT 100`,
	`SELECT jsonb_path_query(j, '$.tags[*] ? (@ != null)'), id FROM t ORDER BY id, 1`,
	`SELECT jsonb_object_agg(id, j -> 'deep' ORDER BY id), jsonb_agg(DISTINCT j -> 'tags' -> 0) FROM t WHERE j @> '{"tags": [2]}'`,
	// regular expressions and text
	`SELECT id, regexp_replace(m, '([0-9]+)([a-f])', '<\2\1>', 'g'), regexp_match(m, '^(.)(.*?)(\d{2,})'), m ~* 'A{2}|b[0-3]+C', regexp_split_to_array(m, '[aeiou]') FROM t ORDER BY id`,
	`SELECT id, m FROM t WHERE m LIKE '%ab%1%' OR m SIMILAR TO '%(00|ff)%' ORDER BY id`,
	`SELECT similarity(a.m, b.m), a.id FROM t a JOIN t b ON b.id = a.id + 1 ORDER BY 1, 2`,
	`SELECT id, upper(s), length(s), reverse(s), s < 'mé', initcap(s || ' ' || m), overlay(m placing 'XX' from 3), translate(m, '0123', 'abc'), format('%s|%10s|%L', id, s, s) FROM t ORDER BY id`,
	`SELECT to_tsvector('english', 'The quick brown foxes were jumping over lazily sleeping dogs ' || name) @@ to_tsquery('jump & dog'), ts_rank(to_tsvector('english', name), to_tsquery('name')), name FROM u ORDER BY k`,
	// arrays, bytes, dates
	`SELECT id, a, a[2:3], array_position(a, 3), a @> ARRAY[1], a && ARRAY[4, 9], array_remove(a, NULL), cardinality(a), array_to_string(a, '-', 'null') FROM t ORDER BY id`,
	`SELECT k % 20, array_agg(DISTINCT id % 9), array_agg(s ORDER BY id) FROM t GROUP BY 1 ORDER BY 1`,
	`SELECT x, count(*) FROM t, unnest(a) WITH ORDINALITY AS e(x, o) GROUP BY 1 ORDER BY 1 NULLS LAST`,
	`SELECT id, encode(b, 'base64'), sha256(b), crc32(b), get_bit(b, 77), hashtext(m), length(b), substring(b from 5 for 9), bit_count(b) FROM t ORDER BY id`,
	`SELECT id, d, date_trunc('week', d), extract(epoch from d), age(d, timestamptz '2000-01-01'), to_char(d, 'IYYY-IW ID HH12:MI:SS.US AM Day') FROM t ORDER BY id`,
	// the executor, and code of other modules
	`SELECT id, k, rank() OVER w, sum(f) OVER (w ROWS BETWEEN 3 PRECEDING AND 1 FOLLOWING), lag(s, 2, 'none') OVER w, ntile(7) OVER (ORDER BY m COLLATE "C") FROM t WINDOW w AS (PARTITION BY k % 10 ORDER BY n, id) ORDER BY id`,
	`WITH RECURSIVE c(i, x) AS (SELECT 1, 27::bigint UNION ALL SELECT i + 1, CASE WHEN x % 2 = 0 THEN x / 2 ELSE 3 * x + 1 END FROM c WHERE x > 1) SELECT * FROM c`,
	`SELECT k % 3, k % 5, count(*), grouping(k % 3, k % 5), sum(n) FROM t GROUP BY CUBE (k % 3, k % 5) ORDER BY 4, 1, 2`,
	`DO $$ DECLARE s bigint := 0; x record; BEGIN FOR x IN SELECT * FROM t ORDER BY id LOOP s := (s * 31 + x.k + length(x.m)) % 1000000007; END LOOP; PERFORM set_config('my.sum', s::text, false); END $$; SELECT current_setting('my.sum')`,
	`UPDATE t SET s = m, n = n + 1 WHERE id % 3 = 0; DELETE FROM t WHERE id % 50 = 7; REINDEX TABLE t; SELECT md5(string_agg(t::text, E'\n' ORDER BY id)), count(*) FROM t`,
	`SELECT int4range(id, id + k) * int4range(100, 200), daterange(d::date, NULL) @> date '2002-02-02' FROM t WHERE k > 0 ORDER BY id`,
}

// ask answers all of them, on a new database.
func ask(t *testing.T) (out answers) {
	t.Helper()
	if err := testRuntime(t).Checked(); err != nil {
		out.Checked = err.Error()
	}
	s := start(t, ClusterOptions{})
	rows(t, s, tables)
	out.Rows = map[string]string{}
	for _, q := range questions {
		out.Rows[q] = rows(t, s, q)
	}
	out.Huge = asksForHugePages(t)
	return out
}

// TestCheckedAnswersTheSame: where address space is limited, or the environment says so, PostgreSQL runs code with bounds checks, says why,
// and gives the same answers as code without. It also gives the same answers on a kernel without huge pages.
func TestCheckedAnswersTheSame(t *testing.T) {
	if path := os.Getenv(answersVariable); path != "" {
		if os.Getenv(noHugePagesVariable) != "" {
			refuseHugePages(t)
		}
		text, err := json.Marshal(ask(t))
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	want := ask(t)
	if want.Checked != "" {
		t.Fatalf("there is no code without checks to compare with: %s", want.Checked)
	}
	lines := 0
	for q, answer := range want.Rows {
		if answer == "" {
			t.Errorf("no answer to %s", q)
		}
		lines += strings.Count(answer, "\n") + 1
	}
	t.Logf("%d questions, %d rows", len(questions), lines)
	const limitKiB = 64 << 20
	for name, c := range map[string]struct{ env, script, checked string }{
		"limited address space": {"", fmt.Sprintf(`ulimit -v %d; exec "$0" "$@"`, limitKiB),
			fmt.Sprintf("address space is limited to %d bytes (ulimit -v), and each session needs ", limitKiB<<10)},
		"by the environment": {"BLOBPGLITE_CHECKED=1", `exec "$0" "$@"`, "BLOBPGLITE_CHECKED is set"},
		"without huge pages": {noHugePagesVariable + "=1", `exec "$0" "$@"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := askChild(t, c.script, c.env)
			if refused := strings.HasPrefix(c.env, noHugePagesVariable); got.Huge != (want.Huge && !refused) {
				t.Errorf("it asks for huge pages: %v", got.Huge)
			}
			if !strings.HasPrefix(got.Checked, c.checked) || c.checked == "" && got.Checked != "" {
				t.Errorf("checked because %q, want %q", got.Checked, c.checked)
			}
			for _, q := range questions {
				if got.Rows[q] != want.Rows[q] {
					t.Errorf("%s:\n%s", q, firstDifference(got.Rows[q], want.Rows[q]))
				}
			}
		})
	}
}

// askChild runs the questions in a process of their own, started by a shell.
func askChild(t *testing.T, script, env string) (out answers) {
	t.Helper()
	path := t.TempDir() + "/answers"
	test, _, _ := strings.Cut(t.Name(), "/")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script, os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), answersVariable+"="+path)
	if env != "" {
		cmd.Env = append(cmd.Env, env)
	}
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range w {
		if i >= len(g) || g[i] != w[i] {
			return fmt.Sprintf("row %d is\n%.400s\nwithout checks\n%.400s", i, strings.Join(g[min(i, len(g)):min(i+1, len(g))], ""), w[i])
		}
	}
	return fmt.Sprintf("%d rows instead of %d", len(g), len(w))
}
