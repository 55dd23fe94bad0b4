package pglite

import "testing"

// USING.md says which collations exist: ICU's all sort like root, and the C library's, whatever their name, like C.
func TestCollations(t *testing.T) {
	in := start(t, ClusterOptions{})
	want(t, in, `CREATE COLLATION swedish (provider = icu, locale = 'sv'); CREATE COLLATION numeric (provider = icu, locale = 'und-u-kn-true');
		SELECT 'ö' < 'z' COLLATE swedish, 'ö' < 'z' COLLATE unicode, 'ö' < 'z' COLLATE "C", 'a10' < 'a9' COLLATE numeric`, "t|t|f|t")
	want(t, in, "SELECT string_agg(collname, ' ' ORDER BY collname COLLATE \"C\") FROM pg_collation WHERE collprovider = 'i' AND collnamespace = 'pg_catalog'::regnamespace", "und-x-icu unicode")
	want(t, in, "SELECT string_agg(collname, ' ' ORDER BY collname COLLATE \"C\") FROM pg_collation WHERE collprovider = 'b'", "pg_c_utf8 pg_unicode_fast ucs_basic")
	want(t, in, `CREATE COLLATION german (provider = libc, locale = 'de_DE.utf8'); CREATE COLLATION nowhere (provider = libc, locale = 'xx_YY');
		SELECT 'ö' < 'z' COLLATE "en_US", 'ö' < 'z' COLLATE german, 'ö' < 'z' COLLATE nowhere, 'a' < 'B' COLLATE "en_US"`, "f|f|f|f")
	want(t, in, `SET lc_time = 'de_DE.utf8'; SET lc_numeric = 'de_DE.utf8'; SELECT to_char(date '2026-05-01', 'TMMonth'), to_char(1.5, '9D9')`, "May| 1.5")
}
