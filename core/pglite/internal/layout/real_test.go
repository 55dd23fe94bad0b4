package layout

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"blobpglite/core/pglite/internal/assets"
	"blobpglite/core/pglite/internal/wasmbin"
)

// realWasm reads the pglite.wasm of a version.
func realWasm(t *testing.T, version string) []byte {
	t.Helper()
	set, err := assets.Ensure(t.Context(), assets.Options{})
	if err != nil {
		t.Fatal(err)
	}
	file, err := set.OtherWasm(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	bin, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// The tables match what is found in the binaries, and their files match what the command writes.
func TestRealTables(t *testing.T) {
	for _, want := range layouts() {
		t.Run(want.PGlite, func(t *testing.T) {
			bin := realWasm(t, want.PGlite)
			got, err := Find(bin)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("found %+v\ntable %+v", *got, want)
			}
			var file bytes.Buffer
			if err := got.WriteGo(&file); err != nil {
				t.Fatal(err)
			}
			table, err := os.ReadFile(want.funcName() + ".go")
			if err != nil || !bytes.Equal(file.Bytes(), table) {
				t.Errorf("the table's file is not what find writes (%v): write it again", err)
			}
			m, err := wasmbin.Parse(bin)
			if err != nil {
				t.Fatal(err)
			}
			if err := got.CheckProgram(m); err != nil {
				t.Error(err)
			}
		})
	}
}

// The binary in use has a table, which also fits the binary rewritten for its host: that moves nothing.
func TestRealPinned(t *testing.T) {
	set, err := assets.Ensure(t.Context(), assets.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := For(set.SHA256())
	if err != nil {
		t.Fatal(err)
	}
	if l.PGlite != set.Version() {
		t.Errorf("the table is of PGlite %s, the files are of %s", l.PGlite, set.Version())
	}
	bin, err := wasmbin.RewriteMain(realWasm(t, set.Version()))
	if err != nil {
		t.Fatal(err)
	}
	m, err := wasmbin.Parse(bin)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.CheckProgram(m); err != nil {
		t.Error(err)
	}
}

// Only the functions known to wait for a semaphore do.
func TestRealSemaphoreWaits(t *testing.T) {
	s, err := parseShape(semaphoreWait("_"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layouts() {
		p, err := readProgram(realWasm(t, l.PGlite))
		if err != nil {
			t.Fatal(err)
		}
		known := (&finder{p: p, out: &l}).known
		var got, want []uint32
		for f := p.code.First(); int(f) < len(p.module.Funcs); f++ {
			row, err := p.code.Tree(f)
			if err != nil {
				t.Fatal(err)
			}
			if len((&matcher{p: p, known: known}).search(s, row)) > 0 {
				got = append(got, f)
			}
		}
		for _, w := range semaphoreWaits() {
			want = append(want, l.Functions[w.function])
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("PGlite %s: functions %v wait, %v expected", l.PGlite, got, want)
		}
	}
}

// A binary with a single difference is refused, and the error names what is not found.
func TestRealChanged(t *testing.T) {
	bin := realWasm(t, layouts()[0].PGlite)
	text := func(s string) func([]byte) []byte {
		return func(b []byte) []byte {
			return bytes.ReplaceAll(b, []byte("\x00"+s+"\x00"), []byte("\x00"+strings.Repeat("x", len(s))+"\x00"))
		}
	}
	for _, tt := range []struct {
		names  string
		change func([]byte) []byte
	}{
		{"the versions", func(b []byte) []byte { return bytes.Replace(b, []byte("(PGlite 0."), []byte("(PGlate 0."), 1) }},
		{"child_process_kinds", text("autovacuum launcher")},
		{"SendProcSignal", text("SendProcSignal")},
		{"PostmasterContext", text("hba parser context")},
		{"PMSignalState", text("PMSignalState")},
		{"errno, raise", func(b []byte) []byte {
			return bytes.Replace(b, killBody, bytes.Replace(killBody, []byte{42}, []byte{43}, 1), 1)
		}},
		{"pg_usleep", func(b []byte) []byte { return bytes.Replace(b, []byte("\x09pg_usleep"), []byte("\x09pg_uslaap"), 1) }},
	} {
		changed := tt.change(bytes.Clone(bin))
		if bytes.Equal(changed, bin) {
			t.Errorf("%s: nothing was changed", tt.names)
		}
		l, err := Find(changed)
		if l != nil || !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), tt.names+": ") {
			t.Errorf("%s: %v", tt.names, err)
		}
	}
}

// killBody begins PGlite's kill: if (pid == 42).
var killBody = []byte{0x20, 0x00, 0x41, 42, 0x46, 0x04, 0x40, 0x20, 0x01}

// A program in which something moved is refused with a clear message.
func TestRealProgramMoved(t *testing.T) {
	l := layouts()[0]
	m, err := wasmbin.Parse(realWasm(t, l.PGlite))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		change func(l *Layout)
		want   string
	}{
		{func(l *Layout) { l.Slots["BackendMain"]++ }, "slot 1433 of its table, which is to be BackendMain, holds function 4529, 5783 expected"},
		{func(l *Layout) { l.Functions["pg_usleep"]++ }, "pg_usleep is function 10903, 10904 expected"},
		{func(l *Layout) { l.Addresses["MyProc"]++ }, "MyProc is at 2804284, 2804285 expected"},
		{func(l *Layout) { l.Functions["load_hba"] = 1 << 20 }, "load_hba is to be function 1048576, of which it has 13860"},
		{func(l *Layout) { l.Functions["WaitEventSetWait"]++ }, "function 5574, which is to be WaitEventSetWait, has the type"},
	} {
		moved := layouts()[0]
		tt.change(&moved)
		if err := moved.CheckProgram(m); !errors.Is(err, ErrWrong) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}
