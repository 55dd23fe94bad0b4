#!/usr/bin/env bash
# goccy/go-yaml: an unquoted number that goes into a string is written anew from its value, so its text is lost.
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
	var seen []string
	for _, text := range []string{"1.10", "0x1F", "010"} {
		var v struct{ Version string }
		if err := yaml.UnmarshalWithOptions([]byte("version: "+text), &v, yaml.Strict()); err != nil {
			v.Version = "an error"
		}
		seen = append(seen, fmt.Sprintf("%s as %s", text, v.Version))
	}
	fmt.Printf("seen:     %q\n", seen)
	if fmt.Sprint(seen) != "[1.10 as 1.1 0x1F as 31 010 as 8]" {
		fmt.Println("CHANGED: not 1.1, 31 and 8")
		os.Exit(1)
	}
}
EOT
version=v1.19.2
{ go mod init finding && go get "github.com/goccy/go-yaml@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/goccy/go-yaml $version, $(go env GOVERSION)"
echo "expected: the text as it stands, 1.10 and 0x1F and 010, as gopkg.in/yaml.v3 gives it, or an error"
GOFLAGS=-mod=mod go run .
echo "as stated: a version 1.10 is read as 1.1"
