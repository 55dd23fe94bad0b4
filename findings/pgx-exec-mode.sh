#!/usr/bin/env bash
# pgx: the same INSERT stores another time, another day and another text in the modes without a prepared statement.
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
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func main() {
	ctx := context.Background()
	var seen []string
	for _, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		conn, err := pgx.Connect(ctx, "host=127.0.0.1 user=postgres dbname=postgres sslmode=disable default_query_exec_mode="+mode+" port="+os.Args[1])
		check(err)
		_, err = conn.Exec(ctx, "SET TimeZone = 'UTC'")
		check(err)
		_, err = conn.Exec(ctx, "CREATE TEMP TABLE note (at timestamp, day date, text text)")
		check(err)
		at := time.Date(2024, 1, 2, 22, 4, 5, 0, time.FixedZone("", -5*3600))
		_, err = conn.Exec(ctx, "INSERT INTO note VALUES ($1, $2, $3)", at, at, []byte("kept"))
		check(err)
		var row string
		check(conn.QueryRow(ctx, "SELECT concat_ws(', ', at, day, text) FROM note").Scan(&row))
		_, err = conn.Exec(ctx, "DROP TABLE note")
		check(err)
		check(conn.Close(ctx))
		seen = append(seen, mode+": "+row)
	}
	fmt.Println("seen:     " + strings.Join(seen, "\n          "))
	if strings.Join(seen, "\n") != `cache_statement: 2024-01-02 22:04:05, 2024-01-02, kept
cache_describe: 2024-01-02 22:04:05, 2024-01-02, kept
describe_exec: 2024-01-02 22:04:05, 2024-01-02, kept
exec: 2024-01-03 03:04:05, 2024-01-03, \x6b657074
simple_protocol: 2024-01-03 03:04:05, 2024-01-03, \x6b657074` {
		fmt.Println("CHANGED: not another row in the last two modes only")
		os.Exit(1)
	}
}
EOT
version=v5.13.0
pglite=0.5.14
socket=0.2.17
{
	go mod init finding && go get "github.com/jackc/pgx/v5@$version"
	npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$pglite" "@electric-sql/pglite-socket@$socket"
} >setup.log 2>&1 || { cat setup.log; exit 2; }
node server.mjs &
server=$!
for _ in $(seq 300); do
	if [ -e port ]; then break; fi
	sleep 0.1
done
echo "version:  github.com/jackc/pgx/v5 $version, $(go env GOVERSION); the server is @electric-sql/pglite $pglite behind its socket server $socket"
echo "expected: the same row each time, or an error: exec and simple_protocol are what is set for a pooler in front of PostgreSQL"
GOFLAGS=-mod=mod go run . "$(cat port)"
echo "as stated: these modes guess a type from the Go value: rows stored before and after the change of one setting are hours or a day apart, and texts are hexadecimal"
