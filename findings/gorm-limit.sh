#!/usr/bin/env bash
# GORM, goqu: Limit, Order and Joins are left out of a DELETE or an UPDATE for PostgreSQL without a word.
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

	"github.com/doug-martin/goqu/v9"
	_ "github.com/doug-martin/goqu/v9/dialect/postgres"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

type Job struct {
	ID   int
	Done bool
}

// none is a database that nobody reaches: the queries are only made, not sent.
type none struct{}

func (none) Connect(context.Context) (driver.Conn, error) { return nil, errors.New("none") }
func (none) Driver() driver.Driver                        { return nil }

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func main() {
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: sql.OpenDB(none{})}), &gorm.Config{DryRun: true, DisableAutomaticPing: true, SkipDefaultTransaction: true})
	check(err)
	var seen []string
	for _, tx := range []*gorm.DB{
		db.Where("done").Order("id").Limit(10).Delete(&Job{}),
		db.Model(&Job{}).Where("NOT done").Order("id").Limit(1).Update("done", true),
		db.Joins("JOIN users ON users.id = jobs.id").Where("done").Delete(&Job{}),
	} {
		check(tx.Error)
		seen = append(seen, tx.Statement.SQL.String())
	}
	query, _, err := goqu.Dialect("postgres").Delete("jobs").Where(goqu.L("done")).Order(goqu.C("id").Asc()).Limit(10).ToSQL()
	check(err)
	seen = append(seen, query)
	fmt.Println("seen:     " + strings.Join(seen, "\n          "))
	if strings.Join(seen, "\n") != `DELETE FROM "jobs" WHERE done
UPDATE "jobs" SET "done"=$1 WHERE NOT done
DELETE FROM "jobs" WHERE done
DELETE FROM "jobs" WHERE done` {
		fmt.Println("CHANGED: not without limits, orders and joins")
		os.Exit(1)
	}
}
EOT
gorm=v1.31.2
driver=v1.6.3
goqu=v9.19.0
{ go mod init finding && go get "gorm.io/gorm@$gorm" "gorm.io/driver/postgres@$driver" "github.com/doug-martin/goqu/v9@$goqu"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  gorm.io/gorm $gorm, gorm.io/driver/postgres $driver, github.com/doug-martin/goqu/v9 $goqu, $(go env GOVERSION)"
echo "expected: a subquery that keeps the limit and the join, or an error: PostgreSQL has no DELETE with LIMIT; bun refuses to make one"
GOFLAGS=-mod=mod go run .
echo "as stated: a clean-up in small steps deletes everything in its first one, with the rows that the join would have spared; taking one job takes all"
