package lean

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

func TestRightBuild(t *testing.T) {
	right := func() *debug.Module { return &debug.Module{Path: module, Version: version, Sum: sum} }
	other := &debug.Module{Path: "example.com/other", Version: "v1.0.0", Sum: "h1:x"}
	changed := func(f func(m *debug.Module)) []*debug.Module {
		m := right()
		f(m)
		return []*debug.Module{other, m}
	}
	const program, tests = "example.com/program", "example.com/program.test"
	for name, c := range map[string]struct {
		path string
		deps []*debug.Module
		want string // of the error; empty: none
	}{
		"as published":         {program, []*debug.Module{other, right()}, ""},
		"a test's binary":      {tests, nil, ""},
		"a program of nothing": {program, nil, "the program was not built with " + module},
		"without a path":       {"", nil, "the program was not built with " + module},
		"without it":           {program, []*debug.Module{other}, "the program was not built with " + module},
		"called like a test":   {tests, []*debug.Module{other}, "the program was not built with " + module},
		"a test's, replaced":   {tests, changed(func(m *debug.Module) { m.Replace = other }), "as published"},
		"another version":      {program, changed(func(m *debug.Module) { m.Version = "v1.12.1" }), "as published, but with v1.12.1"},
		"another sum":          {program, changed(func(m *debug.Module) { m.Sum = "h1:x" }), "as published"},
		"no sum":               {program, changed(func(m *debug.Module) { m.Sum = "" }), "as published"},
		"replaced by a folder": {program, changed(func(m *debug.Module) { m.Replace = &debug.Module{Path: "../wazero"} }), "as published"},
		"replaced by itself":   {program, changed(func(m *debug.Module) { m.Replace = right() }), "as published"},
		"replaced by another":  {program, changed(func(m *debug.Module) { m.Replace = other }), "as published"},
	} {
		err := rightBuild(&debug.BuildInfo{Path: c.path, Deps: c.deps}, true)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if err := rightBuild(nil, false); err == nil || !strings.Contains(err.Error(), "does not say what it was built with") {
		t.Errorf("without build information: %v", err)
	}
}

// TestPublishedVersion: the program's own go.mod and go.sum name the compiler that this package was written for.
func TestPublishedVersion(t *testing.T) {
	for file, line := range map[string]string{"go.mod": "\t" + module + " " + version + "\n", "go.sum": module + " " + version + " " + sum + "\n"} {
		text, err := os.ReadFile("../../../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), line) {
			t.Errorf("%s does not have the line %q", file, line)
		}
	}
}

// withStock runs f while the compiler's table is as wazero made it; f may change it.
func withStock(t *testing.T, f func()) {
	t.Helper()
	needUnchecked(t)
	hooked := table
	defer func() { table = hooked }()
	table = stock
	f()
}

func TestFingerprint(t *testing.T) {
	withStock(t, func() {
		if got := fingerprint(); got != tablePrint {
			t.Errorf("of the table as wazero made it: %#x, want %#x", got, uint64(tablePrint))
		}
		for op := range uint32(opEnd) { // whichever entry belongs to another
			for _, from := range []uint32{opStore, opIadd} {
				table = stock
				table[op] = table[from]
				if same := fingerprint() == tablePrint; same != (stockEntry(op) == stockEntry(from)) {
					t.Errorf("with the entry of %s in that of %s it is the same: %v", opcodeName(from), opcodeName(op), same)
				}
			}
		}
		table = stock
		table[opIcmp] = onCompare
		if fingerprint() == tablePrint {
			t.Error("with a function of ours it is the same")
		}
	})
	if fingerprint() == tablePrint {
		t.Error("of the table as this package made it it is the same")
	}
}

// stockEntry tells entries of the stock table apart.
func stockEntry(op uint32) string { return fmt.Sprintf("%p", stock[op]) }

func TestRightLayout(t *testing.T) {
	if err := rightLayout(); err != nil {
		t.Errorf("with this package's functions: %v", err)
	}
	withStock(t, func() {
		if err := rightLayout(); err != nil {
			t.Errorf("with wazero's functions: %v", err)
		}
		for name, change := range map[string]func(){
			"a load of another type": func() { table[opLoad] = func(*builder, *instruction) (byte, []byte) { return typeI32, nil } },
			"a constant of no type":  func() { table[opIconst] = func(*builder, *instruction) (byte, []byte) { return typeNone, nil } },
			"an extension of something else": func() {
				table[opUExtend] = func(b *builder, i *instruction) (byte, []byte) {
					i.v = allocateValue(b, typeI32)
					return i.typ, nil
				}
			},
		} {
			table = stock
			change()
			if err := rightLayout(); !errors.Is(err, errLayout) {
				t.Errorf("%s: %v, want %v", name, err, errLayout)
			}
		}
	})
}

// TestAvailable: it is, and the environment can turn it off.
func TestAvailable(t *testing.T) {
	if name := os.Getenv(childVariable); name != "" {
		fmt.Printf("%v; wazero's table %v\n", Available(), fingerprint() == tablePrint)
		return
	}
	for value, want := range map[string]string{
		"":    "<nil>; wazero's table false\n",
		"0":   "<nil>; wazero's table false\n",
		"1":   "BLOBPGLITE_CHECKED is set; wazero's table true\n",
		"yes": "BLOBPGLITE_CHECKED is set; wazero's table true\n",
	} {
		stdout, stderr, err := child(t, "it", checkedByEnv+"="+value)
		if err != nil || !strings.HasPrefix(stdout, want) {
			t.Errorf("%s=%s: %v, %q %s, want %q", checkedByEnv, value, err, stdout, stderr, want)
		}
	}
}
