package pglite

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/api"
)

func TestWords(t *testing.T) {
	for command, want := range map[string][]string{
		"":                      nil,
		"   ":                   nil,
		"a":                     {"a"},
		"a  b\nc":               {"a", "b", "c"},
		`"/p q/postgres" -V`:    {"/p q/postgres", "-V"},
		`'a b'c "d"'e'`:         {"a bc", "de"},
		`a "" b`:                {"a", "", "b"},
		"a < /dev/null > out":   {"a"},
		"a -c x=1 2>&1":         {"a", "-c", "x=1"},
		`a -c "x=1 > 2" >> out`: {"a", "-c", "x=1 > 2"},
		"a 22>x":                {"a", "22"},
		"a|b":                   {"a"},
		"a b& c":                {"a", "b"},
		`"/pglite/bin/postgres" --check -F -c log_checkpoints=false < "/dev/null" > "/dev/null" 2>&1`: {"/pglite/bin/postgres", "--check", "-F", "-c", "log_checkpoints=false"},
	} {
		if got := words(command); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", command, got, want)
		}
	}
}

func TestParseSignature(t *testing.T) {
	const i, j, f, d = api.ValueTypeI32, api.ValueTypeI64, api.ValueTypeF32, api.ValueTypeF64
	for _, c := range []struct {
		name            string
		params, results []api.ValueType
	}{
		{"v", nil, nil},
		{"i", nil, []api.ValueType{i}},
		{"vi", []api.ValueType{i}, nil},
		{"jiifd", []api.ValueType{i, i, f, d}, []api.ValueType{j}},
		{"djjj", []api.ValueType{j, j, j}, []api.ValueType{d}},
	} {
		s, err := parseSignature(c.name)
		if err != nil || s.name != c.name || !slices.Equal(s.params, c.params) || !slices.Equal(s.results, c.results) {
			t.Errorf("%s: %+v, %v", c.name, s, err)
		}
	}
	for _, name := range []string{"", "x", "iv", "viv", "i ", "vp", "ié"} {
		if s, err := parseSignature(name); err == nil || !strings.Contains(err.Error(), "parse signature") {
			t.Errorf("%q: %+v, %v", name, s, err)
		}
	}
	for name, want := range map[string]string{"invoke_vii": "vii", "invoke_": "", "invoke": "", "fd_read": "", "dynCall_v": ""} {
		if got := invokeSignature(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestNonZeroRuns(t *testing.T) {
	const page = 4096
	type run struct{ off, size int }
	at := func(size int, positions ...int) []byte {
		b := make([]byte, size)
		for _, p := range positions {
			b[p] = 1
		}
		return b
	}
	for name, c := range map[string]struct {
		b    []byte
		want []run
	}{
		"empty":                  {nil, nil},
		"zero":                   {at(10 * page), nil},
		"the first byte":         {at(3*page, 0), []run{{0, page}}},
		"the last byte":          {at(3*page, 3*page-1), []run{{2 * page, page}}},
		"two pages":              {at(4*page, page, 2*page+5), []run{{page, 2 * page}}},
		"two runs":               {at(4*page, 1, 2*page), []run{{0, page}, {2 * page, page}}},
		"all":                    {bytes.Repeat([]byte{1}, 3*page), []run{{0, 3 * page}}},
		"less than a page":       {at(100, 99), []run{{0, 100}}},
		"a part at the end":      {at(2*page+7, 2*page+6), []run{{2 * page, 7}}},
		"a zero part at the end": {at(2*page+7, page), []run{{page, page}}},
	} {
		var got []run
		for off, b := range nonZeroRuns(c.b) {
			got = append(got, run{off, len(b)})
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	for range nonZeroRuns(at(4*page, 1, 2*page)) {
		break // stopping early does not panic
	}
}

// The runs cover everything: reassembled, they equal the original.
func TestNonZeroRunsProperty(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		b := make([]byte, rng.IntN(20*4096))
		for range rng.IntN(10) {
			if len(b) > 0 {
				b[rng.IntN(len(b))] = byte(rng.Uint32())
			}
		}
		again, end := make([]byte, len(b)), -1
		for off, run := range nonZeroRuns(b) {
			if off <= end || off%4096 != 0 {
				t.Fatalf("a run at %d after one that ended at %d", off, end)
			}
			for p := 0; p < len(run); p += 4096 {
				if isZero(run[p:min(p+4096, len(run))]) {
					t.Fatalf("the page at %d is zero", off+p)
				}
			}
			end = off + copy(again[off:], run)
		}
		if !bytes.Equal(again, b) {
			t.Fatal("something is missing")
		}
	}
}
