// Package workload makes the data and the load that experiments use.
//
//	d := workload.Dataset{Bytes: 10_000_000, Seed: 1}
//	in.Query(ctx, d.Load())            // tables, rows, digests: in one transaction
//	results, err := in.Query(ctx, workload.VerifySQL)
//	report, err := workload.ParseVerify(results)
//
// The dataset is a mix of what databases hold: integers, text that compresses, bytes that do not, an index, a sequence, a PL/pgSQL
// function. Rows are grouped in chunks; for each chunk a checksum table has the number of its rows and a digest over all their columns,
// written in the same transaction as the rows.
package workload

import (
	"fmt"
	"strconv"

	"blobpglite/core/pglite"
)

// rowBytes is how much one row of the dataset takes in the database: measured over heap and indexes.
const rowBytes = 796

// chunkRows is how many rows share one digest.
const chunkRows = 500

// Dataset says how much data to make. Equal datasets have equal rows.
type Dataset struct {
	Bytes int64  // approximate size of rows and indexes in the database
	Seed  uint64 // goes into every value
}

// Chunks is the number of chunks that the dataset has.
func (d Dataset) Chunks() int { return int(max(d.Bytes/(rowBytes*chunkRows), 1)) }

// Rows is the number of rows that the dataset has.
func (d Dataset) Rows() int { return d.Chunks() * chunkRows }

// schemaSQL creates the tables and the function that fills a chunk.
const schemaSQL = `
CREATE SEQUENCE row_id;
CREATE TABLE rows (
	id bigint PRIMARY KEY DEFAULT nextval('row_id'),
	chunk int NOT NULL,
	n int NOT NULL,
	text_that_compresses text NOT NULL,
	bytes_that_do_not bytea NOT NULL
);
CREATE INDEX rows_n ON rows (n);
CREATE TABLE checksums (chunk int PRIMARY KEY, row_count bigint NOT NULL, digest text NOT NULL);
ALTER TABLE rows ALTER bytes_that_do_not SET STORAGE EXTERNAL;
CREATE FUNCTION chunk_digest(c int) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT md5(string_agg(md5(id || '|' || n || '|' || text_that_compresses || '|' || encode(bytes_that_do_not, 'hex')), '' ORDER BY id))
	FROM rows WHERE id > c::bigint * %[1]d AND id <= (c + 1)::bigint * %[1]d
$$;
CREATE FUNCTION fill_chunk(c int, seed text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	filled bigint;
BEGIN
	INSERT INTO rows (chunk, n, text_that_compresses, bytes_that_do_not)
	SELECT c, ('x' || left(md5(seed || i), 7))::bit(28)::int, repeat('row ' || i || ' of chunk ' || c || '. ', 18),
		sha512(convert_to(seed || i || 'a', 'UTF8')) || sha512(convert_to(seed || i || 'b', 'UTF8')) ||
		sha512(convert_to(seed || i || 'c', 'UTF8')) || sha512(convert_to(seed || i || 'd', 'UTF8'))
	FROM generate_series(c::bigint * %[1]d + 1, (c + 1)::bigint * %[1]d) i;
	GET DIAGNOSTICS filled = ROW_COUNT;
	INSERT INTO checksums VALUES (c, filled, chunk_digest(c));
END
$$;
`

// Load returns SQL that creates the schema and all rows in one transaction.
func (d Dataset) Load() string {
	return fmt.Sprintf(schemaSQL, chunkRows) + fmt.Sprintf(
		"DO $$ BEGIN FOR c IN 0..%d LOOP PERFORM fill_chunk(c, '%d'); END LOOP; END $$;", d.Chunks()-1, d.Seed)
}

// Statements returns SQL that does the same in single statements, for clients that send one at a time; each fills at most 50 chunks.
func (d Dataset) Statements() []string {
	const each = 50
	schema := fmt.Sprintf(schemaSQL, chunkRows)
	statements := []string{"DO $make$ BEGIN EXECUTE $schema$" + schema + "$schema$; END $make$"}
	for from := 0; from < d.Chunks(); from += each {
		statements = append(statements, fmt.Sprintf("SELECT count(fill_chunk(c, '%d')) FROM generate_series(%d, %d) c", d.Seed, from, min(from+each, d.Chunks())-1))
	}
	return statements
}

// OpenTransactionSQL returns SQL that begins a transaction and writes in it: a chunk beyond the dataset, and a change of every row of the
// first one. A restore must show neither.
func (d Dataset) OpenTransactionSQL() string {
	return fmt.Sprintf("BEGIN; SELECT fill_chunk(%d, 'uncommitted'); UPDATE rows SET n = n + 1 WHERE chunk = 0;", d.Chunks())
}

// VerifySQL computes everything again and compares: one row of counts.
const VerifySQL = `
SELECT
	(SELECT count(*) FROM checksums),
	(SELECT count(*) FROM rows),
	(SELECT count(*) FROM checksums s WHERE s.digest IS DISTINCT FROM chunk_digest(s.chunk)),
	(SELECT coalesce(sum(row_count), 0) FROM checksums),
	(SELECT last_value FROM row_id),
	(SELECT count(*) FROM rows WHERE n >= 0)
`

// Verification is what VerifySQL found.
type Verification struct {
	Chunks     int64 `json:"chunks"`
	Rows       int64 `json:"rows"`
	Mismatched int64 `json:"mismatched"` // chunks whose digest differs
	Summed     int64 `json:"summed"`     // rows according to the checksum table
	Sequence   int64 `json:"sequence"`   // last value of the sequence
	Indexed    int64 `json:"indexed"`    // rows found through the index
}

// ParseVerify reads the answer to VerifySQL.
func ParseVerify(results []pglite.Result) (Verification, error) {
	var v Verification
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != 6 {
		return v, fmt.Errorf("read the verification: %d results where one row of 6 counts was expected", len(results))
	}
	for i, to := range []*int64{&v.Chunks, &v.Rows, &v.Mismatched, &v.Summed, &v.Sequence, &v.Indexed} {
		n, err := strconv.ParseInt(results[0].Rows[0][i], 10, 64)
		if err != nil {
			return v, fmt.Errorf("read the verification: %w", err)
		}
		*to = n
	}
	return v, nil
}

// Check compares what was found with the dataset. An error says what differs.
func (d Dataset) Check(v Verification) error {
	chunks, rows := int64(d.Chunks()), int64(d.Rows())
	switch {
	case v.Mismatched != 0:
		return fmt.Errorf("%d of %d chunks differ from their digest", v.Mismatched, v.Chunks)
	case v.Chunks != chunks || v.Rows != rows || v.Summed != rows:
		return fmt.Errorf("%d rows in %d chunks (checksum table: %d), %d in %d were acknowledged", v.Rows, v.Chunks, v.Summed, rows, chunks)
	case v.Indexed != rows:
		return fmt.Errorf("the index finds %d of %d rows", v.Indexed, rows)
	case v.Sequence < rows:
		return fmt.Errorf("the sequence stands at %d, below the largest id %d", v.Sequence, rows)
	}
	return nil
}
