#!/usr/bin/env bash
# pgx: a float64 that is too large for a column of type real is stored as Infinity, one too small as 0.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOT'
package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"

	"github.com/jackc/pgx/v5/pgtype"
)

func main() {
	seen := ""
	for _, value := range []float64{1e39, -1e39, 1e-50} {
		b, err := pgtype.NewMap().Encode(pgtype.Float4OID, pgtype.BinaryFormatCode, value, nil)
		if err != nil {
			seen += fmt.Sprintf(" %g: error", value)
			continue
		}
		seen += fmt.Sprintf(" %g: %g", value, math.Float32frombits(binary.BigEndian.Uint32(b)))
	}
	fmt.Println("seen:    " + seen)
	if seen != " 1e+39: +Inf -1e+39: -Inf 1e-50: 0" {
		fmt.Println("CHANGED: not infinities and 0")
		os.Exit(1)
	}
}
EOT
version=v5.13.0
{ go mod init finding && go get "github.com/jackc/pgx/v5/pgtype@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/jackc/pgx/v5 $version, $(go env GOVERSION)"
echo "expected: an error: values too large or too small for real cause one (manual, 8.1.3), and so do the texts 1e39 and 1e-50 (22003)"
GOFLAGS=-mod=mod go run .
echo "as stated: the number is rounded to a float32 before it is sent, and PostgreSQL has nothing left to refuse"
