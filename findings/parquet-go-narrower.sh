#!/usr/bin/env bash
# parquet-go: reading into a struct whose fields are of other types than the file's columns cuts numbers, without an error.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOT'
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/parquet-go/parquet-go"
)

type written struct {
	ID     int64   `parquet:"id"`
	Left   int64   `parquet:"left"`
	Rate   float64 `parquet:"rate"`
	Amount int64   `parquet:"amount,decimal(2:18)"`
}

type read struct {
	ID     int32  `parquet:"id"`
	Left   uint64 `parquet:"left"`
	Rate   int64  `parquet:"rate"`
	Amount int64  `parquet:"amount,decimal(3:18)"`
}

func main() {
	var file bytes.Buffer
	if err := parquet.Write(&file, []written{{ID: 1<<33 + 5, Left: -1, Rate: 1.9, Amount: 110}}); err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	rows, err := parquet.Read[read](bytes.NewReader(file.Bytes()), int64(file.Len()))
	seen := fmt.Sprint(rows, " ", err)
	fmt.Println("seen:     8589934597, -1, 1.9 and 1.10 come as " + seen)
	if seen != "[{5 18446744073709551615 1 110}] <nil>" {
		fmt.Println("CHANGED: not 5, 18446744073709551615, 1 and 110 thousandths, without an error")
		os.Exit(1)
	}
}
EOT
version=v0.32.0
{ go mod init finding && go get "github.com/parquet-go/parquet-go@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/parquet-go/parquet-go $version, $(go env GOVERSION)"
echo "expected: an error for each: no value fits its field (the last is a decimal of scale 2, read as one of scale 3)"
GOFLAGS=-mod=mod go run .
echo "as stated: another row's identifier, a huge number for -1, a rate without its fraction, and a tenth of the amount"
