package pglite

import (
	"context"
	"math"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// hostCaller is
//
//	(import "host" "f" (func (param i32) (result i32)))
//	(memory 1)
//	(func (export "add") (param i64) (result i64) (i64.add (i64.extend_i32_u (call 0 (i32.const 0))) (local.get 0)))
//	(func (export "load") (param i32) (result i32) (i32.load8_u (call 0 (local.get 0))))
//	(func (export "zero") (param i32) (result i32) (i32.eqz (call 0 (local.get 0))))
var hostCaller = []byte{
	0, 'a', 's', 'm', 1, 0, 0, 0,
	1, 11, 2, 0x60, 1, 0x7f, 1, 0x7f, 0x60, 1, 0x7e, 1, 0x7e,
	2, 10, 1, 4, 'h', 'o', 's', 't', 1, 'f', 0, 0,
	3, 4, 3, 1, 0, 0,
	5, 3, 1, 0, 1,
	7, 21, 3, 3, 'a', 'd', 'd', 0, 1, 4, 'l', 'o', 'a', 'd', 0, 2, 4, 'z', 'e', 'r', 'o', 0, 3,
	10, 30, 3, 10, 0, 0x41, 0, 0x10, 0, 0xad, 0x20, 0, 0x7c, 0x0b, 9, 0, 0x20, 0, 0x10, 0, 0x2d, 0, 0, 0x0b, 7, 0, 0x20, 0, 0x10, 0, 0x45, 0x0b,
}

// dirty is a host function that leaves more than 32 bits in its slot.
func dirty(_ *Instance, s []uint64) { s[0] = 0xdead_beef_0000_0000 }

// TestHostResultsAreClean: garbage that a host function leaves in the upper half of a 32-bit result's slot is never seen.
func TestHostResultsAreClean(t *testing.T) {
	ctx := &guestContext{Context: t.Context(), in: &Instance{}}
	rt := wazero.NewRuntime(ctx)
	t.Cleanup(func() {
		if err := rt.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	i32 := []api.ValueType{api.ValueTypeI32}
	if _, err := rt.NewHostModuleBuilder("host").NewFunctionBuilder().WithGoFunction(goFunc(dirty, i32, i32), i32, i32).Export("f").Instantiate(ctx); err != nil {
		t.Fatal(err)
	}
	mod, err := rt.Instantiate(ctx, hostCaller)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint64{"add": 5, "load": 0, "zero": 1} {
		got, err := mod.ExportedFunction(name).Call(ctx, 5)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got[0] != want {
			t.Errorf("%s: %#x, want %#x", name, got[0], want)
		}
	}
	for _, c := range []struct {
		t    api.ValueType
		want uint64
	}{
		{api.ValueTypeI32, 0}, {api.ValueTypeF32, 0}, {api.ValueTypeI64, 0xdead_beef_0000_0000}, {api.ValueTypeF64, 0xdead_beef_0000_0000},
	} {
		stack := []uint64{math.MaxUint64}
		if goFunc(dirty, nil, []api.ValueType{c.t}).Call(ctx, stack); stack[0] != c.want {
			t.Errorf("%s: %#x, want %#x", api.ValueTypeName(c.t), stack[0], c.want)
		}
	}
	stack := []uint64{math.MaxUint64, math.MaxUint64, math.MaxUint64}
	params := []api.ValueType{api.ValueTypeI64, api.ValueTypeI32, api.ValueTypeF32}
	goFunc(func(_ *Instance, s []uint64) {
		if s[0] != math.MaxUint64 || s[1] != math.MaxUint32 || s[2] != math.MaxUint32 {
			t.Errorf("arguments %#x", s)
		}
	}, params, nil).Call(ctx, stack)
	goFunc(func(*Instance, []uint64) {}, nil, nil).Call(ctx, nil) // no slot at all
}

// TestArgumentsAreClean: the same for the host's own calls into the guest.
func TestArgumentsAreClean(t *testing.T) {
	const negative = math.MaxUint64 // int -1
	got := sigOf("ijif").arguments([]uint64{negative, negative, negative})
	if got[0] != negative || got[1] != math.MaxUint32 || got[2] != math.MaxUint32 {
		t.Errorf("%#x", got)
	}
	if got := sigOf("i").arguments(nil); len(got) != 1 {
		t.Errorf("%d slots for a result", len(got))
	}
}
