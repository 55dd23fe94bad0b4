package pglite

import "testing"

// README says which collations there are: of ICU's, all sort like root.
func TestCollations(t *testing.T) {
	in := start(t, ClusterOptions{})
	want(t, in, `CREATE COLLATION swedish (provider = icu, locale = 'sv'); CREATE COLLATION numeric (provider = icu, locale = 'und-u-kn-true');
		SELECT 'ö' < 'z' COLLATE swedish, 'ö' < 'z' COLLATE unicode, 'ö' < 'z' COLLATE "C", 'a10' < 'a9' COLLATE numeric`, "t|t|f|t")
	want(t, in, "SELECT string_agg(collname, ' ' ORDER BY collname COLLATE \"C\") FROM pg_collation WHERE collprovider = 'i' AND collnamespace = 'pg_catalog'::regnamespace", "und-x-icu unicode")
	want(t, in, "SELECT string_agg(collname, ' ' ORDER BY collname COLLATE \"C\") FROM pg_collation WHERE collprovider = 'b'", "pg_c_utf8 pg_unicode_fast ucs_basic")
}
