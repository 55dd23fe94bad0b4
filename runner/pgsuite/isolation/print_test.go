package isolation

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

func TestTable(t *testing.T) {
	for _, tt := range []struct {
		name  string
		names []string
		rows  [][]string
		want  string
	}{
		{"no columns", nil, [][]string{nil, nil}, ""},
		{"no rows", []string{"a", "bcd"}, nil, "a|bcd\n-+---\n(0 rows)\n\n"},
		{"numbers stand right", []string{"n", "name"}, [][]string{{"1", "x"}, {"-20.5", "long name"}}, "    n|name     \n-----+---------\n    1|x        \n-20.5|long name\n(2 rows)\n\n"},
		{"what is no number", []string{"a", "b", "c", "d"}, [][]string{{"E5", "5e", "5 ", "1 2"}, {"1", "1", "1", "10:0"}},
			"a |b |c |d   \n--+--+--+----\nE5|5e|5 |1 2 \n1 |1 |1 |10:0\n(2 rows)\n\n"},
		{"nothing is neither", []string{"word", "n"}, [][]string{{"", ""}}, "word|n\n----+-\n    | \n(1 row)\n\n"},
		{"widths are bytes", []string{"é"}, [][]string{{"ab"}, {"ü"}}, "é\n--\nab\nü\n(2 rows)\n\n"},
	} {
		var out strings.Builder
		if table(&out, tt.names, tt.rows); out.String() != tt.want {
			t.Errorf("%s:\n%swant\n%s", tt.name, out.String(), tt.want)
		}
	}
}

func TestMessage(t *testing.T) {
	m := &pgproto3.ErrorResponse{Severity: "ERROR", Message: "it failed", Detail: "so", Hint: "do", Where: "there", Position: 3, InternalQuery: "SELECT"}
	if got, want := message(m, true), "ERROR:  it failed\nDETAIL:  so\nHINT:  do\nQUERY:  SELECT\nCONTEXT:  there\n"; got != want {
		t.Errorf("an error: %q, want %q", got, want)
	}
	m = &pgproto3.ErrorResponse{Severity: "NOTICE", Message: "it is", Where: "there"}
	if got, want := message(m, false), "NOTICE:  it is\n"; got != want {
		t.Errorf("a notice: %q, want %q", got, want)
	}
}
