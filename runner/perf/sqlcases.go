package perf

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgproto3"
)

// sqlCase is one thing measured on both sides with the same bytes.
type sqlCase struct {
	name   string
	before []string           // SQL, not measured
	calls  int                // how many messages are measured
	call   func(i int) []byte // the i-th of them
	each   bool               // the figure is the time of one call, not of all
	after  []string           // SQL, not measured
}

// startCase is the case without SQL.
const startCase = "start"

// sqlCases are the cases after the start, in an order in which each finds what it needs.
func sqlCases(rows int) []sqlCase {
	one := func(sql string) func(int) []byte {
		m := query(sql)
		return func(int) []byte { return m }
	}
	return []sqlCase{
		{name: "select1", calls: 3000, each: true, call: one("SELECT 1")},
		{
			name: "prepared_insert", calls: 3000, each: true,
			before: []string{"CREATE TABLE p (id int PRIMARY KEY, v text)", "PREPARE warm AS SELECT 1"},
			call:   preparedInsert,
			after:  []string{"DROP TABLE p", "DEALLOCATE ALL"},
		},
		{name: "error", calls: 1000, each: true, call: one("SELEC 1")},
		{
			name: "insert_10k", calls: 10_000, before: []string{"CREATE TABLE i (id int PRIMARY KEY, v text)"},
			call:  func(i int) []byte { return query(fmt.Sprintf("INSERT INTO i VALUES (%d, 'value %d')", i, i)) },
			after: []string{"DROP TABLE i"},
		},
		{
			name: "bulk_insert", calls: 1, before: []string{"CREATE TABLE b (id int PRIMARY KEY, grp int, n int, v text)"},
			call:  one(fmt.Sprintf("INSERT INTO b SELECT g, g %% 1000, (g::bigint * 7919 %% %d)::int, md5(g::text) FROM generate_series(1, %d) g", rows, rows)),
			after: []string{"ANALYZE b", "SELECT count(*) FROM b"},
		},
		{name: "scan", calls: 6, each: true, call: one("SELECT count(*), sum(n), min(v), max(grp) FROM b")},
		{
			name: "join", calls: 6, each: true, before: []string{"SET enable_mergejoin = off", "SET enable_nestloop = off"},
			call: one("SELECT count(*), sum(x.n) FROM b x JOIN b y ON x.id = y.n"), after: []string{"RESET ALL"},
		},
		{name: "sort", calls: 6, each: true, call: one("SELECT count(*) FROM (SELECT n, id FROM b ORDER BY n, id OFFSET 0) s")},
		{
			name: "lookup", calls: 3000, each: true,
			call: func(i int) []byte { return query(fmt.Sprintf("SELECT v FROM b WHERE id = %d", i*7919%rows+1)) },
		},
	}
}

func query(sql string) []byte {
	b, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err != nil {
		panic(err) // only a text of gigabytes
	}
	return b
}

// preparedInsert is Bind, Execute, Sync of a statement that the first call prepares.
func preparedInsert(i int) []byte {
	var b []byte
	messages := []pgproto3.FrontendMessage{
		&pgproto3.Bind{PreparedStatement: "ins", Parameters: [][]byte{fmt.Append(nil, i), fmt.Appendf(nil, "value %d", i)}},
		&pgproto3.Execute{}, &pgproto3.Sync{},
	}
	if i == 0 {
		messages = append([]pgproto3.FrontendMessage{&pgproto3.Parse{Name: "ins", Query: "INSERT INTO p VALUES ($1::int, $2)"}}, messages...)
	}
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			panic(err) // only a value of gigabytes
		}
	}
	return b
}
