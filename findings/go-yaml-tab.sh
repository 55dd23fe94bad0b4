#!/usr/bin/env bash
# goccy/go-yaml: a tab inside an unquoted text is dropped, in what Marshal has written, too.
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
	other "gopkg.in/yaml.v3"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func main() {
	written, err := yaml.Marshal(map[string]string{"row": "10\t20"})
	check(err)
	var one, two map[string]string
	check(yaml.Unmarshal(written, &one))
	check(other.Unmarshal(written, &two))
	seen := fmt.Sprintf("%q is written as %q, and read as %q; by yaml.v3 as %q", "10\t20", written, one["row"], two["row"])
	fmt.Println("seen:     " + seen)
	if seen != `"10\t20" is written as "row: 10\t20\n", and read as "1020"; by yaml.v3 as "10\t20"` {
		fmt.Println("CHANGED: not read as 1020")
		os.Exit(1)
	}
}
EOT
version=v1.19.2
other=v3.0.1
{ go mod init finding && go get "github.com/goccy/go-yaml@$version" "gopkg.in/yaml.v3@$other"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/goccy/go-yaml $version, gopkg.in/yaml.v3 $other, $(go env GOVERSION)"
echo "expected: the text with its tab: YAML allows it inside a plain scalar, and what Marshal writes, Unmarshal should read"
GOFLAGS=-mod=mod go run .
echo "as stated: two columns of a pasted line become one number; in quotes and in a block the tab stays"
