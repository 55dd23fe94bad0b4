package pglite
import ("testing";"strings";"time";"fmt")
func TestProbe(t *testing.T) {
	for _, kb := range []int{100,200,400,800,1600, 2048} {
	for i, sql := range []string{
	"CREATE FUNCTION deep(i int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN deep(i + 1); END $$; select deep(0)",
	"CREATE FUNCTION deep_sql(i int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT deep_sql(i + 1)'; SELECT deep_sql(0)",
	"SELECT '"+strings.Repeat("[", 200_000)+strings.Repeat("]", 200_000)+"'::json",
	"SELECT 'a' ~ '"+strings.Repeat("(", 100_000)+"a"+strings.Repeat(")", 100_000)+"'",
	"SELECT 'a' ~ '"+strings.Repeat("(a*", 20_000)+"a"+strings.Repeat(")*", 20_000)+"'",
	"SELECT "+strings.Repeat("1+(", 4000)+"1"+strings.Repeat(")", 4000),
	"SELECT "+strings.Repeat("1+", 100000)+"1",
	"SELECT "+strings.Repeat("abs(", 3000)+"1"+strings.Repeat(")", 3000),
	"SELECT * from "+strings.Repeat("(select * from ", 1000)+" (select 1) x "+strings.Repeat(") x", 1000),
	"SELECT '" +strings.Repeat("(", 100000)+"'::tsquery",
	"SELECT 'a' like '" +strings.Repeat("%a", 100000)+"'",
	"with recursive r(x) as (select '{}'::jsonb union all select jsonb_build_object('a', x) from r limit 6000) select max(length(x::text)) from r",
	"CREATE FUNCTION deep2(i int) RETURNS int LANGUAGE plpgsql AS $$ declare r int; BEGIN execute 'select deep2($1+1)' into r using i; return r; exception when division_by_zero then return 1; END $$; select deep2(0)",
	"CREATE TABLE tt(i int); CREATE FUNCTION trig() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN insert into tt values(1); return new; END $$; create trigger x before insert on tt for each row execute function trig(); insert into tt values (1)",
	} {
	in := start(t, InstanceOptions{})
	in.Query(t.Context(), fmt.Sprintf("set max_stack_depth='%dkB'", kb))
	at := time.Now()
	lowest := in.stackPointer.Get()
	_, err := in.Query(t.Context(), sql)
	s := ""
	if in.module != nil { s = fmt.Sprint(lowest) }
	t.Log(kb, i, fmt.Sprintf("%.300v", err), time.Since(at), s)
	in.Kill()
	}}
}
