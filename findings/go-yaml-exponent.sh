#!/usr/bin/env bash
# goccy/go-yaml: a number with an exponent and no point is a string, with a point it is a number.
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
	var v map[string]any
	if err := yaml.Unmarshal([]byte("plain: 1e3\npoint: 1.0e3"), &v); err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	seen := fmt.Sprintf("1e3 is a %T, 1.0e3 a %T", v["plain"], v["point"])
	fmt.Println("seen:     " + seen)
	if seen != "1e3 is a string, 1.0e3 a float64" {
		fmt.Println("CHANGED: not a string and a float64")
		os.Exit(1)
	}
}
EOT
version=v1.19.2
{ go mod init finding && go get "github.com/goccy/go-yaml@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/goccy/go-yaml $version, $(go env GOVERSION)"
echo "expected: float64 for both, by the core schema of YAML 1.2, whose floats need no point"
GOFLAGS=-mod=mod go run .
echo "as stated: a limit of 1e3 in a document is a text"
