package pglite

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func bind(statement, portal string, params ...string) *pgproto3.Bind {
	b := &pgproto3.Bind{PreparedStatement: statement, DestinationPortal: portal}
	for _, p := range params {
		b.Parameters = append(b.Parameters, []byte(p))
	}
	return b
}

// quiet starts an instance that has already sent its settings.
func quiet(t testing.TB) *server {
	in := start(t, ClusterOptions{})
	rows(t, in, "CREATE TABLE a (id int PRIMARY KEY, v text)")
	return in
}

func TestExtendedQuery(t *testing.T) {
	in := quiet(t)
	wantLines(t, exchange(t, in,
		&pgproto3.Parse{Name: "add", Query: "INSERT INTO a VALUES ($1, $2) RETURNING id + 1", ParameterOIDs: []uint32{23, 25}},
		&pgproto3.Describe{ObjectType: 'S', Name: "add"}, bind("add", "", "1", "one"), &pgproto3.Describe{ObjectType: 'P'},
		&pgproto3.Execute{}, &pgproto3.Sync{}),
		"ParseComplete", "ParameterDescription", "RowDescription ?column?", "BindComplete", "RowDescription ?column?", "DataRow 2",
		"CommandComplete INSERT 0 1", "ReadyForQuery I")
	// The statement is still there in the next batch, and in one with an error.
	wantLines(t, exchange(t, in, bind("add", "", "1", "again"), &pgproto3.Execute{}, bind("add", "", "2", "two"), &pgproto3.Execute{}, &pgproto3.Sync{},
		bind("add", "", "3", "three"), &pgproto3.Execute{}, &pgproto3.Sync{}),
		"BindComplete", "ErrorResponse ERROR 23505", "ReadyForQuery I",
		"BindComplete", "DataRow 4", "CommandComplete INSERT 0 1", "ReadyForQuery I")
	want(t, in, "SELECT string_agg(v, ',' ORDER BY id) FROM a", "one,three")
	wantLines(t, exchange(t, in, &pgproto3.Close{ObjectType: 'S', Name: "add"}, bind("add", "", "4", "x"), &pgproto3.Sync{}),
		"CloseComplete", "ErrorResponse ERROR 26000", "ReadyForQuery I")
}

func TestExtendedQueryErrors(t *testing.T) {
	in := quiet(t)
	rest := []pgproto3.FrontendMessage{&pgproto3.Execute{}, &pgproto3.Parse{Query: "INSERT INTO a VALUES (9)"}, bind("", ""), &pgproto3.Execute{}, &pgproto3.Sync{}}
	parse := &pgproto3.Parse{Name: "s", Query: "SELECT g, 10 / g FROM generate_series($1::int, 5, 5) g"}
	wantLines(t, exchange(t, in, parse, &pgproto3.Sync{}), "ParseComplete", "ReadyForQuery I")
	for _, c := range []struct {
		name     string
		messages []pgproto3.FrontendMessage
		lines    []string
	}{
		{"parse", []pgproto3.FrontendMessage{&pgproto3.Parse{Query: "SELEC"}, bind("", "")}, []string{"ErrorResponse ERROR 42601"}},
		{"bind: a value that is none", []pgproto3.FrontendMessage{bind("s", "", "x")}, []string{"ErrorResponse ERROR 22P02"}},
		{"bind: a parameter too few", []pgproto3.FrontendMessage{bind("s", "")}, []string{"ErrorResponse ERROR 08P01"}},
		{"bind: no such statement", []pgproto3.FrontendMessage{bind("none", "", "1")}, []string{"ErrorResponse ERROR 26000"}},
		{"execute: no such portal", []pgproto3.FrontendMessage{&pgproto3.Execute{Portal: "none"}}, []string{"ErrorResponse ERROR 34000"}},
		{"execute: the statement fails", []pgproto3.FrontendMessage{bind("s", "", "0")}, []string{"BindComplete", "ErrorResponse ERROR 22012"}},
		{"describe", []pgproto3.FrontendMessage{&pgproto3.Describe{ObjectType: 'S', Name: "none"}}, []string{"ErrorResponse ERROR 26000"}},
		{"parse: the name is taken", []pgproto3.FrontendMessage{parse}, []string{"ErrorResponse ERROR 42P05"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantLines(t, exchange(t, in, append(c.messages, rest...)...), append(c.lines, "ReadyForQuery I")...)
			wantLines(t, exchange(t, in, bind("s", "", "5"), &pgproto3.Execute{}, &pgproto3.Sync{}),
				"BindComplete", "DataRow 5|2", "CommandComplete SELECT 1", "ReadyForQuery I")
		})
	}
	want(t, in, "SELECT count(*) FROM a", "0")
}

func TestPortals(t *testing.T) {
	in := quiet(t)
	wantLines(t, exchange(t, in, &pgproto3.Query{String: "BEGIN"}, &pgproto3.Parse{Name: "g", Query: "SELECT generate_series(1, $1::int)"},
		bind("g", "p", "3"), bind("g", "q", "2"), &pgproto3.Execute{Portal: "p", MaxRows: 2}, &pgproto3.Execute{Portal: "q", MaxRows: 1},
		&pgproto3.Sync{}),
		"CommandComplete BEGIN", "ReadyForQuery T", "ParseComplete", "BindComplete", "BindComplete",
		"DataRow 1", "DataRow 2", "PortalSuspended", "DataRow 1", "PortalSuspended", "ReadyForQuery T")
	wantLines(t, exchange(t, in, &pgproto3.Execute{Portal: "p"}, &pgproto3.Close{ObjectType: 'P', Name: "q"}, &pgproto3.Execute{Portal: "q"}, &pgproto3.Sync{}),
		"DataRow 3", "CommandComplete SELECT 1", "CloseComplete", "ErrorResponse ERROR 34000", "ReadyForQuery E")
	wantLines(t, exchange(t, in, &pgproto3.Query{String: "ROLLBACK"}), "CommandComplete ROLLBACK", "ReadyForQuery I")
}

func TestPipelining(t *testing.T) {
	in := quiet(t)
	messages := []pgproto3.FrontendMessage{&pgproto3.Parse{Name: "add", Query: "INSERT INTO a VALUES ($1, $2)"}}
	lines := []string{"ParseComplete"}
	const n = 500
	for i := range n {
		messages = append(messages, bind("add", "", strconv.Itoa(i), strings.Repeat("x", i)), &pgproto3.Execute{})
		lines = append(lines, "BindComplete", "CommandComplete INSERT 0 1")
		if i%7 == 0 {
			messages, lines = append(messages, &pgproto3.Sync{}), append(lines, "ReadyForQuery I")
		}
	}
	messages = append(messages, &pgproto3.Flush{}, &pgproto3.Sync{})
	wantLines(t, exchange(t, in, messages...), append(lines, "ReadyForQuery I")...)
	want(t, in, "SELECT count(*), sum(length(v)) FROM a", "500|124750")
}

func TestBinaryFormat(t *testing.T) {
	in := quiet(t)
	wantLines(t, exchange(t, in, &pgproto3.Parse{Query: "SELECT $1::int4 + 1", ParameterOIDs: []uint32{23}},
		&pgproto3.Bind{ParameterFormatCodes: []int16{1}, Parameters: [][]byte{{0, 0, 1, 0}}, ResultFormatCodes: []int16{1}},
		&pgproto3.Execute{}, &pgproto3.Sync{}),
		"ParseComplete", "BindComplete", "DataRow \x00\x00\x01\x01", "CommandComplete SELECT 1", "ReadyForQuery I")
}

func TestFunctionCall(t *testing.T) {
	in := quiet(t)
	oid, err := strconv.ParseUint(rows(t, in, "SELECT 'int4pl'::regproc::oid"), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	call := &pgproto3.FunctionCall{Function: uint32(oid), ArgFormatCodes: []uint16{0}, Arguments: [][]byte{[]byte("2"), []byte("3")}}
	wantLines(t, exchange(t, in, call, call), "FunctionCallResponse", "ReadyForQuery I", "FunctionCallResponse", "ReadyForQuery I")
}

func TestCopyOut(t *testing.T) {
	in := quiet(t)
	rows(t, in, "INSERT INTO a VALUES (1, 'x'), (2, NULL), (3, E'tab\\tnew\\nline')")
	wantLines(t, exchange(t, in, &pgproto3.Query{String: "COPY a TO STDOUT"}), "CopyOutResponse",
		`CopyData "1\tx\n"`, `CopyData "2\t\\N\n"`, `CopyData "3\ttab\\tnew\\nline\n"`, "CopyDone", "CommandComplete COPY 3", "ReadyForQuery I")
	wantLines(t, exchange(t, in, &pgproto3.Query{String: "COPY (SELECT id, 10 / (id - 2) FROM a) TO STDOUT"}),
		"CopyOutResponse", `CopyData "1\t-10\n"`, "ErrorResponse ERROR 22012", "ReadyForQuery I")
}

func TestCopyIn(t *testing.T) {
	in := quiet(t)
	wantLines(t, exchange(t, in, &pgproto3.Query{String: "COPY a FROM STDIN"},
		&pgproto3.CopyData{Data: []byte("1\tx\n2\t")}, &pgproto3.CopyData{Data: []byte("\\N\n")}, &pgproto3.CopyDone{},
		&pgproto3.Query{String: "SELECT count(*), count(v) FROM a"}),
		"CopyInResponse", "CommandComplete COPY 2", "ReadyForQuery I",
		"RowDescription count count", "DataRow 2|1", "CommandComplete SELECT 1", "ReadyForQuery I")
	t.Run("by the extended protocol", func(t *testing.T) {
		wantLines(t, exchange(t, in, &pgproto3.Parse{Query: "COPY a FROM STDIN (FORMAT csv)"}, bind("", ""), &pgproto3.Execute{},
			&pgproto3.CopyData{Data: []byte("3,\"a,b\"\n")}, &pgproto3.CopyDone{}, &pgproto3.Sync{}),
			"ParseComplete", "BindComplete", "CopyInResponse", "CommandComplete COPY 1", "ReadyForQuery I")
	})
	t.Run("the client gives up", func(t *testing.T) {
		wantLines(t, exchange(t, in, &pgproto3.Query{String: "COPY a FROM STDIN"}, &pgproto3.CopyData{Data: []byte("4\ty\n")},
			&pgproto3.CopyFail{Message: "no more"}), "CopyInResponse", "ErrorResponse ERROR 57014", "ReadyForQuery I")
	})
	t.Run("a bad row", func(t *testing.T) {
		wantLines(t, exchange(t, in, &pgproto3.Query{String: "COPY a FROM STDIN"}, &pgproto3.CopyData{Data: []byte("x\ty\n")},
			&pgproto3.CopyData{Data: []byte("5\ty\n")}, &pgproto3.CopyDone{}, &pgproto3.Query{String: "SELECT 1"}),
			"CopyInResponse", "ErrorResponse ERROR 22P02", "ReadyForQuery I", "RowDescription ?column?", "DataRow 1", "CommandComplete SELECT 1", "ReadyForQuery I")
	})
	want(t, in, "SELECT string_agg(id::text, ',' ORDER BY id) FROM a", "1,2,3")
}

func TestCopyLargeBothWays(t *testing.T) {
	in := quiet(t)
	const n = 200_000
	var text bytes.Buffer
	messages := encode(t, &pgproto3.Query{String: "COPY a FROM STDIN"})
	for i := range n {
		text.WriteString(strconv.Itoa(i) + "\tvalue " + strconv.Itoa(i*7919) + "\n")
		if text.Len() > 30_000 || i == n-1 {
			messages = append(messages, encode(t, &pgproto3.CopyData{Data: text.Bytes()})...)
			text.Reset()
		}
	}
	messages = append(messages, encode(t, &pgproto3.CopyDone{})...)
	var out bytes.Buffer
	if err := in.Exec(t.Context(), messages, &out); err != nil {
		t.Fatal(err)
	}
	wantLines(t, transcript(t, out.Bytes()), "CopyInResponse", "CommandComplete COPY 200000", "ReadyForQuery I")
	var got sizes
	if err := in.Exec(t.Context(), encode(t, &pgproto3.Query{String: "COPY a TO STDOUT"}), &got); err != nil {
		t.Fatal(err)
	}
	if want := len(messages); got.total < want {
		t.Fatalf("%d bytes came back of %d", got.total, want)
	}
}

// sizes is a client that only counts.
type sizes struct{ total, largest, pieces int }

func (s *sizes) Write(p []byte) (int, error) {
	s.total += len(p)
	s.largest = max(s.largest, len(p))
	s.pieces++
	return len(p), nil
}
