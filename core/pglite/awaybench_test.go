package pglite

import "testing"

// BenchmarkScan reads a table of 1900 pages, all in memory, which is more than PostgreSQL keeps in its own buffers for a scan.
func BenchmarkScan(b *testing.B) {
	c := startCluster(b, ClusterOptions{Settings: map[string]string{"autovacuum": "off"}})
	conn := dial(b, c)
	value(b, conn, "CREATE TABLE t AS SELECT i, repeat(md5(i::text), 10) AS pad FROM generate_series(1, 40000) i")
	value(b, conn, "VACUUM t")
	for b.Loop() {
		value(b, conn, "SELECT count(pad) FROM t")
	}
}

// BenchmarkRandomReads reads 10000 pages by an index, most of them not in PostgreSQL's own buffers.
func BenchmarkRandomReads(b *testing.B) {
	c := startCluster(b, ClusterOptions{Settings: map[string]string{"autovacuum": "off", "shared_buffers": "1MB", "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}})
	conn := dial(b, c)
	value(b, conn, "CREATE TABLE t AS SELECT i, repeat(md5(i::text), 10) AS pad FROM generate_series(1, 40000) i; CREATE INDEX ON t (i)")
	value(b, conn, "VACUUM t")
	for b.Loop() {
		value(b, conn, "SELECT sum(length(pad)) FROM generate_series(1, 10000) g JOIN t ON t.i = (g * 7919) % 40000")
	}
}
