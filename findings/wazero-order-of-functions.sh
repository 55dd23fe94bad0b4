#!/usr/bin/env bash
# wazero's compiler: the same functions take several times as long to compile if the largest one comes first instead of last.
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
	"slices"
	"time"

	"github.com/tetratelabs/wazero"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func number(b []byte, n int) []byte {
	for ; n > 127; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(b, byte(n))
}

func section(b []byte, id byte, body []byte) []byte {
	return append(number(append(b, id), len(body)), body...)
}

// function has n ifs, one after the other, and no loop: (if (local.get 0) (then (local.set 0 (i32.const 1)))).
func function(n int) []byte {
	body := []byte{0}
	for range n {
		body = append(body, 0x20, 0, 0x04, 0x40, 0x41, 1, 0x21, 0, 0x0b)
	}
	return append(body, 0x20, 0, 0x0b)
}

// module has functions of so many ifs, each of type (param i32) (result i32).
func module(ifs []int) []byte {
	types := []byte{1, 0x60, 1, 0x7f, 1, 0x7f}
	funcs, code := number(nil, len(ifs)), number(nil, len(ifs))
	for _, n := range ifs {
		f := function(n)
		funcs, code = append(funcs, 0), append(number(code, len(f)), f...)
	}
	bin := section([]byte("\x00asm\x01\x00\x00\x00"), 1, types)
	return section(section(bin, 3, funcs), 10, code)
}

// compile gives the least time of three.
func compile(bin []byte) time.Duration {
	best := time.Hour
	for range 3 {
		ctx := context.Background()
		r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler())
		at := time.Now()
		_, err := r.CompileModule(ctx, bin)
		best = min(best, time.Since(at))
		check(err)
		check(r.Close(ctx))
	}
	return best
}

func main() {
	small := slices.Repeat([]int{3}, 6000)
	const large = 6000
	first, last := compile(module(append([]int{large}, small...))), compile(module(append(slices.Clone(small), large)))
	alone := compile(module([]int{large}))
	fmt.Printf("seen:     6,000 small functions and a large one, on this machine: %d ms with the large one last, %d ms with it first (%d ms alone)\n",
		last.Milliseconds(), first.Milliseconds(), alone.Milliseconds())
	fmt.Printf("seen:     so the small ones take %.1f times as long behind it as before it\n", float64(first-alone)/float64(last-alone))
	if first-alone < 2*(last-alone) {
		fmt.Println("CHANGED: less than twice as long")
		os.Exit(1)
	}
}
EOG
version=v1.12.0
{ go mod init finding && go get "github.com/tetratelabs/wazero@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/tetratelabs/wazero $version, $(go env GOVERSION), $(go env GOARCH)"
echo "expected: the order of a module's functions makes no difference to the time that their compilation takes"
GOFLAGS=-mod=mod go run .
echo "as stated: the table by which the compiler finds the common dominator of two blocks has as many rows as the largest function so far has needed,"
echo "           and each later function goes through all of them (buildSparseTable in internal/engine/wazevo/ssa)"
