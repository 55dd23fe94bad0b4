#!/usr/bin/env bash
# GORM, bun: NOT IN of an empty list is NOT IN (NULL), which holds for no row.
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
	"strings"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

type Note struct {
	ID int
}

// none is a database that nobody reaches: the queries are only made, not sent.
type none struct{}

func (none) Connect(context.Context) (driver.Conn, error) { return nil, errors.New("none") }
func (none) Driver() driver.Driver                        { return nil }

func main() {
	conn := sql.OpenDB(none{})
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: conn}), &gorm.Config{DryRun: true, DisableAutomaticPing: true, SkipDefaultTransaction: true})
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	after := func(query string) string { return query[strings.Index(query, "WHERE "):] }
	made := func(tx *gorm.DB) string { return after(tx.Find(&[]Note{}).Statement.SQL.String()) }
	none := []int{}
	seen := []string{
		made(db.Where("id NOT IN ?", none)),
		made(db.Not(map[string]any{"id": none})),
		after(bun.NewDB(conn, pgdialect.New()).NewSelect().Model((*Note)(nil)).Where("id NOT IN (?)", bun.List(none)).String()),
	}
	fmt.Println("seen:     GORM: " + seen[0] + "; GORM's Not of a map: " + seen[1] + "; bun: " + seen[2])
	if strings.Join(seen, "\n") != "WHERE id NOT IN (NULL)\nWHERE \"notes\".\"id\" IS NOT NULL\nWHERE (id NOT IN (NULL))" {
		fmt.Println("CHANGED: not NULL, IS NOT NULL and NULL")
		os.Exit(1)
	}
}
EOT
gorm=v1.31.2
driver=v1.6.3
bun=v1.3.0
{ go mod init finding && go get "gorm.io/gorm@$gorm" "gorm.io/driver/postgres@$driver" "github.com/uptrace/bun@$bun" "github.com/uptrace/bun/dialect/pgdialect@$bun"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  gorm.io/gorm $gorm, gorm.io/driver/postgres $driver, github.com/uptrace/bun $bun, $(go env GOVERSION)"
echo "expected: what holds for every row, as GORM makes of the same list in a map, or an error; sqlx.In gives one"
GOFLAGS=-mod=mod go run .
echo "as stated: with nothing to leave out, no row is found: NULL is in order for IN only"
