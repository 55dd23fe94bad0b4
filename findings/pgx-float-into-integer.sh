#!/usr/bin/env bash
# pgx: a float that is passed for an integer column is cut to a whole number, and NaN becomes a number.
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
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// sent tells what a query sends for a parameter of type int8.
func sent(value any) string {
	b, err := pgtype.NewMap().Encode(pgtype.Int8OID, pgtype.BinaryFormatCode, value, nil)
	if err != nil {
		return "an error"
	}
	return fmt.Sprint(int64(binary.BigEndian.Uint64(b)))
}

func main() {
	var n int64
	var f [8]byte
	binary.BigEndian.PutUint64(f[:], math.Float64bits(1.9))
	scan := pgtype.NewMap().Scan(pgtype.Float8OID, pgtype.BinaryFormatCode, f[:], &n)
	seen := fmt.Sprint(sent(1.9), " ", sent(-1.9), " ", sent(float32(2.7)), " ", sent(1e20))
	nan := sent(math.NaN()) // what it is depends on the processor
	fmt.Printf("seen:     1.9, -1.9, 2.7 and 1e20 are sent as %s; NaN as %s; Scan of 1.9: %v\n", seen, nan, scan)
	if seen != "1 -1 2 an error" || strings.HasPrefix(nan, "an") || scan == nil {
		fmt.Println("CHANGED: not 1, -1, 2 and an error, with a number for NaN; or Scan takes 1.9")
		os.Exit(1)
	}
}
EOT
version=v5.13.0
{ go mod init finding && go get "github.com/jackc/pgx/v5/pgtype@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/jackc/pgx/v5 $version, $(go env GOVERSION)"
echo "expected: an error, as for 1e20, and as Scan refuses 1.9 for an int (cannot losslessly convert); lib/pq passes 1.9 on, and PostgreSQL refuses it (22P02)"
GOFLAGS=-mod=mod go run .
echo "as stated: the fraction of an amount is dropped on its way into the database, and NaN is stored as a number"
