#!/usr/bin/env bash
# PGlite's node-postgres adapter: a query of the pool runs inside a transaction of PGlite itself, and is undone with it.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
version=0.5.17
pg=8.23.1
{ npm init --yes && npm install --no-audit --no-fund "@electric-sql/pglite@$version" "pg@$pg"; } >setup.log 2>&1 || { cat setup.log; exit 2; }
cat >main.mjs <<'EOT'
import { PGlite } from '@electric-sql/pglite'
import { createPgConfig } from '@electric-sql/pglite/node-postgres'
import pg from 'pg'

const db = await PGlite.create()
await db.exec('CREATE TABLE item (id int)')
const pool = new pg.Pool(createPgConfig(db))
const answers = []
await db
  .transaction(async (tx) => {
    await tx.query('INSERT INTO item VALUES (1)')
    answers.push((await pool.query('INSERT INTO item VALUES (2)')).rowCount)
    throw new Error('changed my mind')
  })
  .catch(() => {})
const client = await pool.connect()
await client.query('BEGIN')
await client.query('INSERT INTO item VALUES (3)')
answers.push((await db.query('INSERT INTO item VALUES (4)')).affectedRows)
await client.query('ROLLBACK')
client.release()
const { rows } = await db.query('SELECT id FROM item')
await pool.end()
await db.close()
console.log(`seen:     rows inserted beside the two transactions: ${answers}; rows that are there: ${rows.length}`)
if (answers.join() !== '1,1' || rows.length !== 0) {
  console.log('CHANGED: not two inserts and no row')
  process.exitCode = 1
}
EOT
echo "version:  @electric-sql/pglite $version, pg $pg, Node $(node --version)"
echo "expected: rows 2 and 4: PGlite promises that no other query runs while a transaction does, and a pool with a connection of its own would be apart"
node main.mjs
echo "as stated: what succeeded in one part of a program is rolled back by another, for each side takes its own turn"
