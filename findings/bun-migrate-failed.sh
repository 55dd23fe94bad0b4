#!/usr/bin/env bash
# bun: a migration that failed counts as applied, and the next Migrate passes over it.
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
	"database/sql"
	"errors"
	"fmt"
	"os"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/migrate"
)

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

// run calls Migrate twice, and tells what came of it. The first attempt fails, as when the connection is lost.
func run(db *bun.DB, options ...migrate.MigratorOption) string {
	ctx := context.Background()
	attempts := 0
	migrations := migrate.NewMigrations()
	migrations.Add(migrate.Migration{Name: "20240101000000", Up: func(ctx context.Context, _ *migrate.Migrator, _ *migrate.Migration) error {
		if attempts++; attempts == 1 {
			return errors.New("the connection was lost")
		}
		_, err := db.ExecContext(ctx, "CREATE TABLE note (id int)")
		return err
	}})
	migrator := migrate.NewMigrator(db, migrations, options...)
	check(migrator.Reset(ctx))
	_, first := migrator.Migrate(ctx)
	_, second := migrator.Migrate(ctx)
	var table bool
	check(db.NewRaw("SELECT to_regclass('note') IS NOT NULL").Scan(ctx, &table))
	return fmt.Sprintf("an error first: %v, then: %v, attempts: %d, table: %v", first != nil, second, attempts, table)
}

func main() {
	conn, err := sql.Open("pgx", "host=127.0.0.1 user=postgres dbname=postgres sslmode=disable port="+os.Args[1])
	check(err)
	conn.SetMaxOpenConns(1)
	db := bun.NewDB(conn, pgdialect.New())
	plain, marked := run(db), run(db, migrate.WithMarkAppliedOnSuccess(true))
	fmt.Printf("seen:     %s\n          with WithMarkAppliedOnSuccess: %s\n", plain, marked)
	if plain != "an error first: true, then: <nil>, attempts: 1, table: false" || marked != "an error first: true, then: <nil>, attempts: 2, table: true" {
		fmt.Println("CHANGED: not passed over by default only")
		os.Exit(1)
	}
}
EOT
bun=v1.3.0
pgx=v5.13.0
pglite=0.5.14
socket=0.2.17
{
	go mod init finding && go get "github.com/uptrace/bun@$bun" "github.com/uptrace/bun/dialect/pgdialect@$bun" "github.com/jackc/pgx/v5@$pgx"
	npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$pglite" "@electric-sql/pglite-socket@$socket"
} >setup.log 2>&1 || { cat setup.log; exit 2; }
node server.mjs &
server=$!
for _ in $(seq 300); do
	if [ -e port ]; then break; fi
	sleep 0.1
done
echo "version:  github.com/uptrace/bun $bun, github.com/jackc/pgx/v5 $pgx, $(go env GOVERSION); the server is @electric-sql/pglite $pglite behind its socket server $socket"
echo "expected: the second Migrate runs it again, or refuses to go on: the first one gave an error"
GOFLAGS=-mod=mod go run . "$(cat port)"
echo "as stated: a deployment that is started again after a failure goes through, without the table; only WithMarkAppliedOnSuccess(true) prevents it"
