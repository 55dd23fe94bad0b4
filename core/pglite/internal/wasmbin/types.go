package wasmbin

import "fmt"

// ValType is the type of a value, in the encoding of the binary format.
type ValType byte

// The value types of WebAssembly 2.0.
const (
	I32       ValType = 0x7f
	I64       ValType = 0x7e
	F32       ValType = 0x7d
	F64       ValType = 0x7c
	V128      ValType = 0x7b
	FuncRef   ValType = 0x70
	ExternRef ValType = 0x6f
)

// String returns the name used in the text format.
func (t ValType) String() string {
	switch t {
	case I32:
		return "i32"
	case I64:
		return "i64"
	case F32:
		return "f32"
	case F64:
		return "f64"
	case V128:
		return "v128"
	case FuncRef:
		return "funcref"
	case ExternRef:
		return "externref"
	}
	return fmt.Sprintf("valtype(%#x)", byte(t))
}

// Kind says what an import or an export is.
type Kind byte

// The kinds of imports and exports, in the encoding of the binary format.
const (
	KindFunc   Kind = 0
	KindTable  Kind = 1
	KindMemory Kind = 2
	KindGlobal Kind = 3
)

// String returns the name used in the text format.
func (k Kind) String() string {
	switch k {
	case KindFunc:
		return "func"
	case KindTable:
		return "table"
	case KindMemory:
		return "memory"
	case KindGlobal:
		return "global"
	}
	return fmt.Sprintf("kind(%d)", byte(k))
}

// FuncType is the signature of a function.
type FuncType struct {
	Params  []ValType
	Results []ValType
}

// Limits is the size of a memory (pages of 64 KiB) or a table (entries).
type Limits struct {
	Min    uint32
	Max    uint32 // only if HasMax
	HasMax bool
}

// Import is one entry of the import section.
type Import struct {
	Module, Name string
	Kind         Kind
	Func         FuncType // KindFunc
	Limits       Limits   // KindTable and KindMemory
	Type         ValType  // KindGlobal: its type; KindTable: FuncRef or ExternRef
	Mutable      bool     // KindGlobal
}

// Export is one entry of the export section.
type Export struct {
	Name  string
	Kind  Kind
	Index uint32 // in the index space of the kind, imports first
}

// GlobalDef is a global as a module declares it.
type GlobalDef struct {
	Type     ValType
	Mutable  bool
	Imported bool
	HasConst bool  // its initial value is one i32 constant
	Const    int32 // that constant
}

// Elem is an active element segment on table 0.
type Elem struct {
	Base   int      // index of the imported global that holds the start; -1: none
	Offset uint32   // added to the base, or the start itself
	Funcs  []uint32 // function index per slot; NullFunc leaves a slot empty
}

// NullFunc represents a null reference in [Elem].
const NullFunc = ^uint32(0)

func (r *reader) valType(what string) ValType {
	at := r.pos
	t := ValType(r.byte(what))
	switch t {
	case I32, I64, F32, F64, V128, FuncRef, ExternRef:
		return t
	}
	r.fail(at, "%s: unknown value type %#x", what, byte(t))
	return 0
}

func (r *reader) refType(what string) ValType {
	at := r.pos
	t := r.valType(what)
	if r.err == nil && t != FuncRef && t != ExternRef {
		r.fail(at, "%s: %v is not a reference type", what, t)
	}
	return t
}

func (r *reader) valTypes(what string) []ValType {
	n := r.count(maxSignature, what)
	if n == 0 {
		return nil
	}
	ts := make([]ValType, n)
	for i := range ts {
		ts[i] = r.valType(what)
	}
	return ts
}

func (r *reader) funcType() FuncType {
	at := r.pos
	if form := r.byte("function type"); r.err == nil && form != 0x60 {
		r.fail(at, "type form %#x, only function types (0x60) are handled", form)
	}
	return FuncType{Params: r.valTypes("parameters"), Results: r.valTypes("results")}
}

// limits reads the size of a memory or table; ceiling bounds both ends.
func (r *reader) limits(ceiling uint32, what string) Limits {
	at := r.pos
	flag := r.byte(what)
	if r.err == nil && flag > 1 {
		r.fail(at, "%s: limits flag %#x (shared or 64-bit) is not handled", what, flag)
	}
	l := Limits{Min: r.u32(what), HasMax: flag == 1}
	if l.HasMax {
		l.Max = r.u32(what)
	}
	if l.Min > ceiling || l.HasMax && l.Min > l.Max {
		r.fail(at, "%s: limits %d..%d, ceiling %d", what, l.Min, l.Max, ceiling)
	}
	return l
}

func (r *reader) globalType() (t ValType, mutable bool) {
	t = r.valType("global type")
	at := r.pos
	flag := r.byte("mutability")
	if flag > 1 {
		r.fail(at, "mutability %#x, 0 or 1 expected", flag)
	}
	return t, flag == 1
}
