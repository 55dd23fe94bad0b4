#!/usr/bin/env bash
# jsonschema-go: the schema made of a struct refuses what encoding/json writes for that struct.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOT'
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/google/jsonschema-go/jsonschema"
)

type plain struct {
	Names []string `json:"names"`
}
type content struct {
	Body []byte `json:"body"`
}
type raw struct {
	Value json.RawMessage `json:"value"`
}
type labels struct {
	Labels map[string]string `json:"labels"`
}
type number struct {
	ID int64 `json:"id,string"`
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

// accepted tells whether the schema of the value's type takes the value's JSON.
func accepted[T any](value T) string {
	schema, err := jsonschema.For[T](nil)
	check(err)
	resolved, err := schema.Resolve(nil)
	check(err)
	text, err := json.Marshal(value)
	check(err)
	var instance any
	check(json.Unmarshal(text, &instance))
	if resolved.Validate(instance) != nil {
		return string(text) + " refused"
	}
	return string(text) + " valid"
}

func main() {
	seen := fmt.Sprint(accepted(plain{}), "; ", accepted(content{[]byte("x")}), "; ", accepted(raw{json.RawMessage(`"x"`)}), "; ", accepted(labels{}), "; ", accepted(number{7}))
	fmt.Println("seen:     " + seen)
	if seen != `{"names":null} valid; {"body":"eA=="} refused; {"value":"x"} refused; {"labels":null} refused; {"id":"7"} refused` {
		fmt.Println("CHANGED: not refused but for the slice of texts")
		os.Exit(1)
	}
}
EOT
version=v0.4.3
{ go mod init finding && go get "github.com/google/jsonschema-go/jsonschema@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/google/jsonschema-go $version, $(go env GOVERSION)"
echo "expected: valid in each case: For takes names and omitempty from the JSON tags, to describe the JSON of the type"
GOFLAGS=-mod=mod go run .
echo "as stated: a []byte is an array of numbers to it, though written in base64, a RawMessage too, a nil map (null) no object, and the option string is unknown"
