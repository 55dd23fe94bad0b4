#!/usr/bin/env bash
# wazero's compiler on amd64: a branch on a comparison of zero with (x & y) is one of (x & y) with zero.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOG'
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/tetratelabs/wazero"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

// The comparisons of WebAssembly, in the order of their opcodes: i32 from 0x46, i64 from 0x51.
var conditions = []string{"eq", "ne", "lt_s", "lt_u", "gt_s", "gt_u", "le_s", "le_u", "ge_s", "ge_u"}

// A use is what the function does with the i32 that the comparison leaves: code before the comparison, and behind it.
type use struct {
	name           string
	before, behind []byte
}

var uses = []use{
	{"value ", nil, nil},
	{"select", []byte{0x41, 1, 0x41, 0}, []byte{0x1b}},
	{"if    ", nil, []byte{0x04, 0x7f, 0x41, 1, 0x05, 0x41, 0, 0x0b}},
	{"br_if ", []byte{0x02, 0x7f, 0x41, 1}, []byte{0x0d, 0, 0x1a, 0x41, 0, 0x0b}},
}

// module has (func (export "f") (param x y) (result i32) (use (condition (const 0) (and (local.get 0) (local.get 1))))).
func module(typ, constant, and, condition byte, u use) []byte {
	body := append([]byte{0}, u.before...)
	body = append(body, constant, 0, 0x20, 0, 0x20, 1, and, condition)
	body = append(append(body, u.behind...), 0x0b)
	bin := []byte{0, 'a', 's', 'm', 1, 0, 0, 0, 1, 7, 1, 0x60, 2, typ, typ, 1, 0x7f, 3, 2, 1, 0, 7, 5, 1, 1, 'f', 0, 0}
	bin = append(bin, 10, byte(len(body)+2), 1, byte(len(body)))
	return append(bin, body...)
}

func run(config wazero.RuntimeConfig, bin []byte, x, y uint64) uint32 {
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, config)
	defer r.Close(ctx)
	m, err := r.Instantiate(ctx, bin)
	check(err)
	out, err := m.ExportedFunction("f").Call(ctx, x, y)
	check(err)
	return uint32(out[0])
}

func main() {
	negative := map[string]uint64{"i32": 1 << 31, "i64": 1 << 63}
	for _, kind := range []struct {
		name                      string
		typ, constant, and, first byte
	}{{"i32", 0x7f, 0x41, 0x71, 0x46}, {"i64", 0x7e, 0x42, 0x83, 0x51}} {
		for _, u := range uses {
			wrong := ""
			for i, name := range conditions {
				bin := module(kind.typ, kind.constant, kind.and, kind.first+byte(i), u)
				for _, x := range []uint64{0, 5, negative[kind.name]} {
					if run(wazero.NewRuntimeConfigInterpreter(), bin, x, x) != run(wazero.NewRuntimeConfigCompiler(), bin, x, x) {
						wrong += " " + name
						break
					}
				}
			}
			fmt.Printf("seen:     %s, %s: the compiler differs from the interpreter for:%s\n", kind.name, u.name, wrong)
			want := ""
			if strings.Contains(u.name, "if") {
				want = " " + strings.Join(conditions[2:], " ")
			}
			if wrong != want {
				fmt.Printf("CHANGED: not for:%s\n", want)
				os.Exit(1)
			}
		}
	}
	bin := module(0x7f, 0x41, 0x71, 0x48, uses[2])
	check(os.WriteFile("it.wasm", bin, 0o600))
	interpreted, compiled := run(wazero.NewRuntimeConfigInterpreter(), bin, 5, 5), run(wazero.NewRuntimeConfigCompiler(), bin, 5, 5)
	fmt.Printf("seen:     if (0 < (5 & 5)) 1 else 0: interpreter %d, compiler %d\n", interpreted, compiled)
	if interpreted != 1 || compiled != 0 {
		fmt.Println("CHANGED: not 1 and 0")
		os.Exit(1)
	}
}
EOG
version=v1.12.0
[ "$(go env GOARCH)" = amd64 ] || { echo "only amd64 is known to have it, this is $(go env GOARCH)"; exit 2; }
{ go mod init finding && go get "github.com/tetratelabs/wazero@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/tetratelabs/wazero $version, $(go env GOVERSION), $(go env GOARCH)"
echo "expected: 0 < (x & y) of 5 and 5 holds, and the compiler and the interpreter say the same of all comparisons"
GOFLAGS=-mod=mod go run .
if command -v node >/dev/null; then
	seen=$(node -e 'WebAssembly.instantiate(require("fs").readFileSync("it.wasm")).then((m) => console.log(m.instance.exports.f(5, 5)))')
	echo "seen:     the same module in WebAssembly of Node $(node --version): $seen"
	[ "$seen" = 1 ] || { echo "CHANGED: not 1"; exit 1; }
fi
echo "as stated: <, <=, > and >= of zero and an and, signed and unsigned, are turned round where a branch is taken on them; an and with zero"
echo "           on either side becomes one TEST instruction, and the condition stays what it was (tryLowerBandToFlag in backend/isa/amd64)"
