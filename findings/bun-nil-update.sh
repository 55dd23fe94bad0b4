#!/usr/bin/env bash
# bun: a nil pointer in an UPDATE sets the column to its default, not to NULL.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'EOT'
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
)

type account struct {
	bun.BaseModel `bun:"table:account"`
	ID            int64 `bun:",pk"`
	Active        *bool
	Checked       sql.NullBool
}

// none is a database that nobody reaches: the query is only made, not sent.
type none struct{}

func (none) Connect(context.Context) (driver.Conn, error) { return nil, errors.New("none") }
func (none) Driver() driver.Driver                        { return nil }

func main() {
	db := bun.NewDB(sql.OpenDB(none{}), pgdialect.New())
	seen := db.NewUpdate().Model(&account{ID: 1}).WherePK().String()
	fmt.Println("seen:     " + seen)
	if seen != `UPDATE "account" AS "account" SET "active" = DEFAULT, "checked" = NULL WHERE ("account"."id" = 1)` {
		fmt.Println("CHANGED: not DEFAULT and NULL")
		os.Exit(1)
	}
}
EOT
version=v1.3.0
{ go mod init finding && go get "github.com/uptrace/bun@$version" "github.com/uptrace/bun/dialect/pgdialect@$version"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  github.com/uptrace/bun $version, dialect of PostgreSQL, $(go env GOVERSION)"
echo "expected: NULL for both: the guide of bun represents NULL by a nil pointer or by sql.Null types, and the model names no default"
GOFLAGS=-mod=mod go run .
echo "as stated: a value that is taken away comes back as what the table has for new rows: DEFAULT in an UPDATE is the default of the column"
