package pglite

import "testing"

// The expected values are those of PostgreSQL 18.6 on x86-64 with the same settings. Floats pass through many selects, which wazero itself
// miscompiles (wasmbin.Mend). Functions whose last digit depends on the C library are left out.

// TestFloats: statistics, comparisons, conversions and geometry.
func TestFloats(t *testing.T) {
	in := start(t, ClusterOptions{})
	rows(t, in, `CREATE TABLE agg (a int2, b float4); INSERT INTO agg VALUES (56,7.8),(100,99.097),(0,0.09561),(42,324.78)`)
	for _, c := range []struct{ sql, want string }{
		{"SELECT stddev_pop(b), stddev_samp(b), var_pop(b), var_samp(b), avg(b) FROM agg",
			"131.10703231895047|151.38936080399804|17189.053923482326|22918.738564643103|107.94315227307379"},
		{"SELECT regr_sxx(b,a), regr_syy(b,a), regr_sxy(b,a), regr_r2(b,a), regr_slope(b,a), regr_intercept(b,a), covar_pop(b,a), covar_samp(b,a), corr(b,a) FROM agg",
			"5099|68756.21569392929|2614.5158215500414|0.019497798203180264|0.5127507004412711|82.56199260123087|653.6289553875104|871.5052738500139|0.1396345165178734"},
		{"SELECT percentile_cont(array[0,0.25,0.37,0.5,0.99,1]) WITHIN GROUP (ORDER BY b::float8) FROM agg",
			"{0.09561000019311905,5.873902643099427,17.842670183181752,53.44850015640259,318.00950881958,324.7799987792969}"},
		{"SELECT array_agg(width_bucket(x::float8, 0, 10, 5) ORDER BY x) FROM generate_series(-1, 11) x", "{0,1,1,2,2,3,3,4,4,5,5,6,6}"},
		{"SELECT greatest('NaN'::float8, 1, '-Infinity'), least('NaN'::float8, 1, '-Infinity'), max(x), min(x) FROM (VALUES ('NaN'::float8), ('Infinity'), (-1e308), (1e-320)) v(x)",
			"NaN|-Infinity|NaN|-1e+308"},
		{"SELECT sum(CASE WHEN i % 3 = 0 THEN sqrt(i) WHEN i % 3 = 1 THEN -ln(i::float8) ELSE exp(1.0::float8 / i) END) FROM generate_series(1, 10000) i", "198202.34461622254"},
		{"SELECT 18446744073709551615::numeric::float8::numeric, (9223372036854775807::int8)::float8, (9223372036854774784::float8)::int8, 16777217::float4",
			"18446744073709600000|9.223372036854776e+18|9223372036854774784|1.6777216e+07"},
		{"SELECT point(1,2) <-> line('{3,4,5}'), circle(point(0,0),2) <-> circle(point(7,1),1.5), lseg(point(0,0),point(3,1)) <-> point(2,5), area(path '((0,0),(4,0),(4,3.5))'), box(point(3,1),point(-1,2.5)) <-> box(point(6,7),point(9,9)), polygon '((0,0),(2,0),(1,3))' <-> point(5,5)",
			"3.2|3.5710678118654755|4.123105625617661|7|9.017344398435718|4.47213595499958"},
		{"SELECT ts_rank('fat:2A cat:5B rat:9'::tsvector, 'fat & rat | cat'), ts_rank_cd('fat:2A cat:5B rat:9'::tsvector, 'fat & rat'), date_part('epoch', age(timestamp '2026-11-28 12:34:56.789', timestamp '1999-02-28 23:00'))",
			"0.30396354|0.025974026|875172896.789"},
	} {
		if got := rows(t, in, c.sql); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.sql, got, c.want)
		}
	}
}
