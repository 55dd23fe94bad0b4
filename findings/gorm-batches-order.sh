#!/usr/bin/env bash
# GORM: FindInBatches with an Order of its own leaves out rows and gives others twice.
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
	"fmt"
	"os"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

type Job struct{ ID, Priority int }

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func main() {
	db, err := gorm.Open(postgres.Open("host=127.0.0.1 user=postgres dbname=postgres sslmode=disable port="+os.Args[1]), &gorm.Config{})
	check(err)
	check(db.Exec("CREATE TABLE jobs AS SELECT i AS id, 10 - i AS priority FROM generate_series(1, 6) i").Error)
	ids := func(query *gorm.DB) string {
		var batch []Job
		var ids []int
		err := query.FindInBatches(&batch, 2, func(*gorm.DB, int) error {
			for _, j := range batch {
				ids = append(ids, j.ID)
			}
			return nil
		}).Error
		return fmt.Sprint(ids, " ", err)
	}
	seen := ids(db) + "; " + ids(db.Order("priority"))
	fmt.Println("seen:     of six rows, and by priority: " + seen)
	if seen != "[1 2 3 4 5 6] <nil>; [6 5 6] <nil>" {
		fmt.Println("CHANGED: not all of them, and 6, 5, 6")
		os.Exit(1)
	}
}
EOT
gorm=v1.31.2
driver=v1.6.3
pglite=0.5.14
socket=0.2.17
{
	go mod init finding && go get "gorm.io/gorm@$gorm" "gorm.io/driver/postgres@$driver"
	npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$pglite" "@electric-sql/pglite-socket@$socket"
} >setup.log 2>&1 || { cat setup.log; exit 2; }
node server.mjs &
server=$!
for _ in $(seq 300); do
	if [ -e port ]; then break; fi
	sleep 0.1
done
echo "version:  gorm.io/gorm $gorm, gorm.io/driver/postgres $driver, $(go env GOVERSION); the server is @electric-sql/pglite $pglite behind its socket server $socket"
echo "expected: each row once, in the order that was asked for, or an error: the next batch begins after the primary key of the last row, in whatever order"
GOFLAGS=-mod=mod go run . "$(cat port)"
echo "as stated: a job over a table in batches does some rows twice and some never, and tells that all went well"
