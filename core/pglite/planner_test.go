package pglite

import (
	"strings"
	"testing"
)

// TestPlannerCosts: costs are sums of floats that pass through many selects; wazero's own code for those made this join cost 46.18, with a
// Memoize. The expected values are PostgreSQL's.
func TestPlannerCosts(t *testing.T) {
	in := start(t, ClusterOptions{})
	rows(t, in, `CREATE TABLE mz1 (id int, b int); INSERT INTO mz1 SELECT generate_series(1,3);
		SET enable_hashjoin = off; SET enable_mergejoin = off`)
	text := rows(t, in, "EXPLAIN SELECT t1.ctid FROM mz1 t1 JOIN mz1 t2 ON t1.ctid = t2.ctid WHERE t1.id = 1")
	if strings.Contains(text, "Memoize") || !strings.Contains(text, "82.50") {
		t.Errorf("the plan is not PostgreSQL's:\n%s", text)
	}
}
