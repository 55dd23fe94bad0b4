package isolation

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

const small = `
# two sessions
setup { CREATE TABLE t (i int); }
setup { INSERT INTO t VALUES (1); }
teardown { DROP TABLE t; }
session one
setup { BEGIN; }
step a { UPDATE t SET i = 2; }
step b { COMMIT; }
teardown { ROLLBACK; }
session "the other"
step c {
	SELECT * FROM t;
}
step d { SELECT 1; }
`

func TestParse(t *testing.T) {
	s, err := Parse(small + "permutation a c(*) b d(a notices 2, c)\npermutation a b c")
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Setup) != 2 || s.Teardown != "DROP TABLE t;" || len(s.Sessions) != 2 || s.Sessions[1].Name != "the other" || s.Sessions[0].Teardown != "ROLLBACK;" {
		t.Errorf("%+v", s)
	}
	if sql := s.Sessions[1].Steps[0].SQL; sql != "\n\tSELECT * FROM t;\n" { // only blanks of the brace's own line go
		t.Errorf("%q", sql)
	}
	p := s.Permutations[0]
	if len(p) != 4 || !p[1].blockers[0].once || p[3].blockers[0].notices != 2 || p[3].blockers[0].session != 0 || p[3].blockers[1].step != "c" {
		t.Errorf("%+v", p)
	}
	if got := s.unused(); got != nil {
		t.Errorf("%q are said to be unused", got)
	}
	s, err = Parse(small + "permutation b")
	if err != nil || strings.Join(s.unused(), " ") != "a c d" {
		t.Error(s, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "an open brace": "setup { SELECT 1", "no session": "setup { SELECT 1 }", "no such step": small + "permutation a z",
		"a step twice": "session s\nstep a { }\nstep a { }", "an open quote": `session "s`, "a sign": "session s\nstep a { } %", "no name": "session\n{ }",
	} {
		if _, err := Parse(text); !errors.Is(err, ErrSpec) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOrders(t *testing.T) {
	s, err := Parse(small)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	_ = s.orders(func(order []Place) error {
		line := ""
		for _, p := range order {
			line += p.Step.Name
		}
		all = append(all, line)
		return nil
	})
	if got := strings.Join(all, " "); got != "abcd acbd acdb cabd cadb cdab" {
		t.Error(got)
	}
}

func TestPrintRows(t *testing.T) {
	var out strings.Builder
	r := &pgconn.Result{
		FieldDescriptions: []pgconn.FieldDescription{{Name: "id"}, {Name: "name"}, {Name: "n"}},
		Rows:              [][][]byte{{[]byte("1"), []byte("long text"), nil}, {[]byte("-20.5"), []byte("x"), []byte("3")}},
	}
	printRows(&out, r)
	want := "   id|name     |n\n-----+---------+-\n    1|long text| \n-20.5|x        |3\n(2 rows)\n\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	out.Reset()
	printRows(&out, &pgconn.Result{FieldDescriptions: r.FieldDescriptions[:1], Rows: [][][]byte{{[]byte("e5")}}})
	if out.String() != "id\n--\ne5\n(1 row)\n\n" {
		t.Errorf("%q", out.String())
	}
	out.Reset()
	printRows(&out, &pgconn.Result{})
	if out.Len() != 0 {
		t.Errorf("%q", out.String())
	}
}

func TestNotice(t *testing.T) {
	got := notice(&pgconn.Notice{Severity: "WARNING", Message: "m", Detail: "d", Hint: "h", Where: "not shown"})
	if got != "WARNING:  m\nDETAIL:  d\nHINT:  h\n" {
		t.Errorf("%q", got)
	}
}

func TestDiffers(t *testing.T) {
	for _, c := range []struct{ want, got, says string }{
		{"a\nb", "a\nc", `line 2: "c" instead of "b"`}, {"a\nb", "a", `line 2: the end instead of "b"`}, {"a", "a\nb", `line 2: "b" behind the end`},
	} {
		if got := differs(c.want, c.got); got != c.says {
			t.Errorf("%s, want %s", got, c.says)
		}
	}
}
