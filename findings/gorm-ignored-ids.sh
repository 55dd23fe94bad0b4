#!/usr/bin/env bash
# GORM, bun: an insert with ON CONFLICT DO NOTHING gives the elements that were passed over the ids of others.
set -euo pipefail
dir=$(mktemp -d)
server=
trap 'if [ -n "$server" ]; then kill "$server"; fi; rm -rf "$dir"' EXIT
cd "$dir"
cat >server.mjs <<'EOT'
import { renameSync, writeFileSync } from 'node:fs'
import { PGlite } from '@electric-sql/pglite'
import { PGLiteSocketServer } from '@electric-sql/pglite-socket'

const server = new PGLiteSocketServer({ db: await PGlite.create(), host: '127.0.0.1', port: 0, maxConnections: 2 })
await server.start()
writeFileSync('port.new', server.getServerConn().split(':').pop())
renameSync('port.new', 'port')
EOT
cat >main.go <<'EOT'
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
)

type Tag struct {
	ID   int `bun:",pk,autoincrement"`
	Name string
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func main() {
	db, err := gorm.Open(postgres.Open("host=127.0.0.1 user=postgres dbname=postgres sslmode=disable port="+os.Args[1]), &gorm.Config{})
	check(err)
	check(db.Exec("CREATE TABLE tags (id serial PRIMARY KEY, name text UNIQUE)").Error)
	conn, err := db.DB()
	check(err)
	tags := func() *[]Tag {
		check(db.Exec("TRUNCATE tags RESTART IDENTITY").Error)
		check(db.Exec("INSERT INTO tags (name) VALUES ('old')").Error)
		return &[]Tag{{Name: "old"}, {Name: "new"}}
	}
	ofGORM := tags()
	check(db.Clauses(clause.OnConflict{DoNothing: true}).Create(ofGORM).Error)
	ofBun := tags()
	_, err = bun.NewDB(conn, pgdialect.New()).NewInsert().Model(ofBun).On("CONFLICT DO NOTHING").Exec(context.Background())
	check(err)
	var stored []Tag
	check(db.Order("id").Find(&stored).Error)
	seen := fmt.Sprint(stored, " ", *ofGORM, " ", *ofBun)
	fmt.Printf("seen:     stored: %v; GORM's slice: %v; bun's: %v\n", stored, *ofGORM, *ofBun)
	if seen != "[{1 old} {3 new}] [{3 old} {0 new}] [{3 old}]" {
		fmt.Println("CHANGED: not the id of new for old")
		os.Exit(1)
	}
}
EOT
gorm=v1.31.2
driver=v1.6.3
bun=v1.3.0
pglite=0.5.14
socket=0.2.17
{
	go mod init finding && go get "gorm.io/gorm@$gorm" "gorm.io/driver/postgres@$driver" "github.com/uptrace/bun@$bun" "github.com/uptrace/bun/dialect/pgdialect@$bun"
	npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$pglite" "@electric-sql/pglite-socket@$socket"
} >setup.log 2>&1 || { cat setup.log; exit 2; }
node server.mjs &
server=$!
for _ in $(seq 300); do
	if [ -e port ]; then break; fi
	sleep 0.1
done
echo "version:  gorm.io/gorm $gorm, gorm.io/driver/postgres $driver, github.com/uptrace/bun $bun, $(go env GOVERSION); the server is @electric-sql/pglite $pglite behind its socket server $socket"
echo "expected: new with its id, and old with its own or none: PostgreSQL returns rows for what was inserted only, so they cannot be counted off"
GOFLAGS=-mod=mod go run . "$(cat port)"
echo "as stated: what is then stored with old's id as its foreign key belongs to new; bun's slice has lost an element, too"
