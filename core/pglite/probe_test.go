package pglite
import ("testing";"strings";"time";"fmt")
func TestProbe(t *testing.T) {
	for _, kb := range []int{500, 550, 600,650,700, 750} {
	for i, sql := range []string{
	"CREATE FUNCTION deep_sql(i int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT deep_sql(i + 1)'; SELECT deep_sql(0)",
	} {
	in := start(t, InstanceOptions{})
	in.Query(t.Context(), fmt.Sprintf("set max_stack_depth='%dkB'", kb))
	at := time.Now()
	_, err := in.Query(t.Context(), sql)
	t.Log(kb, i, fmt.Sprintf("%.300v", err), time.Since(at))
	in.Kill()
	}}
	for _, kb := range []int{100, 500} {
	for i, sql := range []string{
	"SELECT length(repeat('[', 400_000)::json::text)",
	"SELECT length(repeat('[', 1_000_000)::json::text)",
	"SELECT length(repeat('[', 5_000_000)::json::text)",
	"SELECT length((repeat('[', 200_000)||repeat(']', 200_000))::jsonb::text)",
	"SELECT length((repeat('[', 500_000)||repeat(']', 500_000))::jsonb::text)",
	"SELECT length((repeat('[', 5_000_000)||repeat(']', 5_000_000))::jsonb::text)",
	"SELECT length(repeat('{\"a\":', 5_000_000)::json::text)",
	"SELECT length(repeat('{\"a\":', 5_000_000)::jsonb::text)",
	"SELECT ("+strings.Repeat("'", 0)+ "repeat('!', 5000000) || 'a')::tsquery",
	"SELECT ("+"repeat('(', 5000000) || 'a')::tsquery",
	"SELECT (repeat('<a>', 1000000) || repeat('</a>', 1000000))::xml",
	"SELECT repeat('{', 1000000)::int[]",
	"SELECT 'a' ~ repeat('(', 10000000)",
	"SELECT 'a' ~ (repeat('(a|', 1000000)||repeat(')', 1000000))",
	"SELECT 'a' ~ (repeat('(?=a', 1000000)||repeat(')', 1000000))",
	"SELECT repeat('a', 10000) like repeat('%a', 1000000)",
	"SELECT (repeat('$.a ? (', 1000000))::jsonpath",
	"SELECT (repeat('(', 10000000))::jsonpath",
	"SELECT (repeat('-', 10000000)||'1')::jsonpath",
	"DO $x$ BEGIN EXECUTE 'select ' || repeat('not ', 100000) || ' true'; END $x$",
	"DO $x$ BEGIN EXECUTE 'select 1' || repeat(' union all select 1', 20000) ; END $x$",
	"DO $x$ BEGIN EXECUTE 'select true' || repeat(' and true or false', 50000) ; END $x$",
	"DO $x$ BEGIN EXECUTE 'select 1' || repeat('::int', 50000) ; END $x$",
	"DO $x$ BEGIN EXECUTE 'select ''a''' || repeat('||''a''', 50000) ; END $x$",
	"DO $x$ BEGIN EXECUTE 'select case ' || repeat(' when random()=2 then 3', 50000) || ' end' ; END $x$",
	"DO $x$ BEGIN EXECUTE repeat('select * from (', 5000) || 'select 1 ' || repeat(') x', 5000) ; END $x$",
	} {
	in := start(t, InstanceOptions{})
	in.Query(t.Context(), fmt.Sprintf("set max_stack_depth='%dkB'", kb))
	at := time.Now()
	_, err := in.Query(t.Context(), sql)
	t.Log(kb, i, fmt.Sprintf("%.300v", err), time.Since(at))
	in.Kill()
	}}
}
