package workload

import (
	"context"
	"fmt"
	"strings"

	"blobpglite/core/engine"
)

// Rows of the databases made by these verbs: text of hexadecimal digits, which PostgreSQL keeps in the row and zstd compresses to half.
const (
	PageRowBytes = 850
	pagePad      = "(SELECT string_agg(md5((g * 31 + i)::text), '') FROM generate_series(1, 24) i)"
)

// PageRows makes a table of size bytes whose pages do not change unless they are written.
func PageRows(ctx context.Context, e *engine.Engine, size int64) (rows int, err error) {
	rows = int(size / PageRowBytes)
	for _, sql := range PageStatements(rows) {
		if _, err := e.Query(ctx, sql); err != nil {
			return 0, err
		}
	}
	return rows, e.Compact(ctx)
}

// PagePadOf returns the SQL of the text in the row of a number.
func PagePadOf(number string) string { return strings.ReplaceAll(pagePad, "g * 31", number+" * 31") }

// PageBatch is how many rows one statement makes.
const PageBatch = 50_000

// PageStatements returns the SQL that makes the table.
func PageStatements(rows int) []string {
	statements := []string{"CREATE TABLE p (id int, n int NOT NULL DEFAULT 0, pad text)"}
	for first := 1; first <= rows; first += PageBatch {
		statements = append(statements, fmt.Sprintf("INSERT INTO p SELECT g, 0, %s FROM generate_series(%d, %d) g", pagePad, first, min(first+PageBatch-1, rows)))
	}
	return append(statements, "ALTER TABLE p ADD PRIMARY KEY (id)", "VACUUM (FREEZE, ANALYZE) p")
}
