#!/usr/bin/env bash
# goccy/go-yaml: a number with a fraction is cut when it goes into an int, in strict mode too.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOT'
package main

import (
	"fmt"
	"os"

	"github.com/goccy/go-yaml"
)

func main() {
	var cut struct{ Rounds int }
	err := yaml.UnmarshalWithOptions([]byte("rounds: 1.9"), &cut, yaml.Strict())
	var small struct{ Rounds uint8 }
	refused := yaml.UnmarshalWithOptions([]byte("rounds: 300"), &small, yaml.Strict())
	fmt.Printf("seen:     1.9 into an int: %d, error %v; 300 into a uint8: refused %t\n", cut.Rounds, err, refused != nil)
	if err != nil || cut.Rounds != 1 || refused == nil {
		fmt.Println("CHANGED: not 1 without an error beside a refusal")
		os.Exit(1)
	}
}
EOT
version=v1.19.2
{ go mod init finding && go get "github.com/goccy/go-yaml@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/goccy/go-yaml $version, $(go env GOVERSION)"
echo "expected: an error, as for 300 into a uint8, which this library refuses, and as gopkg.in/yaml.v3 and encoding/json do it"
GOFLAGS=-mod=mod go run .
echo "as stated: a count of 1.9 in a document is taken for 1"
