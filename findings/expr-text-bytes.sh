#!/usr/bin/env bash
# expr: len counts the characters of a text, slices and indexOf count its bytes.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOT'
package main

import (
	"fmt"
	"os"

	"github.com/expr-lang/expr"
)

func main() {
	env := map[string]any{"name": "héllo"}
	var seen []any
	for _, text := range []string{`len(name)`, `name[0:len(name)]`, `indexOf(name, "o")`, `name[0:2]`} {
		value, err := expr.Eval(text, env)
		if err != nil {
			fmt.Println(err)
			os.Exit(2)
		}
		seen = append(seen, value)
	}
	fmt.Printf("seen:     len(name) %v, name[0:len(name)] %q, indexOf(name, \"o\") %v, name[0:2] %q\n", seen...)
	if fmt.Sprintf("%q", seen) != `['\x05' "héll" '\x05' "h\xc3"]` {
		fmt.Printf("CHANGED: not 5, \"héll\", 5 and a half character: %q\n", seen)
		os.Exit(1)
	}
}
EOT
version=v1.17.8
{ go mod init finding && go get "github.com/expr-lang/expr@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/expr-lang/expr $version, $(go env GOVERSION)"
echo "expected: the whole text from name[0:len(name)], as for an array, and characters only: len and slices of one language count alike"
GOFLAGS=-mod=mod go run .
echo "as stated: a cut at the length drops the end of each text that is not ASCII, and may split a character"
