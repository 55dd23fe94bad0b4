package layout

import (
	"reflect"
	"testing"

	"blobpglite/core/pglite/internal/wasmbin"
)

// Every rule's shape can be read.
func TestShapesOfRules(t *testing.T) {
	for _, r := range rules() {
		if r.shape == "" && r.is == "" {
			t.Errorf("%s %q finds nothing", r.in.how, r.in.names)
		}
		if r.shape == "" {
			continue
		}
		if _, err := parseShape(r.shape); err != nil {
			t.Error(err)
		}
	}
}

func TestShapeMistakes(t *testing.T) {
	for _, text := range []string{
		"", "i32.load(", "i32.load(_", "i32.load(_ _)", "i32.load(_,)", `i32.load("text)`, "drop(_) drop(_)", "drop(_);", "f$(_)", "$", "&",
		"i32.load+(_)", "i32.load+x(_)", "12x", "-", "!", "drop(!)",
	} {
		if s, err := parseShape(text); err == nil {
			t.Errorf("%q was read as %+v", text, s.parts)
		}
	}
}

// Expressions for tests.
func node(op byte, value int64, args ...*wasmbin.Expr) *wasmbin.Expr {
	return &wasmbin.Expr{Op: op, Value: value, Args: args}
}
func num(v int64) *wasmbin.Expr                         { return node(opConst, v) }
func local(i int64) *wasmbin.Expr                       { return node(opLocalGet, i) }
func tee(i int64, a *wasmbin.Expr) *wasmbin.Expr        { return node(opLocalTee, i, a) }
func call(f int64, args ...*wasmbin.Expr) *wasmbin.Expr { return node(opCall, f, args...) }
func load(off uint32, at *wasmbin.Expr) *wasmbin.Expr {
	return &wasmbin.Expr{Op: 0x28, Off: off, Args: []*wasmbin.Expr{at}}
}
func store(off uint32, at, v *wasmbin.Expr) *wasmbin.Expr {
	return &wasmbin.Expr{Op: 0x36, Off: off, Args: []*wasmbin.Expr{at, v}}
}
func add(a, b *wasmbin.Expr) *wasmbin.Expr     { return node(opAdd, 0, a, b) }
func drop(a *wasmbin.Expr) *wasmbin.Expr       { return node(0x1a, 0, a) }
func row(all ...*wasmbin.Expr) []*wasmbin.Expr { return all }

func TestSearch(t *testing.T) {
	p := &program{memory: []byte("....\x00text\x00")}
	known := func(mark string) (int64, bool) {
		v, ok := map[string]int64{"$Known": 2000, "f$known": 7, "&known": 9, "$A.known": 4}[mark]
		return v, ok
	}
	for _, tt := range []struct {
		shape string
		row   []*wasmbin.Expr
		want  []found
	}{
		{"drop(_)", row(drop(nil)), []found{{}}},
		{"drop(1)", row(drop(num(1))), []found{{}}},
		{"drop(-1)", row(drop(num(1))), nil},
		{"drop(-1)", row(drop(node(opConst64, -1))), []found{{}}},
		{`f$known("text")`, row(call(7, num(5))), []found{{}}},
		{`f$known("text")`, row(call(7, num(6))), nil},                          // the end of it
		{`f$known("text")`, row(call(7, num(1<<31)), call(7, num(1<<62))), nil}, // beyond memory
		{`f$known("text")`, row(call(7, add(local(1), num(5)))), []found{{}}},   // a local that is zero
		{`f$known("text")`, row(call(8, num(5))), nil},
		{`f$new(&known, &new)`, row(call(8, num(9), num(10))), []found{{"f$new": 8, "&new": 10}}},
		{`f$new(&known, &new)`, row(call(8, num(8), num(10))), nil},
		{"i32.load($New)", row(drop(load(4, num(1000)))), []found{{"$New": 1004}}},
		{"i32.load($New)", row(drop(load(4, tee(1, num(1000))))), []found{{"$New": 1004}}},
		{"i32.load($New)", row(drop(load(4, local(1)))), nil},
		{"i32.load($Known)", row(drop(load(0, num(1000)))), nil},
		{"i32.load($Known)", row(drop(load(1000, num(1000)))), []found{{}}},
		{"i32.load(_)", row(drop(load(4, local(1)))), nil}, // an offset must be matched
		{"i32.load+_(_)", row(drop(load(4, local(1)))), []found{{}}},
		{"i32.load+$A.known(%x)", row(drop(load(4, local(1)))), []found{{}}},
		{"i32.load+$A.known(%x)", row(drop(load(8, local(1)))), nil},
		{"i32.load+$A.new(i32.load($Known))", row(drop(load(8, load(0, num(2000))))), []found{{"$A.new": 8}}},
		{"i32.load(tee %x($New))", row(drop(load(0, tee(3, num(1000))))), []found{{"$New": 1000}}},
		{"i32.load(tee %x($New)); drop(%x)", row(load(0, tee(3, num(1000))), drop(local(3))), []found{{"$New": 1000}}},
		{"i32.load(tee %x($New)); drop(%x)", row(load(0, tee(3, num(1000))), drop(local(4))), nil},
		{"drop($One); drop($One)", row(drop(num(1)), drop(num(2)), drop(num(2))), []found{{"$One": 2}}},
		{"i32.store($A, %x); ...; i32.store($B, %x)", row(store(0, num(4), local(1)), drop(nil), store(0, num(8), local(2)), store(0, num(12), local(1))),
			[]found{{"$A": 4, "$B": 12}}},
		{"drop($A); ...; drop($B)", row(drop(num(1)), drop(num(2))), []found{{"$A": 1, "$B": 2}}}, // the nearest
		{"drop($A)", row(drop(num(1)), drop(num(2)), drop(num(1))), []found{{"$A": 1}, {"$A": 2}}},
		{"^drop($A)", row(drop(num(1)), drop(num(2))), []found{{"$A": 1}}},
		{"^drop($A); end", row(drop(num(1)), drop(num(2)), node(0x0b, 0)), nil},
		{"drop", row(drop(num(1))), []found{{}}},
		{"f$known", row(drop(call(7, num(1), num(2)))), []found{{}}},
		{"f$known(_)", row(drop(call(7, num(1), num(2)))), nil},
		{"loop; drop", row(node(0x02, 0), drop(nil)), nil},
	} {
		s, err := parseShape(tt.shape)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := (&matcher{p: p, known: known}).search(s, tt.row); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s in %v: %v, want %v", tt.shape, tt.row, got, tt.want)
		}
	}
}
