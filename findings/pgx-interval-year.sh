#!/usr/bin/env bash
# pgx: an interval of a year that is scanned into a time.Duration has 360 days.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOT'
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

func main() {
	seen := ""
	for _, text := range []string{"1 year", "12 mons", "1 mon"} {
		var d time.Duration
		if err := pgtype.NewMap().Scan(pgtype.IntervalOID, pgtype.TextFormatCode, []byte(text), &d); err != nil {
			seen += text + ": error; "
			continue
		}
		seen += fmt.Sprintf("%s: %v; ", text, d)
	}
	fmt.Println("seen:     " + seen)
	if seen != "1 year: 8640h0m0s; 12 mons: 8640h0m0s; 1 mon: 720h0m0s; " {
		fmt.Println("CHANGED: not 8640h for a year")
		os.Exit(1)
	}
}
EOT
version=v5.13.0
{ go mod init finding && go get "github.com/jackc/pgx/v5/pgtype@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/jackc/pgx/v5 $version, $(go env GOVERSION)"
echo "expected: 8766h, as extract(epoch FROM interval) counts it (31557600 s), or an error, for months and years have no fixed length"
GOFLAGS=-mod=mod go run .
echo "as stated: twelve months of 30 days: a year is five days and six hours shorter than PostgreSQL itself says"
