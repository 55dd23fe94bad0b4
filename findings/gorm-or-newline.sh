#!/usr/bin/env bash
# GORM: an OR that stands on a line of its own gets no parentheses, so that the next Where binds to its right side only.
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

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

type note struct {
	ID       int
	Archived bool
}

// none is a database that nobody reaches: the query is only made, not sent.
type none struct{}

func (none) Connect(context.Context) (driver.Conn, error) { return nil, errors.New("none") }
func (none) Driver() driver.Driver                        { return nil }

func main() {
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: sql.OpenDB(none{})}), &gorm.Config{DryRun: true, DisableAutomaticPing: true, SkipDefaultTransaction: true})
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	made := func(either string) string {
		return db.Where(either).Where("archived").Delete(&note{}).Statement.SQL.String()
	}
	one, lines := made("id = 1 OR id = 2"), made("id = 1\nOR\nid = 2")
	fmt.Printf("seen:     %q in one line; %q in three\n", one, lines)
	if one != `DELETE FROM "notes" WHERE (id = 1 OR id = 2) AND archived` || lines != "DELETE FROM \"notes\" WHERE id = 1\nOR\nid = 2 AND archived" {
		fmt.Println("CHANGED: not parentheses for one line, and none for three")
		os.Exit(1)
	}
}
EOT
version=v1.31.2
driver=v1.6.3
{ go mod init finding && go get "gorm.io/gorm@$version" "gorm.io/driver/postgres@$driver"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
echo "version:  gorm.io/gorm $version, gorm.io/driver/postgres $driver, $(go env GOVERSION)"
echo "expected: parentheses in both: each Where is one condition, and GORM adds them for an OR that has spaces around it"
GOFLAGS=-mod=mod go run .
echo "as stated: a condition that a formatter broke into lines deletes a note that is not archived"
